"""How a confined child takes a whole model from its channel into memory, and the publisher's sample before it."""

from typing import NamedTuple, cast

from maas_gateway.confinement.channel import Channel
from maas_gateway.inference.conversion.refusal import NotConvertible


class Received(NamedTuple):
    """What was sent.

    Attributes:
        model: its bytes.
        sample: the publisher's, empty for none.
    """

    model: bytes
    sample: bytes


def receive(channel: Channel) -> Received:
    """Return the request: as many bytes of a sample as the argument `sample_bytes` says, then `size_bytes` of a model.

    Raises:
        NotConvertible: they are more or fewer.
    """
    sample_bytes = cast("int", channel.arguments["sample_bytes"])
    size_bytes = cast("int", channel.arguments["size_bytes"])
    sample, model = bytearray(), bytearray()
    for piece in channel.request():
        n_bytes = min(len(piece), sample_bytes - len(sample))
        sample += piece[:n_bytes]
        model += piece[n_bytes:]
        if len(model) > size_bytes:
            break
    if len(model) != size_bytes:
        raise NotConvertible(f"the model is not of the {size_bytes} bytes that were announced")
    return Received(bytes(model), bytes(sample))
