"""What the confined child does with an uploaded SavedModel: unpack, load, freeze, compare, lower, answer.

The request is the publisher's sample, if there is one, and the archive's bytes; `receiving` says how many. The answer is what `answer` says.

Rules: nothing is written to a file: the archive is unpacked, by the reader that scanned it, into TensorFlow's file system
in memory (`ram://`), which is empty again before anything is computed. One signature is served, of dense tensors whose
first dimension is the batch and is free. What is served is its frozen graph, which answers as the loaded model does,
or the model is refused. LiteRT is one more way: a graph that its converter does not take, or changes, is served by
TensorFlow only, and a note says why.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from maas_gateway.confinement.channel import Channel
from maas_gateway.errors import ArtifactRefused
from maas_gateway.inference.conversion.answer import REBUILT_TOLERANCE, TOLERANCE
from maas_gateway.inference.conversion.comparison import Engine, Reference, compare, sampled, took_us
from maas_gateway.inference.conversion.flatbuffer import Flatbuffer
from maas_gateway.inference.conversion.freezing import freeze
from maas_gateway.inference.conversion.lowering import FREE, Port, lower
from maas_gateway.inference.conversion.receiving import receive
from maas_gateway.inference.conversion.refusal import NotConvertible, raise_if_out_of_memory, sentence
from maas_gateway.inference.conversion.samples import Array
from maas_gateway.inference.conversion.signature_samples import SignatureSamples, signature_references
from maas_gateway.inference.runtimes.tensorflow import import_graph
from maas_gateway.scanning.frozen_graph import FrozenGraphScanner
from maas_gateway.scanning.saved_model import served_signature
from maas_gateway.scanning.saved_model_archive import IGNORED, walk_saved_model
from maas_gateway.scanning.scanner import Refusal
from maas_gateway.tensors.datatypes import Datatype, datatype_of

if TYPE_CHECKING:
    from tensorflow.types.experimental import ConcreteFunction

_FOLDER: Final = "ram://model"
_TAG: Final = "serve"
_MAX_BYTES: Final = 1 << 34  # the address space ends before


class Upload:
    """The archive, in memory; a `Source` of the scanners."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size_bytes(self) -> int:
        """Return its length."""
        return len(self._content)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return `n_bytes` from `offset` on, fewer only at the end."""
        return self._content[offset : offset + n_bytes]

    def drop(self) -> None:
        """Give its memory back."""
        self._content = b""


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of an archive.

    Attributes:
        header: of the answer.
        contents: of the plans, in the header's order.
    """

    header: dict[str, object]
    contents: tuple[bytes, ...]

    def pieces(self) -> Iterator[bytes]:
        """Yield the plans' contents one after another."""
        yield from self.contents


def serve(channel: Channel) -> None:
    """Convert the archive that the channel brings."""
    try:
        model, sample = receive(channel)
        upload = Upload(model)
        del model
        converted = convert(upload, lambda step: channel.progress(step=step), sample)
    except NotConvertible as refusal:
        channel.answer({"refused": str(refusal)})
        return
    channel.answer(converted.header, converted.pieces())


def convert(upload: Upload, tell: Callable[[str], None], sample: bytes = b"") -> Converted:
    """Convert one archive.

    Args:
        upload: the whole archive; dropped as soon as the model is loaded.
        tell: called with "unpacked", "loaded", "rebuilt" and "converted".
        sample: the publisher's, see `sample`; empty for none.

    Raises:
        NotConvertible: it cannot be served faithfully.
    """
    froze = _freeze(upload, tell, sample)
    frozen, inputs, outputs, references = froze.content, froze.inputs, froze.outputs, froze.references
    graph = _checked_graph(frozen, len(inputs), len(outputs))
    error, n_compared = compare(_graph_engine(graph), references, outputs, tolerance=REBUILT_TOLERANCE)
    tell("rebuilt")
    plans = [
        {
            "runtime": "tensorflow",
            "n_bytes": len(frozen),
            "input_order": list(range(len(inputs))),
            "output_order": list(range(len(outputs))),
            "max_relative_error": error,
            "tolerance": REBUILT_TOLERANCE,
            "took_us": took_us(_graph_engine(graph), references),
        }
    ]
    contents: tuple[bytes, ...] = (frozen,)
    notes = froze.notes
    try:
        flatbuffer, plan = _lowered(graph, references, inputs, outputs)
        contents, plans = (flatbuffer, frozen), [plan, *plans]
    except NotConvertible as objection:
        notes.append(f"litert: {objection}")
    tell("converted")
    signature = {
        "inputs": [port.to_json() for port in inputs],
        "outputs": [_observed(port, place, references).to_json() for place, port in enumerate(outputs)],
    }
    return Converted({"signature": signature, "plans": plans, "n_compared": n_compared, "notes": notes}, contents)


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A model's frozen graph, what it takes and gives, what the model answered, and what there is to note."""

    content: bytes
    inputs: list[Port]
    outputs: list[Port]
    references: list[Reference]
    notes: list[str]


def _freeze(upload: Upload, tell: Callable[[str], None], sample: bytes) -> _Frozen:
    """Freeze a model; the model itself goes here."""
    model = _load(upload, tell)
    function = _served(model)
    inputs, outputs = _inputs_of(function), _outputs_of(function)
    engine = _signature_engine(function, inputs, outputs)
    references = signature_references(engine, SignatureSamples(inputs), outputs)
    own, notes = sampled(engine, sample, inputs)
    frozen = freeze(function, [port.name for port in inputs], [port.name for port in outputs])
    return _Frozen(frozen, inputs, outputs, [*references, *own], notes)


def _load(upload: Upload, tell: Callable[[str], None]) -> Any:
    """Load the model from memory: the public loader takes a folder, so it gets one that is on no disk."""
    # imported where it runs: TensorFlow is loaded in the confined child only
    import tensorflow as tf

    files = tf.io.gfile
    try:
        for part in walk_saved_model(upload, max_bytes=_MAX_BYTES):
            if part.name not in IGNORED:
                files.makedirs(f"{_FOLDER}/{part.name}".rpartition("/")[0])
                with files.GFile(f"{_FOLDER}/{part.name}", "wb") as file:
                    for piece in part.pieces:
                        file.write(piece)
        upload.drop()
        tell("unpacked")
        model = tf.saved_model.load(_FOLDER, tags=[_TAG])
    except Refusal as refusal:
        raise NotConvertible(str(refusal)) from refusal
    except Exception as objection:
        raise_if_out_of_memory(objection)
        raise NotConvertible(f"TensorFlow cannot load it: {sentence(str(objection))}") from objection
    finally:
        if files.exists(_FOLDER):
            files.rmtree(_FOLDER)
    tell("loaded")
    return model


def _served(model: Any) -> "ConcreteFunction":
    try:
        return model.signatures[served_signature(model.signatures)]
    except Refusal as refusal:
        raise NotConvertible(str(refusal)) from refusal


def _inputs_of(function: "ConcreteFunction") -> list[Port]:
    """Return the inputs by name: the order in which a map was written says nothing."""
    positional, named = function.structured_input_signature
    if positional or not named:
        raise NotConvertible("its signature takes nothing")
    ports = [_port(name, specification) for name, specification in sorted(named.items())]
    for port in ports:
        if port.shape[:1] != (FREE,):
            raise NotConvertible(
                f"input '{port.name}' fixes its batch size, which must be left open: export the model with "
                f"tf.TensorSpec([None, …])"
            )
    return ports


def _outputs_of(function: "ConcreteFunction") -> list[Port]:
    given = function.structured_outputs
    if not isinstance(given, Mapping) or not given:
        raise NotConvertible("its signature gives nothing")
    return [_port(name, specification, is_output=True) for name, specification in sorted(given.items())]


def _port(name: str, specification: Any, *, is_output: bool = False) -> Port:
    # imported where it runs: TensorFlow is loaded in the confined child only
    import tensorflow as tf

    if not isinstance(specification, tf.TensorSpec):
        raise NotConvertible(f"tensor '{name}' is not dense")
    try:
        datatype = datatype_of(specification.dtype.as_numpy_dtype)
    except KeyError:
        raise NotConvertible(f"tensor '{name}' is of a kind that is not served: {specification.dtype.name}") from None
    if specification.shape.rank is None and not is_output:
        raise NotConvertible(f"input '{name}' does not declare how many dimensions it has")
    shape = () if specification.shape.rank is None else specification.shape
    return Port(name, datatype.value, specification.dtype.name, tuple(FREE if n is None else int(n) for n in shape))


def _observed(port: Port, place: int, references: Sequence[Reference]) -> Port:
    """Return an output with the shape that it had: rows, and the dimensions that were declared or never varied."""
    shapes = [reference.outputs[place].shape for reference in references]
    if any(len(shape) != len(shapes[0]) for shape in shapes):
        raise NotConvertible(f"output '{port.name}' has now more dimensions and now fewer")
    declared = port.shape or (FREE,) * len(shapes[0])
    shape = [FREE if axis == 0 else size for axis, size in enumerate(declared)]
    return replace(port, shape=tuple(shape))


def _signature_engine(function: "ConcreteFunction", inputs: Sequence[Port], outputs: Sequence[Port]) -> Engine:
    """Return the loaded model as an engine, called by the names of its signature."""
    # imported where it runs: TensorFlow is loaded in the confined child only
    import tensorflow as tf

    def run(arrays: Sequence[Array]) -> list[Array]:
        given = {port.name: tf.constant(array) for port, array in zip(inputs, arrays, strict=True)}
        answers = function(**given)
        return [np.asarray(answers[port.name].numpy()) for port in outputs]

    return run


def _graph_engine(graph: "ConcreteFunction") -> Engine:
    """Return a frozen graph as an engine."""
    # imported where it runs: TensorFlow is loaded in the confined child only
    import tensorflow as tf

    def run(arrays: Sequence[Array]) -> list[Array]:
        try:
            return [np.asarray(answer.numpy()) for answer in graph(*(tf.constant(array) for array in arrays))]
        except tf.errors.OpError as fault:
            raise RuntimeError(str(fault)) from fault

    return run


def _checked_graph(frozen: bytes, n_inputs: int, n_outputs: int) -> "ConcreteFunction":
    """Return the frozen graph as the gateway's worker will run it, if the gateway's scanner will take it."""
    reason = FrozenGraphScanner().scan(Upload(frozen)).refuse_reason()
    if reason is not None:
        raise NotConvertible(f"its frozen graph is refused: {reason}")
    try:
        return import_graph(frozen, n_inputs=n_inputs, n_outputs=n_outputs)
    except ArtifactRefused as refusal:
        raise NotConvertible(f"its frozen graph cannot be loaded: {sentence(str(refusal.__cause__))}") from refusal


def _lowered(
    graph: "ConcreteFunction", references: Sequence[Reference], inputs: Sequence[Port], outputs: Sequence[Port]
) -> tuple[bytes, dict[str, object]]:
    """Return the LiteRT flatbuffer and its plan, if it answers as the model does."""
    if any(port.datatype == Datatype.BYTES for port in (*inputs, *outputs)):
        raise NotConvertible("LiteRT's plans take and give no texts")
    content = lower(graph, None)
    flatbuffer = Flatbuffer(content, n_inputs=len(inputs), n_outputs=len(outputs))
    error, _ = compare(flatbuffer.run, references, outputs, tolerance=TOLERANCE)
    return content, {
        "runtime": "litert",
        "n_bytes": len(content),
        "input_order": list(flatbuffer.input_order),
        "output_order": list(flatbuffer.output_order),
        "max_relative_error": error,
        "tolerance": TOLERANCE,
        "took_us": took_us(flatbuffer.run, references),
    }
