"""A TensorFlow Lite graph, uploaded or as the confined child returned it: hostile until it passes.

Rules:
    * File identifier TFL3, schema version 3, and a FlatBuffer whose every offset holds (`flatbuffer`, `tflite_schema`).
    * Operators by builtin code from `tflite_operators`; no custom code, no custom options.
    * Every index (opcode, tensor, buffer, signature, metadata) is in range; buffer 0 is empty.
    * One subgraph is the model; others are called by IF and WHILE, without recursion (`tflite_calls`). CALL_ONCE is
      refused: all that it is for is to fill variables and tables, which outlive a request.
    * Each subgraph's tensors and data flow follow `tflite_subgraph`.
    * Bytes that belong to nothing, and are not zero, are noted; `tflite_rebuild` clears them.

What this does not decide: whether an operator's constants are sensible (an index in GATHER, an axis): kernels check
that themselves, and a fault in one stays in the process that runs the model.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from maas_gateway.scanning.flatbuffer import FlatBuffer, Span, Table
from maas_gateway.scanning.scanner import MAX_FINDINGS, Finding, Refusal, ScanReport, Source, clip, report_of
from maas_gateway.scanning.tflite_calls import call_faults, is_called
from maas_gateway.scanning.tflite_operators import CONTROL_FLOW, OPERATORS
from maas_gateway.scanning.tflite_schema import OPTIONS, TABLES
from maas_gateway.scanning.tflite_subgraph import Fault, Subgraph, TFLiteLimits, builtin_of

FORMAT: Final = "tflite"

_IDENTIFIER: Final = b"TFL3"
_IDENTIFIER_AT: Final = 4
_SCHEMA_VERSION: Final = 3
_MAX_OPCODE_VERSION: Final = 64
_MAX_OPCODES: Final = 1_024
_MAX_SUBGRAPHS: Final = 256
_STEP_BYTES: Final = 1024 * 1024


class TFLiteScanner:
    """Scans a TensorFlow Lite file.

    Protects against: an interpreter led outside the file, code beyond the builtin kernels, state kept between requests,
    uninitialised memory in answers, sizes set by a client. Not against: faults inside a builtin kernel.
    """

    def __init__(self, limits: TFLiteLimits | None = None) -> None:
        self._limits = limits or TFLiteLimits()

    def scan(self, source: Source) -> ScanReport:
        """Return what there is to say about `source` as a TensorFlow Lite graph."""
        if source.size_bytes > self._limits.max_bytes:
            return report_of(FORMAT, [Finding("too-large", "refuse", "byte 0", "the graph is larger than allowed.")])
        if source.read_at(_IDENTIFIER_AT, len(_IDENTIFIER)) != _IDENTIFIER:
            return report_of(FORMAT, [Finding("identifier", "refuse", "byte 4", "this is no TensorFlow Lite file.")])
        try:
            file = FlatBuffer(source, TABLES, OPTIONS)
            graph = _Graph(file, file.root("Model"), self._limits)
        except Refusal as refusal:
            return report_of(FORMAT, [refusal.finding])
        found = graph.findings() or list(_foreign_bytes(source, file))
        return replace(report_of(FORMAT, found), has_control_flow=graph.has_control_flow)


def foreign_spans(source: Source, file: FlatBuffer) -> Iterator[Span]:
    """Yield the spans of a file that belong to nothing and are not zero."""
    for span in file.unclaimed():
        for start in range(span.offset, span.offset + span.n_bytes, _STEP_BYTES):
            n_bytes = min(_STEP_BYTES, span.offset + span.n_bytes - start)
            if source.read_at(start, n_bytes).count(0) != n_bytes:
                yield span
                break


def _foreign_bytes(source: Source, file: FlatBuffer) -> Iterator[Finding]:
    spans = list(foreign_spans(source, file))
    if spans:
        n_bytes = sum(span.n_bytes for span in spans)
        message = f"{n_bytes} bytes belong to nothing in the model; they are cleared when it is taken in."
        yield Finding("unclaimed-bytes", "note", f"byte {spans[0].offset}", message)


class _Graph:
    """The rules on one parsed model."""

    def __init__(self, file: FlatBuffer, model: Table, limits: TFLiteLimits) -> None:
        self._file = file
        self._model = model
        self._limits = limits
        self._buffers = model.tables("buffers")
        self._codes = model.tables("operator_codes")
        self._subgraphs = [Subgraph(file, model, graph, limits) for graph in model.tables("subgraphs")]
        self.has_control_flow = any(builtin_of(code) in CONTROL_FLOW for code in self._codes)

    def findings(self) -> list[Finding]:
        """Return the findings, at most `MAX_FINDINGS`."""
        found: list[Finding] = []
        for rule, where, message in self._faults():
            found.append(Finding(rule, "refuse", where, message))
            if len(found) == MAX_FINDINGS:
                break
        return found

    def _faults(self) -> Iterator[Fault]:
        if self._model.integer("version") != _SCHEMA_VERSION:
            yield "version", "version", f"schema version {self._model.integer('version')} is not 3."
        if not self._subgraphs:
            yield "subgraphs", "subgraphs", "there is no subgraph."
            return
        if len(self._subgraphs) > _MAX_SUBGRAPHS:
            yield "subgraphs", "subgraphs", f"there are more than {_MAX_SUBGRAPHS} subgraphs."
            return
        n_tensors = sum(each.n_tensors for each in self._subgraphs)
        if n_tensors > self._limits.max_tensors or len(self._codes) > _MAX_OPCODES:
            where = self._subgraphs[0].graph.at
            yield "too-many-tensors", where, f"more than {self._limits.max_tensors} tensors or operators."
            return
        yield from self._buffer_faults()
        yield from self._code_faults()
        yield from self._reference_faults()
        for subgraph in self._subgraphs:
            yield from subgraph.faults()
        if sum(each.n_elements for each in self._subgraphs) > self._limits.max_total_elements:
            where = f"{self._subgraphs[0].graph.at}.tensors"
            yield "too-large", where, f"activations of more than {self._limits.max_total_elements}."
        yield from call_faults(self._subgraphs, self._codes)
        if not all(is_called(self._subgraphs, self._codes)):
            yield (
                "subgraphs",
                "subgraphs",
                "a subgraph is called by nothing; a file holds one model with one signature.",
            )

    def _buffer_faults(self) -> Iterator[Fault]:
        if not self._buffers or self._n_bytes(0):
            yield "buffers", "buffers[0]", "the first buffer must be there and empty."
        for buffer in self._buffers:
            if buffer.integer("offset") or buffer.integer("size"):
                yield "external-buffer", buffer.at, "a buffer's bytes must lie in its vector, not elsewhere."

    def _code_faults(self) -> Iterator[Fault]:
        """Every operator code must be listed, used or not."""
        for code in self._codes:
            number = builtin_of(code)
            custom = code.span("custom_code")
            if custom is not None and custom.n_bytes:
                name = self._file.bytes_at(Span(custom.offset, min(custom.n_bytes, 64)))
                yield "custom-operator", code.at, f"custom operator {clip(name)}: only builtin operators run."
            if number not in OPERATORS and number not in CONTROL_FLOW:
                yield "operator-not-allowed", code.at, f"builtin operator {number} is not on the list."
            if not 0 <= code.integer("version", 1) <= _MAX_OPCODE_VERSION:
                yield "operator-version", code.at, "the operator's version is impossible."

    def _reference_faults(self) -> Iterator[Fault]:
        """Check what names tensors and buffers from outside the graph."""
        for entry in self._model.tables("metadata"):
            if entry.integer("buffer") >= len(self._buffers):
                yield "index", f"{entry.at}.buffer", "there is no such buffer."
        if any(not 0 <= index < len(self._buffers) for index in self._model.numbers("metadata_buffer")):
            yield "index", "metadata_buffer", "there is no such buffer."
        for signature in self._model.tables("signature_defs"):
            if signature.integer("subgraph_index"):
                yield "index", f"{signature.at}.subgraph_index", "there is no such subgraph."
            for named in (*signature.tables("inputs"), *signature.tables("outputs")):
                if named.integer("tensor_index") >= self._subgraphs[0].n_tensors:
                    yield "index", f"{named.at}.tensor_index", "there is no such tensor."

    def _n_bytes(self, index: int) -> int:
        span = self._buffers[index].span("data")
        return span.n_bytes if span is not None else 0
