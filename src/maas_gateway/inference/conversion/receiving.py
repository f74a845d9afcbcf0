"""How a confined child takes a whole model from its channel into memory."""

from typing import cast

from maas_gateway.confinement.channel import Channel
from maas_gateway.inference.conversion.refusal import NotConvertible


def receive(channel: Channel) -> bytes:
    """Return the request's bytes, which are as many as the argument `size_bytes` says.

    Raises:
        NotConvertible: they are more or fewer.
    """
    size_bytes = cast("int", channel.arguments["size_bytes"])
    model = bytearray()
    for piece in channel.request():
        model += piece
        if len(model) > size_bytes:
            break
    if len(model) != size_bytes:
        raise NotConvertible(f"the model is not of the {size_bytes} bytes that were announced")
    return bytes(model)
