"""What a client raises: one class for each thing that its caller can do about it.

    GatewayRefused
      NoAnswer          the gateway could not be reached, or broke off
      NotAccepted       400, 413, 422: what was sent; change it
      NotSignedIn       401: the credential
      NotPermitted      403
      NotThere          404: it does not exist, or not for this caller
      InConflict        409
      LimitReached      429: wait for `retry_after_s`, or ask for a larger limit
      NotReady          503, 504: wait for `retry_after_s`, and try again

Source: RFC 9110 section 15; RFC 9457 and the prediction protocols' `{"error": …}` for the sentence.
"""

from collections.abc import Mapping


class GatewayRefused(Exception):
    """The gateway refused, or did not answer.

    Attributes:
        status: the HTTP status, or 0 where there was no answer.
        detail: the gateway's own sentence.
        retry_after_s: seconds after which it may be tried again, if the gateway said so.
        request_id: by what the gateway's operator finds it, if it was answered.
    """

    def __init__(
        self, status: int, detail: str, *, retry_after_s: float | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class NoAnswer(GatewayRefused):
    """The gateway could not be reached, or broke off."""


class NotAccepted(GatewayRefused):
    """What was sent is wrong, too large or unsafe."""


class NotSignedIn(GatewayRefused):
    """There is no credential, or none that counts."""


class NotPermitted(GatewayRefused):
    """The caller may know of it and may not do this."""


class NotThere(GatewayRefused):
    """It does not exist, or not for this caller."""


class InConflict(GatewayRefused):
    """Something else is there already, or in the way."""


class LimitReached(GatewayRefused):
    """A limit of this caller is reached."""


class NotReady(GatewayRefused):
    """The gateway or the model cannot answer now."""


_BY_STATUS: Mapping[int, type[GatewayRefused]] = {
    400: NotAccepted,
    401: NotSignedIn,
    403: NotPermitted,
    404: NotThere,
    409: InConflict,
    413: NotAccepted,
    422: NotAccepted,
    429: LimitReached,
    501: NotAccepted,
    503: NotReady,
    504: NotReady,
}


def refusal(status: int, body: Mapping[str, object], headers: Mapping[str, str], *, reason: str) -> GatewayRefused:
    """Return what to raise for an answer that is an error.

    Args:
        status: its HTTP status.
        body: its JSON, empty if it has none.
        headers: its header fields, found whatever their case.
        reason: the status in words, where the body has no sentence.
    """
    detail = body.get("detail") or body.get("error_description") or body.get("error") or reason
    after = headers.get("retry-after", "")
    kind = _BY_STATUS.get(status, GatewayRefused)
    return kind(
        status,
        str(detail),
        retry_after_s=float(after) if after.isdigit() else None,
        request_id=headers.get("x-request-id"),
    )
