"""What the confined child does with an uploaded Keras archive: check, load, convert, compare, answer.

The request is the archive's bytes; the argument `size_bytes` is how many. The answer's header is
`{"refused": sentence}`, or `signature`, `input_order`, `output_order`, `max_relative_error` and
`n_compared`, with the LiteRT flatbuffer as its payload.

Rules: nothing is written to a file; Keras sees the archive after its weights were checked; safe
mode is on and the compile configuration is dropped, neither of which is relied upon: the scanner
decided before what the configuration may hold, and this process has nothing to give away.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from maas_gateway.confinement.channel import Channel
from maas_gateway.inference.conversion.comparison import compare
from maas_gateway.inference.conversion.lowering import describe, lower
from maas_gateway.inference.conversion.refusal import NotConvertible, raise_if_out_of_memory, sentence
from maas_gateway.inference.conversion.weights import check_archive

if TYPE_CHECKING:
    import keras


def serve(channel: Channel) -> None:
    """Convert the archive that the channel brings."""
    try:
        header, plan = convert(_receive(channel), lambda step: channel.progress(step=step))
    except NotConvertible as refusal:
        channel.answer({"refused": str(refusal)})
        return
    channel.answer(header, plan)


def convert(archive: BinaryIO, tell: Callable[[str], None]) -> tuple[dict[str, object], bytes]:
    """Convert one archive.

    Args:
        archive: the whole `.keras` file, in memory; closed as soon as the model is loaded.
        tell: called with "checked", "loaded" and "converted".

    Returns:
        the answer's header, and the LiteRT flatbuffer.

    Raises:
        NotConvertible: it cannot be converted faithfully.
    """
    check_archive(archive)
    tell("checked")
    model = _load(archive)
    archive.close()
    tell("loaded")
    inputs, outputs = describe(model)
    plan = lower(model, inputs)
    tell("converted")
    agreement = compare(model, plan, inputs, outputs)
    return {
        "signature": {
            "inputs": [port.to_json() for port in inputs],
            "outputs": [port.to_json() for port in outputs],
        },
        "input_order": agreement.input_order,
        "output_order": agreement.output_order,
        "max_relative_error": agreement.max_relative_error,
        "n_compared": agreement.n_compared,
    }, plan


def _receive(channel: Channel) -> io.BytesIO:
    size_bytes = cast("int", channel.arguments["size_bytes"])
    archive = io.BytesIO()
    for piece in channel.request():
        archive.write(piece)
        if archive.tell() > size_bytes:
            break
    if archive.tell() != size_bytes:
        raise NotConvertible(f"the archive is not of the {size_bytes} bytes that were announced")
    return archive


def _load(archive: BinaryIO) -> "keras.Model":
    """Load a model from memory: the public loader takes a path only."""
    # imported where it runs: Keras and TensorFlow are loaded in the confined child only
    import keras
    from keras.src.saving import saving_lib

    archive.seek(0)
    try:
        model = saving_lib.load_model(archive, compile=False, safe_mode=True)
    except Exception as objection:
        raise_if_out_of_memory(objection)
        raise NotConvertible(f"Keras cannot load it: {sentence(str(objection))}") from objection
    if not isinstance(model, keras.Model):
        raise NotConvertible("the archive does not hold a model")
    return model
