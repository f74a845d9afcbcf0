"""Telling formats apart: every file that is not what was asked for says what it is and what to do."""

import gzip
import io
import pickle
import struct
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.scanning.formats import FORMATS, foreign, sniff
from unit.scanning.keras_files import HDF5, InMemory, archive, valid_members, zipped


def _tar(*names: str) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as target:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 700
                target.addfile(member, io.BytesIO(bytes(700)))
        return file.getvalue()


_TFLITE = b"\x1c\x00\x00\x00TFL3" + bytes(20)
_ONNX = b"\x08\x0a\x12\x07pytorch:\x00"
_NPZ_WEIGHTS = [
    (name.replace(".h5", ".npz") if isinstance(name, str) else name, data) for name, data in valid_members()
]
_REFUSED = [
    ("a bare HDF5 file", HDF5, "hdf5", "model.save('model.keras')"),
    ("a pickle", pickle.dumps({"a": 1}), "pickle", "skl2onnx"),
    ("a joblib file, deflated", b"\x78\x9c" + bytes(30), "joblib", "skl2onnx"),
    ("a joblib file, gzipped", gzip.compress(pickle.dumps([1])), "joblib", "skl2onnx"),
    ("a gzip file", gzip.compress(b"x"), "gzip", "gunzip"),
    ("a compressed tar", gzip.compress(_tar("x")), "tar-gzip", "format=savedmodel"),
    ("a bzip2 file", b"BZh91AY&SY", "bzip2", "bunzip2"),
    ("an xz file", b"\xfd7zXZ\x00", "xz", "unxz"),
    ("a zstd file", b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    ("a 7z archive", b"7z\xbc\xaf\x27\x1c", "7z", "Unpack it"),
    ("a tar without a graph", _tar("config.json"), "tar", "saved_model.pb"),
    ("a NumPy array", b"\x93NUMPY\x01\x00", "numpy", "whole model"),
    ("the graph of a SavedModel", b"\x08\x01\x12\x80" + bytes(20), "graph", "tar -cf"),
    ("GGUF", b"GGUF\x03\x00\x00\x00", "gguf", "onnx"),
    ("safetensors", struct.pack("<Q", 2) + b"{}" + bytes(8), "safetensors", "torch.onnx.export"),
    ("a config alone", b'{"class_name": "Sequential"}', "json", "model.save('model.keras')"),
    ("PMML", b'<?xml version="1.0"?><PMML/>', "xml", "onnx"),
    ("a PyTorch archive", zipped([("archive/data.pkl", b""), ("archive/version", b"3")]), "torch", "torch.onnx.export"),
    ("TorchScript", zipped([("m/data.pkl", b""), ("m/constants.pkl", b"")]), "torchscript", "torch.onnx.export"),
    ("an archive with a pickle", archive(payload__pkl=b""), "pickle", "skl2onnx"),
    ("an npz archive", zipped([("w.npy", b"\x93NUMPY")]), "npz", "arrays without a model"),
    ("weights as npz", zipped(_NPZ_WEIGHTS), "npz-weights", "model.save('model.keras')"),
]


@pytest.mark.parametrize("wanted", FORMATS)
@pytest.mark.parametrize(("raw", "kind", "advice"), [row[1:] for row in _REFUSED], ids=[row[0] for row in _REFUSED])
def test_foreign_says_how_to_convert(raw: bytes, kind: str, advice: str, wanted: str) -> None:
    found = foreign(InMemory(raw), wanted)
    if kind in {"tar", "tar-gzip"} and wanted == "savedmodel":
        assert found is None  # its own scanner says what is missing
        return
    assert found is not None
    assert (found.rule, found.severity) == (f"format-{kind}", "refuse")
    assert advice in found.message


_TAKEN = [
    ("a Keras archive", archive(), "keras"),
    ("a SavedModel in a tar", _tar("./variables/variables.index", "./saved_model.pb"), "savedmodel"),
    ("a SavedModel in a zip", zipped([("model/saved_model.pb", b"")]), "savedmodel"),
    ("a TensorFlow Lite graph", _TFLITE, "tflite"),
    ("an ONNX graph", _ONNX, "onnx"),
]


@pytest.mark.parametrize("wanted", FORMATS)
@pytest.mark.parametrize(("raw", "kind"), [row[1:] for row in _TAKEN], ids=[row[0] for row in _TAKEN])
def test_foreign_names_the_format_that_a_file_is_of(raw: bytes, kind: str, wanted: str) -> None:
    found = foreign(InMemory(raw), wanted)
    if wanted == kind:
        assert found is None
    else:
        assert found is not None
        assert found.message.endswith(f"upload it with format={kind} (--format {kind}).")


@pytest.mark.parametrize("raw", [b"", b"PK", b"\x80", b"\x08", b"noise" * 200, struct.pack("<Q", 9) + b"{}"])
def test_sniff_leaves_what_it_does_not_know_to_the_scanner(raw: bytes) -> None:
    assert sniff(InMemory(raw)) is None


def test_sniff_of_a_tar_with_a_broken_size_ends() -> None:
    raw = bytearray(_tar("a", "saved_model.pb"))
    raw[124:136] = b"9" * 12
    found = sniff(InMemory(bytes(raw)))
    assert found is not None
    assert found.kind == "tar"


@given(st.binary(max_size=600) | st.binary(max_size=300).map(lambda tail: bytes(257) + b"ustar" + tail))
def test_sniff_never_raises(raw: bytes) -> None:
    found = sniff(InMemory(raw))
    assert found is None or found.sentence
