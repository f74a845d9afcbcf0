"""Which format a file is of, told by its first bytes and, in an archive, by the names of its members.

Rules:
    * Bytes decide, never a file name or what the caller says.
    * What is recognised as a format that no scanner takes is refused with how to convert it.
    * What is recognised as a format that another scanner takes is refused with that format's name.
    * What is not recognised is left to the scanner that was asked: it knows best what is wrong with it.

What this is not: a check. A file that is recognised as what was asked for may still be anything.

Source: the formats' own marks: HDF5 File Format Specification 3.0 II.A; PKWARE APPNOTE 6.3.10 4.3; POSIX.1-2001 pax
(ustar at 257); tensorflow/lite schema.fbs (file_identifier); onnx.proto and saved_model.proto (field numbers);
safetensors' and GGUF's format descriptions; numpy.lib.format.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from maas_gateway.scanning.archives import read_directory
from maas_gateway.scanning.scanner import Finding, Source, clip

FORMATS: Final = ("keras", "savedmodel", "tflite", "onnx")
"""What scanners take, by the name of the request's parameter `format`."""

_HEAD_BYTES: Final = 512
_BLOCK_BYTES: Final = 512
_MAX_TAR_MEMBERS: Final = 256
_MAX_HEADER_BYTES: Final = 100 << 20
_SAVED_MODEL: Final = "saved_model.pb"

_TO_KERAS: Final = (
    "Load it where you trust it, save it with model.save('model.keras') under Keras 3, and upload that file as keras."
)
_TO_ONNX: Final = "Load it where you trust it, write it with torch.onnx.export(model, example, 'model.onnx'), and upload that as onnx."
_FROM_PICKLE: Final = (
    "Load it where you trust it; write a scikit-learn model with skl2onnx.to_onnx(model, rows[:1]) or a PyTorch model "
    "with torch.onnx.export, and upload that as onnx."
)
_TO_ARCHIVE: Final = "Pack the folder that holds saved_model.pb and variables/: tar -cf model.tar -C FOLDER . ; upload that as savedmodel."
_WHOLE_MODEL: Final = "Upload a whole model, as keras, savedmodel, tflite or onnx."

_SENTENCES: Final = MappingProxyType(
    {
        "hdf5": f"This is a bare HDF5 file (.h5), a format in which Keras can hide code. {_TO_KERAS}",
        "pickle": f"This is a pickle, and unpickling runs code. {_FROM_PICKLE}",
        "joblib": f"This looks like a joblib file, and unpickling runs code. {_FROM_PICKLE}",
        "torchscript": f"This is a TorchScript archive, a program with pickles inside. {_TO_ONNX}",
        "torch": f"This is a PyTorch archive, and unpickling runs code. {_TO_ONNX}",
        "npz": f"This is a NumPy .npz archive: arrays without a model, and perhaps a pickle. {_TO_KERAS}",
        "npz-weights": f"The weights are a NumPy .npz archive, which may hold a pickle. {_TO_KERAS}",
        "numpy": f"This is a NumPy array, not a model. {_WHOLE_MODEL}",
        "gguf": "This is a GGUF file, a language model of llama.cpp, which this gateway does not serve. "
        "Export the original model as onnx.",
        "safetensors": f"This is a safetensors file: weights without a graph. Load them into their model; {_TO_ONNX[:1].lower()}{_TO_ONNX[1:]}",
        "graph": f"This is the graph of a SavedModel without its variables. {_TO_ARCHIVE}",
        "gzip": "This is a gzip file. Unpack it (gunzip FILE) and upload what is inside.",
        "tar-gzip": "This is a compressed tar archive. If it holds a SavedModel, upload it with format=savedmodel "
        "(--format savedmodel); otherwise unpack it (tar -xzf FILE) and upload the model inside.",
        "bzip2": "This is a bzip2 file. Unpack it (bunzip2 FILE) and upload what is inside.",
        "xz": "This is an xz file. Unpack it (unxz FILE) and upload what is inside.",
        "zstd": "This is a zstd file. Unpack it (unzstd FILE) and upload what is inside.",
        "7z": f"This is a 7z archive. Unpack it. {_WHOLE_MODEL}",
        "tar": f"This is a tar archive without a {_SAVED_MODEL}. {_WHOLE_MODEL}",
        "json": f"This is JSON: a config without weights. {_TO_KERAS}",
        "xml": f"This is XML, perhaps PMML or OpenVINO's graph. {_WHOLE_MODEL}",
    }
)
_NAMES: Final = MappingProxyType(
    {
        "keras": "a Keras archive (.keras)",
        "savedmodel": "a packed SavedModel",
        "tflite": "a TensorFlow Lite model",
        "onnx": "an ONNX model",
    }
)
_MAGICS: Final = (
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "numpy"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x78\x01", "joblib"),
    (b"\x78\x9c", "joblib"),
    (b"\x78\xda", "joblib"),
    (b"GGUF", "gguf"),
    (b"<?xml", "xml"),
    (b"{", "json"),
)
# The first sign that fits decides, so what runs code comes before what merely is another format.
_MEMBER_SIGNS: Final = (
    ("constants.pkl", "torchscript"),
    ("data.pkl", "torch"),
    (".pkl", "pickle"),
    (".pickle", "pickle"),
    (".joblib", "joblib"),
    (_SAVED_MODEL, "savedmodel"),
    (".weights.npz", "npz-weights"),
    (".npy", "npz"),
    (".weights.h5", "keras"),
)
_PICKLE_PROTOCOLS: Final = (2, 3, 4, 5)
_SAVED_MODEL_HEAD: Final = b"\x08\x01\x12"  # saved_model_schema_version 1, then meta_graphs
# Field 1 is ir_version (3 was ONNX 1.0); after it comes one of the fields 2 to 8 of a ModelProto.
_ONNX_VERSIONS: Final = range(3, 64)
_ONNX_SECOND: Final = frozenset([0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42])


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What a file was recognised as.

    Attributes:
        kind: one of `FORMATS`, or the short name of a format that is not taken: `pickle`, `gguf`.
        where: what told it: `byte 0`, or the archive's member.
    """

    kind: str
    where: str = "byte 0"

    @property
    def sentence(self) -> str:
        """Return what it is and what to do with it."""
        if self.kind in _NAMES:
            return f"This is {_NAMES[self.kind]}: upload it with format={self.kind} (--format {self.kind})."
        return _SENTENCES[self.kind]


def sniff(source: Source) -> Sniffed | None:
    """Return what the file is, None if it is not recognised."""
    head = source.read_at(0, _HEAD_BYTES)
    if head.startswith(b"PK"):
        return _of_members(read_directory(source))
    if head[257:262] == b"ustar":
        return _of_tar(source)
    if head[:2] == b"\x1f\x8b":
        return _of_gzip(head)
    kind = next((kind for magic, kind in _MAGICS if head.startswith(magic)), None) or _by_structure(head, source)
    return None if kind is None else Sniffed(kind)


def foreign(source: Source, wanted: str) -> Finding | None:
    """Return a refusing finding if the file is recognisably of another format than `wanted`.

    Args:
        source: the upload.
        wanted: the format that the caller named, one of `FORMATS`.
    """
    found = sniff(source)
    if found is None or found.kind == wanted:
        return None
    if wanted == "savedmodel" and found.kind in {"tar", "tar-gzip"}:
        return None  # its scanner says what is missing in it
    return Finding(f"format-{found.kind}", "refuse", found.where, found.sentence)


def _by_structure(head: bytes, source: Source) -> str | None:
    if head[4:8] == b"TFL3":
        return "tflite"
    if head[:1] == b"\x80" and head[1:2] and head[1] in _PICKLE_PROTOCOLS:
        return "pickle"
    if head.startswith(_SAVED_MODEL_HEAD):
        return "graph"
    if head[:1] == b"\x08" and len(head) > 2 and head[1] in _ONNX_VERSIONS and head[2] in _ONNX_SECOND:  # noqa: PLR2004  three bytes are looked at
        return "onnx"
    if head[8:9] == b"{" and struct.unpack_from("<Q", head)[0] <= min(source.size_bytes - 8, _MAX_HEADER_BYTES):
        return "safetensors"
    return None


def _of_members(names: list[str]) -> Sniffed | None:
    for ending, kind in _MEMBER_SIGNS:
        for name in names:
            if name.endswith(ending):
                return Sniffed(kind, f"member {clip(name)}")
    return None


def _of_gzip(head: bytes) -> Sniffed:
    """Tell a compressed pickle (joblib writes them) and a compressed tar from other gzip files by what is inside."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        inside = inflater.decompress(head, _BLOCK_BYTES)
    except zlib.error:
        inside = b""
    if inside[257:262] == b"ustar":
        return Sniffed("tar-gzip")
    is_pickle = len(inside) > 1 and inside[0] == 0x80 and inside[1] in _PICKLE_PROTOCOLS  # noqa: PLR2004  PROTO of pickle
    return Sniffed("joblib" if is_pickle else "gzip")


def _of_tar(source: Source) -> Sniffed:
    names = list(_tar_names(source))
    found = _of_members(names)
    return found if found is not None and found.kind != "keras" else Sniffed("tar")


def _tar_names(source: Source) -> Iterator[str]:
    """Yield the names of the first members; stop where it is no tar any more."""
    offset = 0
    for _ in range(_MAX_TAR_MEMBERS):
        block = source.read_at(offset, _BLOCK_BYTES)
        if len(block) < _BLOCK_BYTES or block[257:262] != b"ustar":
            return
        yield block[:100].partition(b"\0")[0].decode("utf-8", "replace")
        digits = block[124:136].strip(b" \0")
        if not digits.isdigit() or not set(digits) <= set(b"01234567"):
            return
        size = int(digits, 8)
        offset += _BLOCK_BYTES * (1 + -(-size // _BLOCK_BYTES))
