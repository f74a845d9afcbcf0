"""What a client raises."""


class GatewayRefused(Exception):
    """The gateway refused, or did not answer.

    Attributes:
        status: the HTTP status, or 0 where there was no answer.
        detail: the gateway's own sentence.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
