"""Hostile `.keras` files whose HDF5 weights reach beyond themselves or declare what they do not hold (security.md 2.1).

The static scanner does not open HDF5: these pass it, and the confined child refuses them before Keras is imported.
"""

from typing import Any, Final

import h5py
import numpy as np

from builders.hostile import SECRET, Hostile, Scene
from builders.keras_configs import Fill, archive, dense, honest_weights, sequential

_TO_3_13: Final = frozenset(["3.8.0", "3.10.0", "3.11.2", "3.13.1"])
_NEVER: Final = frozenset[str]()
_BLOSC: Final = 32001  # as registered with the HDF Group
_KERNEL: Final = "layers/dense/vars/0"


def _filled(fill: Fill, **file_options: Any) -> bytes:
    return archive(sequential(dense()), weights=honest_weights(fill, **file_options))


def _external_storage(scene: Scene) -> bytes:
    def fill(file: Any) -> None:
        del file[_KERNEL]
        file.create_dataset(_KERNEL, (4, 3), "f4", external=[(str(scene.secret), 0, h5py.h5f.UNLIMITED)])

    return _filled(fill)


def _external_link(scene: Scene) -> bytes:
    other = scene.folder / "other.h5"

    def fill(file: Any) -> None:
        del file[_KERNEL]
        file[_KERNEL] = h5py.ExternalLink(str(other), "/x")

    return _filled(fill)


def _external_link_to_group(scene: Scene) -> bytes:
    def fill(file: Any) -> None:
        del file["layers/dense"]
        file["layers/dense"] = h5py.ExternalLink(str(scene.folder / "other.h5"), "/")

    return _filled(fill)


def _virtual(scene: Scene) -> bytes:
    def fill(file: Any) -> None:
        del file[_KERNEL]
        layout = h5py.VirtualLayout((4, 3), np.float32)
        layout[:] = h5py.VirtualSource(str(scene.folder / "other.h5"), "x", (4, 3))
        file.create_virtual_dataset(_KERNEL, layout)

    return _filled(fill)


def _soft_link(file: Any) -> None:
    del file[_KERNEL]
    file[_KERNEL] = h5py.SoftLink("/layers/dense/vars/2")
    file["layers/dense/vars/2"] = np.ones((4, 3), np.float32)


def _hard_link(file: Any) -> None:
    file["layers/dense/vars/2"] = file[_KERNEL]


def _cycle(file: Any) -> None:
    file["layers/dense/vars/back"] = file["layers"]


def _huge_unwritten(file: Any) -> None:
    del file[_KERNEL]
    file.create_dataset(_KERNEL, (1 << 34,), "f4", chunks=(65536,), compression="gzip")


def _three_gib(file: Any) -> None:
    del file[_KERNEL]
    file.create_dataset(_KERNEL, (3 << 28,), "f4", chunks=(65536,), compression="gzip")


def _huge_contiguous(file: Any) -> None:
    del file[_KERNEL]
    file.create_dataset(_KERNEL, (1 << 34,), "f4")


def _compressed(file: Any) -> None:
    del file[_KERNEL]
    file.create_dataset(_KERNEL, data=np.zeros((1 << 22,), np.float32), chunks=(1 << 16,), compression="gzip")


def _user_filter(file: Any) -> None:
    """An optional filter that this library does not have: one that reads it looks for a plug-in."""
    del file[_KERNEL]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4, 3))
    plan.set_filter(_BLOSC, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((4, 3))
    made = h5py.h5d.create(file["layers/dense/vars"].id, b"0", h5py.h5t.IEEE_F32LE, space, plan)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones((4, 3), np.float32))


def _object_reference(file: Any) -> None:
    file["layers/dense/vars/2"] = np.array([file["layers"].ref], h5py.ref_dtype)


def _region_reference(file: Any) -> None:
    region = file[_KERNEL].regionref[0:1, :]
    file.create_dataset("layers/dense/vars/2", data=np.array([region], h5py.regionref_dtype))


def _strings(file: Any) -> None:
    file.create_dataset("layers/dense/vars/2", data=["a", "b"], dtype=h5py.string_dtype())


def _compound(file: Any) -> None:
    file.create_dataset("layers/dense/vars/2", (1,), dtype=[("a", "f4"), ("b", "i4")])


def _enumeration(file: Any) -> None:
    kind = h5py.enum_dtype({"A": 0, "B": 1}, basetype="i1")
    file.create_dataset("layers/dense/vars/2", data=np.zeros(2, np.int8), dtype=kind)


def _opaque(file: Any) -> None:
    file.create_dataset("layers/dense/vars/2", data=np.zeros(2, "V16"))


def _committed_type(file: Any) -> None:
    file["kind"] = np.dtype("f4")


def _attribute(file: Any) -> None:
    file["layers"].attrs["model_config"] = "{}"


def _deep(file: Any) -> None:
    file.create_group("/".join("g" * 500))


def _truncated(_scene: Scene) -> bytes:
    weights = honest_weights()
    return archive(sequential(dense()), weights=weights[: len(weights) // 2])


def _noise(_scene: Scene) -> bytes:
    """The superblock of an honest file, then noise: what a fuzzer gives to the parser."""
    weights = bytearray(honest_weights())
    weights[96:] = bytes((n * 167 + 13) % 256 for n in range(len(weights) - 96))
    return archive(sequential(dense()), weights=bytes(weights))


def other_file(scene: Scene) -> None:
    """Write the file that links, virtual datasets and external storage point to."""
    scene.secret.write_bytes(SECRET)
    with h5py.File(scene.folder / "other.h5", "w") as file:
        file["x"] = np.frombuffer(SECRET[:48], np.float32).reshape(4, 3)
        file["vars/0"] = file["x"][()]
        file["vars/1"] = np.zeros((3,), np.float32)


def _child(name: str, about: str, build: Any, sentence: str, live_in: frozenset[str] | None = None) -> Hostile:
    make = build if build in _OF_A_SCENE else lambda _scene: _filled(build)
    return Hostile(name, about, make, sentence, "", stage="child", live_in=live_in)


_OF_A_SCENE: Final = (_external_storage, _external_link, _external_link_to_group, _virtual, _truncated, _noise)

WEIGHTS: Final = (
    _child("external-storage.keras", "CVE-2026-1669: weights are the bytes of a file of the server", _external_storage, "stored elsewhere", _TO_3_13),
    _child("external-link.keras", "CVE-2026-1669: an array is a link into another file", _external_link, "link to another place", _NEVER),
    _child("external-link-to-a-group.keras", "CVE-2026-1669: a group is a link into another file", _external_link_to_group, "link to another place"),
    _child("virtual-dataset.keras", "CVE-2026-1669: an array is put together from other files", _virtual, "stored elsewhere"),
    _child("soft-link.keras", "CVE-2026-1669: a link by path", _soft_link, "link to another place"),
    _child("two-names.keras", "one array under two names: sizes count once", _hard_link, "under two names"),
    _child("cycle.keras", "a group that holds itself: a walk without end", _cycle, "under two names"),
    _child("sixty-four-gib.keras", "CVE-2026-0897: 64 GiB declared, nothing written", _huge_unwritten, "compressed or filtered"),
    _child("three-gib.keras", "no CVE: 3 GiB declared in 9.8 kB, below Keras's guard", _three_gib, "compressed or filtered"),
    _child("sixty-four-gib-in-one-piece.keras", "the same without chunks", _huge_contiguous, "larger than what is stored"),
    _child("compressed-zeros.keras", "an array that unpacks to a thousand times its size", _compressed, "compressed or filtered"),
    _child("user-filter.keras", "a filter, which HDF5 may look for as a plug-in", _user_filter, "compressed or filtered"),
    _child("object-reference.keras", "a reference to an object", _object_reference, "of a type that is not accepted"),
    _child("region-reference.keras", "a reference to a part of an array", _region_reference, "of a type that is not accepted"),
    _child("strings.keras", "strings of variable length, which lie on HDF5's heap", _strings, "of a type that is not accepted"),
    _child("compound.keras", "a compound type", _compound, "of a type that is not accepted"),
    _child("enumeration.keras", "an enumeration", _enumeration, "of a type that is not accepted"),
    _child("opaque.keras", "opaque bytes", _opaque, "of a type that is not accepted"),
    _child("committed-type.keras", "a named type", _committed_type, "neither a group nor an array"),
    _child("attribute.keras", "an attribute as .h5 files of Keras 2 have it, where code can hide", _attribute, "an attribute that Keras does not write"),
    _child("deep-groups.keras", "500 groups in one another", _deep, "nested too deeply"),
    _child("truncated-weights.keras", "an HDF5 file that is cut", _truncated, "not a readable HDF5"),
    _child("noise-after-superblock.keras", "noise behind an honest beginning", _noise, "not a readable HDF5"),
)  # fmt: skip
