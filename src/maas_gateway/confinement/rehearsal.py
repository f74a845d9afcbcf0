"""Work for a confined child that is none: once it is done, the child has said which measures are in force."""

from maas_gateway.confinement.channel import Channel


def serve(channel: Channel) -> None:
    """Answer nothing."""
    channel.answer({})
