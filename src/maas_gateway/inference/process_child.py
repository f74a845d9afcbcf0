"""What a confined process does with one model: load it, compute once, then answer calls until the gateway has gone.

The request is the plan's bytes. Its arguments: `runtime` (a name of `confined`), `signature`, `input_order`,
`output_order`, `n_threads` and `size_bytes`, how many bytes the plan has. A call's header and bytes, and an answer's, are
those of `parcels`; `{"refused": sentence}` in an answer's header says that there are no outputs, and why.

Rules: the engine is imported here and nowhere else in the gateway; what does not fit the signature is not sent; the end
of memory ends the process, because nobody knows what an engine has left half done then.
"""

from typing import cast

from maas_gateway.confinement.channel import Channel
from maas_gateway.errors import GatewayError
from maas_gateway.inference.confined import content_loader
from maas_gateway.inference.parcels import ParcelRejected, pack, unpack
from maas_gateway.inference.runtimes.runtime import Runtime, warm
from maas_gateway.tensors.signature import ModelSignature

_CANNOT = "the model cannot compute this input"


def serve(channel: Channel) -> None:
    """Load what the channel brings, and answer its calls."""
    try:
        runtime = _load(channel)
        warm(runtime)
    except GatewayError as refusal:
        channel.answer({"refused": refusal.detail})
        return
    channel.answer({})
    for header, payload in channel.calls():
        _answer(channel, runtime, header, payload)


def _load(channel: Channel) -> Runtime:
    arguments = channel.arguments
    size_bytes = cast("int", arguments["size_bytes"])
    content = bytearray(size_bytes)
    end = 0
    for piece in channel.request():
        content[end : end + len(piece)] = piece
        end += len(piece)
    if end != size_bytes or len(content) != size_bytes:
        raise ParcelRejected("the plan is not of the size that was announced")
    return content_loader(str(arguments["runtime"]))(
        bytes(content),
        signature=ModelSignature.from_json(cast("dict[str, object]", arguments["signature"])),
        input_order=tuple(cast("list[int]", arguments["input_order"])),
        output_order=tuple(cast("list[int]", arguments["output_order"])),
        n_threads=cast("int", arguments["n_threads"]),
    )


def _answer(channel: Channel, runtime: Runtime, header: dict[str, object], payload: bytearray) -> None:
    signature = runtime.signature
    inputs = unpack(header, payload, signature.inputs)
    try:
        described, parts = pack(runtime.run(inputs), signature.outputs)
    except GatewayError as refusal:
        channel.answer({"refused": refusal.detail})
    except ParcelRejected:
        channel.answer({"refused": _CANNOT})
    else:
        channel.answer(described, parts)
