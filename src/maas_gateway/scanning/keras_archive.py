"""A whole `.keras` file: what it is at all, its container, its config.

Rules:
    * A file of another format is refused with what to do instead.
    * The container holds config.json, metadata.json and model.weights.h5 (`archives`), nothing else. So a vocabulary
      that was adapted (Keras keeps it under assets/) is refused; one given as a list is inside the config.
    * The config passes `keras_config`; model.weights.h5 begins like HDF5 and unpacks to what it declares.

What it does not look at: the inside of the HDF5 file. Only the confined child opens that.
"""

from typing import Final

from maas_gateway.scanning.archives import MemberLimit, read_directory, read_member, read_members, stream_member
from maas_gateway.scanning.keras_config import CONFIG, METADATA, scan_config, scan_metadata
from maas_gateway.scanning.keras_sizes import KerasLimits
from maas_gateway.scanning.scanner import Finding, Refusal, ScanReport, Source, report_of

FORMAT: Final = "keras"
WEIGHTS: Final = "model.weights.h5"

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_RESAVE: Final = (
    'Load it where you trust it, save it with model.save("model.keras") under Keras 3, and upload that file.'
)
_MIB: Final = 1024 * 1024
_HEAD_BYTES: Final = 512
_USTAR: Final = slice(257, 262)
_TFLITE: Final = slice(4, 8)

_MAGICS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (_HDF5, "hdf5", "This is a bare HDF5 file (.h5), a format in which Keras can hide code."),
    (b"\x93NUMPY", "numpy", "This is a NumPy array, not a model."),
    (b"\x1f\x8b", "gzip", "This is a gzip file."),
    (b"BZh", "bzip2", "This is a bzip2 file."),
    (b"\xfd7zXZ", "xz", "This is an xz file."),
    (b"\x78\x9c", "joblib", "This looks like a joblib file, and unpickling runs code."),
    (b"\x08\x01\x12", "savedmodel", "This is a SavedModel's graph, a program that may touch files."),
    (b"GGUF", "gguf", "This is a GGUF file."),
    (b"{", "json", "This is JSON: a config without weights."),
)
_MEMBER_SIGNS: Final[tuple[tuple[str, str, str], ...]] = (
    ("data.pkl", "torch", "This is a PyTorch archive, and unpickling runs code."),
    (".pkl", "pickle", "The archive holds a pickle, and unpickling runs code."),
    (".pickle", "pickle", "The archive holds a pickle, and unpickling runs code."),
    ("saved_model.pb", "savedmodel", "This is a packed SavedModel, a program that may touch files."),
    (".npy", "npz", "This is a NumPy .npz archive."),
    (".weights.npz", "npz", "The weights are a NumPy .npz archive, which may hold a pickle."),
)


class KerasScanner:
    """Scans `.keras` archives.

    Protects against: code, file and network access and process-wide changes while the model is loaded; archives that
    unpack to more than they declare; two readings of one archive. Not against: faults of the HDF5 parser, and a model
    that was trained to answer wrongly.
    """

    def __init__(self, *, max_weights_bytes: int = 2048 * _MIB, limits: KerasLimits | None = None) -> None:
        self._limits = limits or KerasLimits()
        self._members = {
            CONFIG: MemberLimit(max_bytes=8 * _MIB, max_ratio=200.0),
            METADATA: MemberLimit(max_bytes=_MIB // 16, max_ratio=20.0),
            WEIGHTS: MemberLimit(max_bytes=max_weights_bytes, max_ratio=20.0),
        }

    def scan(self, source: Source) -> ScanReport:
        """Return what there is to say about `source` as a `.keras` archive."""
        foreign = _foreign(source)
        if foreign is not None:
            return report_of(FORMAT, [foreign])
        try:
            return report_of(FORMAT, self._scan(source))
        except Refusal as refusal:
            return report_of(FORMAT, [refusal.finding])

    def _scan(self, source: Source) -> list[Finding]:
        members = read_members(source, self._members)
        config = read_member(source, members[CONFIG], self._members[CONFIG])
        metadata = read_member(source, members[METADATA], self._members[METADATA])
        head = b""
        for piece in stream_member(source, members[WEIGHTS], self._members[WEIGHTS]):
            head = head or piece[: len(_HDF5)]
        findings = scan_metadata(metadata) + scan_config(config, self._limits)
        if head != _HDF5:
            findings.append(Finding("weights-format", "refuse", WEIGHTS, "it is no HDF5 file."))
        return findings


def _foreign(source: Source) -> Finding | None:
    """Return a finding if the file is recognisably of another format."""
    head = source.read_at(0, _HEAD_BYTES)
    for magic, kind, sentence in _MAGICS:
        if head.startswith(magic):
            return _format_finding(kind, sentence)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _format_finding("pickle", "This is a pickle, and unpickling runs code.")
    if head[_USTAR] == b"ustar":
        return _format_finding("tar", "This is a tar archive.")
    if head[_TFLITE] == b"TFL3":
        return _format_finding("tflite", "This is a TensorFlow Lite model; only Keras models are uploaded.")
    for name in read_directory(source) if head.startswith(b"PK") else []:
        for ending, kind, sentence in _MEMBER_SIGNS:
            if name.endswith(ending):
                return _format_finding(kind, sentence)
    return None


def _format_finding(kind: str, sentence: str) -> Finding:
    return Finding(f"format-{kind}", "refuse", "byte 0", f"{sentence} {_RESAVE}")
