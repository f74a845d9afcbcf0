"""A rebuilt Keras model: flat tensors with the configuration beside them, as `inference.conversion.rebuilt` lays it out.

Rules:
    * The file is of the safetensors layout in its one strict reading (`tensors.safetensors`).
    * Its metadata is `config` and `keras`, nothing else; the configuration passes `keras_config` and has no
      `compile_config`; the version is of Keras 3.
    * At most `MAX_TENSORS` tensors, whose names are paths of letters, digits, `_`, `.` and `-`.

What it does not look at: the tensors' values, and whether they fit the configuration. Whoever rebuilds the model sets
every variable exactly once, or fails.
"""

import re
from typing import Final

from maas_gateway.scanning.keras_config import CONFIG, scan_config
from maas_gateway.scanning.keras_sizes import KerasLimits
from maas_gateway.scanning.scanner import Finding, ScanReport, Source, clip, report_of
from maas_gateway.scanning.strict_json import JSON, read_json
from maas_gateway.tensors.safetensors import PREFIX_BYTES, Layout, SafetensorsRejected, header_bytes, read_layout

FORMAT: Final = "keras-rebuilt"

MAX_TENSORS: Final = 100_000

_METADATA: Final = frozenset(["config", "keras"])
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}(?:/[A-Za-z0-9_.-]{1,128}){0,64}")
_VERSION: Final = re.compile(r"3\.[0-9]{1,4}\.[0-9]{1,4}[a-z0-9.]{0,16}")


class RebuiltKerasScanner:
    """Scans what a conversion calls a rebuilt Keras model.

    Protects against a converting process that was taken over by the upload it parsed: its answer is held against the
    same lists as the upload. Not against a model that answers wrongly on purpose.
    """

    def __init__(self, *, limits: KerasLimits | None = None) -> None:
        self._limits = limits

    def scan(self, source: Source) -> ScanReport:
        """Return what there is to say about `source` as a rebuilt Keras model."""
        try:
            layout = _layout(source)
        except SafetensorsRejected as rejected:
            return report_of(FORMAT, [Finding("rebuilt-layout", "refuse", "header", f"{rejected}.")])
        return report_of(FORMAT, [*_of_tensors(layout), *self._of_metadata(layout)])

    def _of_metadata(self, layout: Layout) -> list[Finding]:
        metadata = layout.metadata
        if metadata.keys() != _METADATA:
            return [Finding("rebuilt-metadata", "refuse", "__metadata__", "it must hold config and keras, only.")]
        findings = []
        if not _VERSION.fullmatch(metadata["keras"]):
            findings.append(
                Finding("keras-version", "refuse", "__metadata__/keras", f"{clip(metadata['keras'])} is no Keras 3.")
            )
        config = metadata["config"].encode(errors="surrogatepass")
        faults = scan_config(config, self._limits)
        if not any(fault.severity == "refuse" for fault in faults) and _is_compiled(read_json(config, where=CONFIG)):
            findings.append(Finding("rebuilt-compiled", "refuse", CONFIG, "it must not hold a compile_config."))
        return findings + faults


def _layout(source: Source) -> Layout:
    n_bytes = header_bytes(source.read_at(0, PREFIX_BYTES))
    return read_layout(source.read_at(PREFIX_BYTES, n_bytes), size_bytes=source.size_bytes)


def _is_compiled(node: JSON) -> bool:
    if isinstance(node, dict):
        return "compile_config" in node or any(_is_compiled(item) for item in node.values())
    return isinstance(node, list) and any(_is_compiled(item) for item in node)


def _of_tensors(layout: Layout) -> list[Finding]:
    if len(layout.tensors) > MAX_TENSORS:
        message = f"{len(layout.tensors)} tensors; {MAX_TENSORS} are accepted."
        return [Finding("too-many-tensors", "refuse", "header", message)]
    for name in layout.tensors:
        if not _NAME.fullmatch(name) or ".." in name:
            return [Finding("tensor-name", "refuse", "header", f"{clip(name)} is no variable's name.")]
    return []
