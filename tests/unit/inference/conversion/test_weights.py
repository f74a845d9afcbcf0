"""Archives and HDF5 files that are looked at before Keras sees them. Payloads are harmless."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest

from maas_gateway.inference.conversion.refusal import NotConvertible
from maas_gateway.inference.conversion.weights import _Walk, check_archive

pytestmark = pytest.mark.thorough


def archive(fill: Callable[[Any], None], **more: Any) -> io.BytesIO:
    """Return an archive whose weights `fill` writes, beside one honest array."""
    weights = io.BytesIO()
    with h5py.File(weights, "w", **more.pop("file", {})) as file:
        file["layers/dense/vars/0"] = np.ones((4, 3), np.float32)
        fill(file)
    return packed(weights.getvalue(), **more)


def packed(weights: bytes, *, method: int = zipfile.ZIP_STORED, **extra: bytes) -> io.BytesIO:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as members:
        for name, content in {
            "metadata.json": b"{}",
            "config.json": b"{}",
            "model.weights.h5": weights,
            **extra,
        }.items():
            members.writestr(name, content)
    return target


def nothing(file: Any) -> None:
    """Add nothing to the honest array."""


def external_link(file: Any) -> None:
    file["layers/dense/vars/1"] = h5py.ExternalLink("/etc/passwd", "/x")


def external_link_to_group(file: Any) -> None:
    file["layers/other"] = h5py.ExternalLink("other.h5", "/")


def soft_link(file: Any) -> None:
    file["layers/dense/vars/1"] = h5py.SoftLink("/layers/dense/vars/0")


def dangling_soft_link(file: Any) -> None:
    file["layers/dense/vars/1"] = h5py.SoftLink("/nowhere")


def second_name(file: Any) -> None:
    file["layers/dense/vars/1"] = file["layers/dense/vars/0"]


def cycle(file: Any) -> None:
    file["layers/dense/vars/back"] = file["layers"]


def external_storage(file: Any) -> None:
    file.create_dataset("outside", (1,), "f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4, 3), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "x", (4, 3))
    file.create_virtual_dataset("virtual", layout)


def huge_without_data(file: Any) -> None:
    file.create_dataset("huge", (1 << 34,), "f4", chunks=(65536,))


def huge_contiguous(file: Any) -> None:
    file.create_dataset("huge", (1 << 30,), "f4")


def compressed(file: Any) -> None:
    file.create_dataset("zeros", data=np.zeros((100_000,), np.float32), chunks=(1000,), compression="gzip")


def strings(file: Any) -> None:
    file.create_dataset("names", data=["a", "b"], dtype=h5py.string_dtype())


def fixed_strings(file: Any) -> None:
    file.create_dataset("names", data=np.array([b"ab", b"cd"]))


def references(file: Any) -> None:
    file.create_dataset("refs", (1,), dtype=h5py.ref_dtype)


def compound(file: Any) -> None:
    file.create_dataset("pairs", (1,), dtype=[("a", "f4"), ("b", "i4")])


def enumeration(file: Any) -> None:
    file.create_dataset("kinds", data=np.zeros(2, np.int8), dtype=h5py.enum_dtype({"A": 0, "B": 1}, basetype="i1"))


def wide_opaque(file: Any) -> None:
    file.create_dataset("blob", data=np.zeros(2, "V16"))


def empty_space(file: Any) -> None:
    file.create_dataset("none", data=h5py.Empty("f4"))


def committed_type(file: Any) -> None:
    file["kind"] = np.dtype("f4")


def attribute(file: Any) -> None:
    file["layers"].attrs["onload"] = "x"


def deep(file: Any) -> None:
    file.create_group("/".join("g" * 70))


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (external_link, "link to another place"),
        (external_link_to_group, "link to another place"),
        (soft_link, "link to another place"),
        (dangling_soft_link, "link to another place"),
        (second_name, "under two names"),
        (cycle, "under two names"),
        (external_storage, "stored elsewhere"),
        (virtual, "stored elsewhere"),
        (huge_without_data, "larger than what is stored"),
        (huge_contiguous, "larger than what is stored"),
        (compressed, "compressed or filtered"),
        (strings, "of a type that is not accepted"),
        (fixed_strings, "of a type that is not accepted"),
        (references, "of a type that is not accepted"),
        (compound, "of a type that is not accepted"),
        (enumeration, "of a type that is not accepted"),
        (wide_opaque, "of a type that is not accepted"),
        (empty_space, "of a type that is not accepted"),
        (committed_type, "neither a group nor an array"),
        (attribute, "an attribute that Keras does not write"),
        (deep, "nested too deeply"),
    ],
)
def test_weights_are_refused_with_a_reason(fill: Callable[[Any], None], reason: str) -> None:
    with pytest.raises(NotConvertible, match=reason):
        check_archive(archive(fill))


def test_weights_cut_short_are_refused() -> None:
    with zipfile.ZipFile(archive(nothing)) as members:
        weights = members.read("model.weights.h5")
    with pytest.raises(NotConvertible, match="not a readable HDF5"):
        check_archive(packed(weights[: len(weights) // 2]))


def test_arrays_that_together_declare_more_than_the_file_holds_are_refused() -> None:
    """Arrays may be stored over one another: each is there, and all together are not."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["a"], file["b"] = np.ones(10, np.float32), np.ones(10, np.float32)
        _Walk(size_bytes=80).visit(file, depth=0)
        with pytest.raises(NotConvertible, match="more bytes than the file holds"):
            _Walk(size_bytes=79).visit(file, depth=0)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint64", "bool"]
)
def test_plain_weights_are_accepted(dtype: str) -> None:
    def fill(file: Any) -> None:
        file["layers/dense/vars/1"] = np.ones((2, 2), dtype)
        file["layers/dense/vars/2"] = np.ones((), dtype)
        file["layers/dense/vars/3"] = np.ones((0, 5), dtype)

    check_archive(archive(fill))


def test_every_archive_that_keras_wrote_is_accepted(made: dict[str, Any]) -> None:
    for model in made.values():
        check_archive(io.BytesIO(model.archive))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(io.BytesIO(b""), "not a readable ZIP", id="nothing"),
        pytest.param(io.BytesIO(b"PK\x03\x04" + bytes(100)), "not a readable ZIP", id="the beginning of a ZIP"),
        pytest.param(packed(b"no HDF5"), "not a readable HDF5", id="weights that are no HDF5"),
        pytest.param(packed(b"", **{"assets/a": b"x"}), "exactly config", id="a fourth member"),
        pytest.param(packed(bytes(50_000_000), method=zipfile.ZIP_DEFLATED), "expands too much", id="a ZIP bomb"),
    ],
)
def test_archive_is_refused_with_a_reason(content: io.BytesIO, reason: str) -> None:
    with pytest.raises(NotConvertible, match=reason):
        check_archive(content)


def test_archive_with_a_member_twice_is_refused() -> None:
    target = packed(b"")
    with zipfile.ZipFile(target, "a") as members, pytest.warns(UserWarning, match="Duplicate name"):
        members.writestr("config.json", b"{}")
    with pytest.raises(NotConvertible, match="exactly config"):
        check_archive(target)
