"""What the confined child does with an uploaded Keras archive: check, load, flatten, rebuild, compare, lower, answer.

The request is the publisher's sample, if there is one, and the archive's bytes; `receiving` says how many. The answer is what `answer` says.

Rules: nothing is written to a file; Keras sees the archive after its weights were checked; safe mode is on and the
compile configuration is dropped, neither of which is relied upon: the scanner decided before what the configuration may
hold, and this process has nothing to give away. The model is rebuilt from what was flattened, and answers as the
uploaded one does, or it is refused. LiteRT is one more way to serve it: a model that its converter does not take, or
changes, is served as the rebuilt model only, and a note says why.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from maas_gateway.confinement.channel import Channel
from maas_gateway.errors import ArtifactRefused, InvalidRequest
from maas_gateway.inference.conversion.answer import REBUILT_TOLERANCE, TOLERANCE
from maas_gateway.inference.conversion.comparison import (
    Engine,
    Reference,
    compare,
    engine_of,
    observed,
    references_of,
    sampled,
    took_us,
)
from maas_gateway.inference.conversion.flatbuffer import Flatbuffer
from maas_gateway.inference.conversion.loading import load
from maas_gateway.inference.conversion.lowering import Port, describe, lower, trace
from maas_gateway.inference.conversion.rebuilt import FlatModel, flatten, rebuild_flat
from maas_gateway.inference.conversion.receiving import receive
from maas_gateway.inference.conversion.refusal import NotConvertible
from maas_gateway.inference.conversion.samples import Array
from maas_gateway.inference.conversion.weights import check_archive
from maas_gateway.inference.runtimes.keras import KerasRuntime
from maas_gateway.tensors.signature import ModelSignature

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of an archive.

    Attributes:
        header: of the answer.
        flat: the rebuilt model.
        flatbuffer: the LiteRT plan; None for none.
    """

    header: dict[str, object]
    flat: FlatModel
    flatbuffer: bytes | None

    def pieces(self) -> Iterator[bytes]:
        """Yield the plans' contents one after another, in the header's order."""
        yield from self.flat.pieces()
        if self.flatbuffer is not None:
            yield self.flatbuffer


def serve(channel: Channel) -> None:
    """Convert the archive that the channel brings."""
    try:
        model, sample = receive(channel)
        archive = io.BytesIO(model)
        del model  # the archive's memory goes when it is closed
        converted = convert(archive, lambda step: channel.progress(step=step), sample)
    except NotConvertible as refusal:
        channel.answer({"refused": str(refusal)})
        return
    channel.answer(converted.header, converted.pieces())


def convert(archive: BinaryIO, tell: Callable[[str], None], sample: bytes = b"") -> Converted:
    """Convert one archive.

    Args:
        archive: the whole `.keras` file, in memory; closed as soon as the model is loaded.
        tell: called with "checked", "loaded", "rebuilt" and "converted".
        sample: the publisher's, see `sample`; empty for none.

    Raises:
        NotConvertible: it cannot be served faithfully.
    """
    check_archive(archive)
    tell("checked")
    model = load(archive)
    archive.close()
    tell("loaded")
    inputs, outputs = describe(model)
    references = references_of(model, inputs)
    own, notes = sampled(engine_of(model), sample, inputs)
    references += own
    outputs = observed(outputs, references)
    flat = flatten(model)
    signature: dict[str, object] = {
        "inputs": [port.to_json() for port in inputs],
        "outputs": [port.to_json() for port in outputs],
    }
    served = _served(rebuild_flat(flat), signature)
    error, n_compared = compare(served, references, outputs, tolerance=REBUILT_TOLERANCE)
    tell("rebuilt")
    plan = _plan("keras", flat.layout.size_bytes, range(len(inputs)), range(len(outputs)))
    plan |= {"max_relative_error": error, "tolerance": REBUILT_TOLERANCE, "took_us": took_us(served, references)}
    del served
    plans, flatbuffer = [plan], None
    try:
        flatbuffer = lower(trace(model, inputs), model)
        plans.append(_compared(flatbuffer, references, len(inputs), outputs))
    except NotConvertible as objection:
        flatbuffer = None
        notes.append(f"There is no LiteRT plan, and the model is served by Keras: {objection}")
    tell("converted")
    header = {"signature": signature, "plans": plans, "n_compared": n_compared, "notes": notes}
    return Converted(header, flat, flatbuffer)


def _compared(
    content: bytes, references: Sequence[Reference], n_inputs: int, outputs: Sequence[Port]
) -> dict[str, object]:
    """Return the LiteRT plan, if it answers as the model does."""
    flatbuffer = Flatbuffer(content, n_inputs=n_inputs, n_outputs=len(outputs))
    error, _ = compare(flatbuffer.run, references, outputs, tolerance=TOLERANCE)
    return {
        **_plan("litert", len(content), flatbuffer.input_order, flatbuffer.output_order),
        "max_relative_error": error,
        "tolerance": TOLERANCE,
        "took_us": took_us(flatbuffer.run, references),
    }


def _plan(runtime: str, n_bytes: int, input_order: Iterable[int], output_order: Iterable[int]) -> dict[str, object]:
    return {
        "runtime": runtime,
        "n_bytes": n_bytes,
        "input_order": list(input_order),
        "output_order": list(output_order),
    }


def _served(model: "keras.Model", signature: dict[str, object]) -> Engine:
    """Return a rebuilt model as it will be served.

    Raises:
        NotConvertible: its runtime does not take it.
    """
    read = ModelSignature.from_json(signature)
    orders = tuple(range(len(read.inputs))), tuple(range(len(read.outputs)))
    try:
        runtime = KerasRuntime.of(model, signature=read, input_order=orders[0], output_order=orders[1])
    except ArtifactRefused as refusal:
        raise NotConvertible(refusal.detail) from refusal

    def run(arrays: Sequence[Array]) -> list[Array]:
        try:
            return list(runtime.run(tuple(arrays)))
        except InvalidRequest as fault:
            raise ValueError(fault.detail) from fault

    return run
