"""A TensorFlow SavedModel in an archive: its container, its objects, and every operator that it can run.

Rules:
    * The container is that of `saved_model_archive`; saved_model.pb is read by `tf_schema`, every field of it.
    * One MetaGraph, for the tag `serve`, with an object graph: what TensorFlow 2 saves. TensorFlow 1's have none, and
      loading one runs whatever the graph calls its saver.
    * No assets, no collections but the one that names the initialising node.
    * Operators (`tf_operators`, `tf_reach`): what the served signature reaches computes and reads variables and tables.
      What else can be called (other signatures, the initialising node, every function of the object graph) and what
      nothing calls may besides write them, as loading does. The saver's operators stand only where the saver is.
    * The signature that is served is `serving_default`, or the only one; its tensors are dense.

What it does not look at: the files of the variables. Only the confined child opens those.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Final

from maas_gateway.scanning.protobuf import Message, Wire
from maas_gateway.scanning.saved_model_archive import GRAPH, Part, walk_saved_model
from maas_gateway.scanning.scanner import MAX_FINDINGS, Refusal, ScanReport, Source, clip, report_of
from maas_gateway.scanning.tf_graph import GraphLimits, read_graph
from maas_gateway.scanning.tf_objects import Objects, read_objects
from maas_gateway.scanning.tf_operators import DORMANT, FROZEN_AWAY, OPERATORS, SAVER
from maas_gateway.scanning.tf_reach import Root, Walk
from maas_gateway.scanning.tf_schema import SCHEMA
from maas_gateway.scanning.tf_values import entries

FORMAT: Final = "savedmodel"

_MIB: Final = 1024 * 1024
_SERVED: Final = "serving_default"
_TAG: Final = "serve"
_NOT_SIGNATURES: Final = frozenset(("__saved_model_init_op", "__saved_model_train_op"))
_MAIN_OPERATIONS: Final = frozenset(("saved_model_main_op", "legacy_init_op"))
_CALLABLE: Final = OPERATORS | FROZEN_AWAY | DORMANT
_MAX_RECORDS: Final = 1_000_000
_SCHEMA_VERSION: Final = 1


class SavedModelScanner:
    """Scans archives of a SavedModel.

    Protects against: files, network, processes and Python reached from any function of the graph, whether it is called
    or not; answers that depend on earlier calls; archives, constants and calls that unfold to far more than the file;
    two readings of one file. Not against: faults of a kernel or of TensorFlow's readers, and a model that answers
    wrongly on purpose; loading it belongs into a confined child.
    """

    def __init__(self, *, max_bytes: int = 2048 * _MIB, limits: GraphLimits | None = None) -> None:
        self._max_bytes = max_bytes
        self._limits = limits or GraphLimits()

    def scan(self, source: Source) -> ScanReport:
        """Return what there is to say about `source` as a SavedModel."""
        try:
            return self._scan(source)
        except Refusal as refusal:
            return report_of(FORMAT, [refusal.finding])

    def _scan(self, source: Source) -> ScanReport:
        graph: Source | None = None
        for part in walk_saved_model(source, max_bytes=self._max_bytes):
            if part.name == GRAPH:
                graph = _graph_of(source, part)
            elif part.is_checked_by_reading:
                _exhaust(part.pieces)
        assert graph is not None
        return scan_graph(graph, self._limits)


def scan_graph(source: Source, limits: GraphLimits) -> ScanReport:
    """Return what there is to say about a saved_model.pb by itself.

    Raises:
        Refusal: it breaks a rule that ends the scan.
    """
    model = Wire(source, SCHEMA, max_records=_MAX_RECORDS).root("SavedModel")
    meta_graphs = list(model.messages("meta_graphs"))
    if model.integer("saved_model_schema_version") != _SCHEMA_VERSION or len(meta_graphs) != 1:
        raise Refusal(
            "meta-graphs", GRAPH, "it must hold one MetaGraph, in schema version 1: save it with TensorFlow 2."
        )
    meta_graph = meta_graphs[0]
    main_nodes = [Root(name, nodes) for name, nodes in _main_nodes(meta_graph)]
    _check_meta_graph(meta_graph)
    graph_message, objects_message = meta_graph.message("graph_def"), meta_graph.message("object_graph_def")
    if graph_message is None or objects_message is None:
        raise Refusal("no-objects", GRAPH, "it holds no object graph: save it with TensorFlow 2.")
    graph, objects = read_graph(graph_message, limits), read_objects(objects_message)
    for name in objects.functions:
        if name not in graph.functions:
            raise Refusal(
                "unknown-function", f"function {clip(name)}", "the object graph names it; the library lacks it."
            )
    roots = [*_signature_roots(meta_graph), *main_nodes]
    walk = Walk(graph)
    served = _served_root(roots, objects)
    findings = list(islice(walk.judge([served], OPERATORS | FROZEN_AWAY), MAX_FINDINGS))
    has_control_flow = walk.has_control_flow
    roots += [Root("object graph", (), (name,)) for name in objects.functions]
    rest = chain(
        walk.judge(roots, _CALLABLE),
        walk.judge([_saver_root(meta_graph)], _CALLABLE | SAVER),
        walk.judge_rest(_CALLABLE),
    )
    findings += islice(rest, MAX_FINDINGS - len(findings))
    return replace(report_of(FORMAT, findings), has_control_flow=has_control_flow)


def served_signature(names: Iterable[str]) -> str:
    """Return which of a SavedModel's signatures is served.

    Raises:
        Refusal: there is none, or several without one called `serving_default`.
    """
    known = sorted(set(names) - _NOT_SIGNATURES)
    if _SERVED in known:
        return _SERVED
    if len(known) == 1:
        return known[0]
    listed = ", ".join(clip(name) for name in known[:8]) or "none"
    raise Refusal("no-signature", GRAPH, f"it needs a signature called {_SERVED}, or only one; it has {listed}.")


def _check_meta_graph(message: Message) -> None:
    information = message.message("meta_info_def")
    if information is None or information.texts("tags") != (_TAG,):
        raise Refusal("tags", GRAPH, f"its MetaGraph must be for the tag {_TAG} and no other.")
    if information.has("any_info"):
        raise Refusal("foreign-message", information.at, "a message of a type of its own is not accepted.")
    if message.has("asset_file_def"):
        raise Refusal("assets", GRAPH, "a model with assets is not accepted: put the vocabulary into the graph.")


def _main_nodes(message: Message) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Yield the collections and the names of the nodes that they call the initialising ones.

    Raises:
        Refusal: there is another collection.
    """
    for name, collection in entries(message, "collection_def"):
        nodes = collection.message("node_list")
        if name not in _MAIN_OPERATIONS or nodes is None:
            raise Refusal("collection", f"collection {clip(name)}", "this collection is not accepted.")
        yield f"collection {clip(name)}", nodes.texts("value")


def _signature_roots(message: Message) -> list[Root]:
    """Return a root for every SignatureDef; the served one is among them."""
    roots = []
    for name, signature in entries(message, "signature_def"):
        label = f"signature {clip(name)}"
        if signature.has("defaults"):
            raise Refusal("signature-defaults", label, "default values of inputs are not accepted.")
        tensors = []
        for field in ("inputs", "outputs"):
            for key, tensor in entries(signature, field):
                if tensor.has("coo_sparse", "composite_tensor") or not tensor.text("name"):
                    raise Refusal("signature-tensor", f"{label}: {clip(key)}", "it must be one dense tensor.")
                tensors.append(tensor.text("name"))
        roots.append(Root(label, tuple(tensors)))
    return roots


def _served_root(roots: Iterable[Root], objects: Objects) -> Root:
    """Return the root of what is served: what the graph calls so, and what the object graph calls so."""
    name = served_signature(objects.signatures)
    label = f"signature {clip(name)}"
    function = objects.signatures[name]
    if not function:
        raise Refusal("no-signature", label, "the object graph holds no function for it.")
    tensors = [tensor for root in roots if root.label == label for tensor in root.tensors]
    return Root(label, tuple(tensors), (function,))


def _saver_root(message: Message) -> Root:
    saver = message.message("saver_def")
    fields = ("filename_tensor_name", "save_tensor_name", "restore_op_name")
    return Root("saver", () if saver is None else tuple(saver.text(field) for field in fields))


@dataclass(frozen=True, slots=True)
class _Slice:
    """A part of a source that lies in it as it is."""

    source: Source
    offset: int
    size_bytes: int

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return `n_bytes` from `offset` on, fewer only at the end."""
        return self.source.read_at(self.offset + offset, max(min(n_bytes, self.size_bytes - offset), 0))


@dataclass(frozen=True, slots=True)
class _Unpacked:
    """A part of a source that was compressed."""

    content: bytes

    @property
    def size_bytes(self) -> int:
        """Return its length."""
        return len(self.content)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return `n_bytes` from `offset` on, fewer only at the end."""
        return self.content[offset : offset + n_bytes]


def _graph_of(source: Source, part: Part) -> Source:
    if part.offset is None:
        return _Unpacked(b"".join(part.pieces))
    if part.is_checked_by_reading:
        _exhaust(part.pieces)
    return _Slice(source, part.offset, part.size_bytes)


def _exhaust(pieces: Iterable[bytes]) -> None:
    for _piece in pieces:
        pass
