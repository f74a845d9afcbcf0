"""Look at an archive and its HDF5 weights before Keras does: plain arrays, or a refusal.

Rules:
- the archive holds `config.json`, `metadata.json` and `model.weights.h5`, once each, and vocabularies, nothing else;
- every link is a hard link, and every object has one name;
- a dataset is stored in this file, unfiltered and wholly written: it is neither virtual nor
  external, and its declared bytes are stored; all together they fit into the file;
- an element is a float of 2, 4 or 8 bytes, bfloat16, an integer or a bool;
- an attribute is one that Keras writes.

This runs in the confined child only: HDF5's parser itself has faults.

Source: security.md 2.3, items 1 and 4; HDF5 File Format Specification, version 3.
"""

import math
import zipfile
from typing import TYPE_CHECKING, BinaryIO, Final

from maas_gateway.inference.conversion.refusal import NotConvertible
from maas_gateway.scanning.keras_assets import limit_of

if TYPE_CHECKING:
    import h5py

WEIGHTS: Final = "model.weights.h5"
_MEMBERS: Final = {"config.json", "metadata.json", WEIGHTS}
_MAX_EXPANSION: Final = 100  # of a member, unpacked by packed: the scanner is stricter, this bounds memory
_MAX_OBJECTS: Final = 100_000
_MAX_DEPTH: Final = 64
_ATTRIBUTES: Final = {"dtype", "name"}
_ITEM_BYTES: Final = {"f": {2, 4, 8}, "i": {1, 2, 4, 8}, "u": {1, 2, 4, 8}, "b": {1}, "V": {2}}


def check_archive(archive: BinaryIO) -> None:
    """Refuse an archive whose weights are anything but plain arrays.

    Args:
        archive: the whole `.keras` file, seekable; it is left open, at any position.

    Raises:
        NotConvertible: a rule above is broken.
    """
    try:
        with zipfile.ZipFile(archive) as members:
            names = [name for name in members.namelist() if limit_of(name) is None]
            if (
                len(names) != len(_MEMBERS)
                or set(names) != _MEMBERS
                or len(set(members.namelist())) != len(members.namelist())
            ):
                raise NotConvertible(f"the archive must hold exactly {', '.join(sorted(_MEMBERS))}, and vocabularies")
            for member in members.infolist():
                if member.file_size > max(_MAX_EXPANSION * member.compress_size, 1 << 16):
                    raise NotConvertible(f"the archive's member {member.filename} expands too much")
            with members.open(WEIGHTS) as weights:
                _check_weights(weights, members.getinfo(WEIGHTS).file_size)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as broken:
        raise NotConvertible("the archive is not a readable ZIP file") from broken


def _check_weights(weights: object, size_bytes: int) -> None:
    # imported where it runs: h5py parses tenants' bytes and belongs into the confined child only
    import h5py  # noqa: PLC0415

    try:
        with h5py.File(weights, "r") as file:
            _Walk(size_bytes).visit(file, depth=0)
    except (OSError, RuntimeError, KeyError, TypeError, UnicodeError) as broken:
        raise NotConvertible("the archive's weights are not a readable HDF5 file") from broken


class _Walk:
    """One visit of every object of a file."""

    def __init__(self, size_bytes: int) -> None:
        self._bytes_left = size_bytes
        self._seen: set[int] = set()

    def visit(self, group: "h5py.Group", *, depth: int) -> None:
        """Check a group and all below it."""
        # imported where it runs: see _check_weights
        import h5py  # noqa: PLC0415

        self._check_object(group)
        if depth > _MAX_DEPTH:
            raise NotConvertible("the weights' groups are nested too deeply")
        for name in group:
            if type(group.get(name, getlink=True)) is not h5py.HardLink:
                raise NotConvertible("the weights hold a link to another place, which is not accepted")
            item = group[name]
            if isinstance(item, h5py.Group):
                self.visit(item, depth=depth + 1)
            elif isinstance(item, h5py.Dataset):
                self._check_object(item)
                self._check_dataset(item)
            else:
                raise NotConvertible("the weights hold an object that is neither a group nor an array")

    def _check_object(self, item: "h5py.Group | h5py.Dataset") -> None:
        # imported where it runs: see _check_weights
        import h5py  # noqa: PLC0415

        address = h5py.h5o.get_info(item.id).addr
        if address in self._seen:
            raise NotConvertible("the weights hold one object under two names")
        self._seen.add(address)
        if len(self._seen) > _MAX_OBJECTS:
            raise NotConvertible(f"the weights hold more than {_MAX_OBJECTS} objects")
        if not set(item.attrs.keys()) <= _ATTRIBUTES:
            raise NotConvertible("the weights hold an attribute that Keras does not write")

    def _check_dataset(self, dataset: "h5py.Dataset") -> None:
        plan = dataset.id.get_create_plist()
        if dataset.is_virtual or dataset.external or plan.get_external_count():
            raise NotConvertible("the weights hold an array whose elements are stored elsewhere")
        if plan.get_nfilters():
            raise NotConvertible("the weights hold a compressed or filtered array")
        dtype = dataset.dtype
        is_plain = dtype.itemsize in _ITEM_BYTES.get(dtype.kind, ()) and not dtype.names and not dtype.metadata
        if not is_plain or dataset.shape is None:
            raise NotConvertible("the weights hold an array of a type that is not accepted")
        declared = math.prod(dataset.shape) * dtype.itemsize
        if declared > dataset.id.get_storage_size():
            raise NotConvertible("the weights declare an array larger than what is stored of it")
        self._bytes_left -= declared
        if self._bytes_left < 0:
            raise NotConvertible("the weights declare more bytes than the file holds")
