"""Hostile `.keras` files whose container or JSON has two readings, leads elsewhere or unpacks beyond measure."""

import io
import json
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from builders.hostile import Hostile, Scene
from builders.keras_configs import (
    Config,
    archive,
    dense,
    functional,
    gadget,
    honest_weights,
    layer,
    members,
    sequential,
)
from unit.scanning.keras_files import zipped

_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.weights.h5"
_CENTRAL: Final = b"PK\x01\x02"
_LOCAL: Final = b"PK\x03\x04"
_END: Final = b"PK\x05\x06"

Build = Callable[[Scene], bytes]


def _plain(raw: Callable[[], bytes]) -> Build:
    return lambda _scene: raw()


def _with(name: str | zipfile.ZipInfo, content: bytes = b"x") -> Build:
    """Return a builder of an honest file with one member more."""
    return lambda _scene: zipped([*members(), (name, content)])


def _patched(magic: bytes, offset: int, layout: str, value: int, *, which: int = 0) -> Build:
    """Return a builder of an honest file with one number of one header changed."""

    def build(_scene: Scene) -> bytes:
        raw = bytearray(archive())
        position = -1
        for _ in range(which + 1):
            position = raw.index(magic, position + 1)
        struct.pack_into(layout, raw, position + offset, value)
        return bytes(raw)

    return build


def _everywhere(local: int, central: int, layout: str, value: int) -> Build:
    """Return a builder of an honest file with one number changed in the second member's both headers."""

    def build(scene: Scene) -> bytes:
        raw = bytearray(_patched(_LOCAL, local, layout, value, which=1)(scene))
        struct.pack_into(layout, raw, _nth(bytes(raw), _CENTRAL, 1) + central, value)
        return bytes(raw)

    return build


def _nth(raw: bytes, magic: bytes, which: int) -> int:
    position = -1
    for _ in range(which + 1):
        position = raw.index(magic, position + 1)
    return position


def _two_configs(_scene: Scene) -> bytes:
    second = json.dumps(functional(gadget("keras.config", "set_floatx", "float16"))).encode()
    return zipped([*members(), (_CONFIG, second)])


def _symlink(scene: Scene) -> bytes:
    name = zipfile.ZipInfo("assets/layers/x/vocabulary.txt")
    name.create_system, name.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return zipped([*members(), (name, str(scene.secret).encode())])


def _folder() -> zipfile.ZipInfo:
    name = zipfile.ZipInfo("assets/layers/x/vocabulary.txt")
    name.external_attr = 0x10
    return name


def _data_descriptor() -> bytes:
    """A stream that cannot seek makes zipfile write sizes behind the data."""

    class Tape(io.RawIOBase):
        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, piece: Any, /) -> int:
            self.content += piece
            return len(piece)

    tape = Tape()
    with zipfile.ZipFile(tape, "w") as target:
        for name, data in members():
            target.writestr(name, data)
    return bytes(tape.content)


def _zip64() -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as target:
            for name, data in members():
                with target.open(name, "w", force_zip64=True) as member:
                    member.write(data)
        return file.getvalue()


def _config_bomb() -> bytes:
    """200 MB of config in 205 kB."""
    config = json.dumps(sequential(dense()))[:-1] + ', "padding": "' + "a" * 200_000_000 + '"}'
    return zipped(members(config.encode()), zipfile.ZIP_DEFLATED)


def _weights_bomb() -> bytes:
    return zipped(members(weights=honest_weights() + bytes(200_000_000)), zipfile.ZIP_DEFLATED)


def _understated() -> bytes:
    """The member says that it unpacks to 1,000 bytes; both headers agree on it."""
    raw = bytearray(zipped(members(weights=honest_weights() + bytes(10_000_000)), zipfile.ZIP_DEFLATED))
    for magic, offset in ((_LOCAL, 22), (_CENTRAL, 24)):
        struct.pack_into("<I", raw, _nth(bytes(raw), magic, 2) + offset, 1_000)
    return bytes(raw)


def _npz() -> bytes:
    with io.BytesIO() as file:
        np.savez(file, weights=np.array([{"a": 1}], dtype=object))
        packed = file.getvalue()
    return zipped([*members()[:2], ("model.weights.npz", packed)])


def _orbax() -> bytes:
    return zipped([("model/_CHECKPOINT_METADATA", b"{}"), ("model/_METADATA", b"{}"), ("model/assets/../../x", b"x")])


def _json(raw: bytes) -> Build:
    return lambda _scene: archive(raw)


def _config(config: Config) -> Build:
    return lambda _scene: archive(config)


def _file(name: str, about: str, build: Build, rule: str, where: str) -> Hostile:
    return Hostile(f"{name}.keras", about, build, rule, where)


_CONTAINERS: Final = (
    replace(
        _file("two-configs", "config.json twice: loaders take the last, readers the first", _two_configs, "duplicate-member", _CONFIG),
        live_in=frozenset(["3.8.0", "3.10.0", "3.11.2", "3.13.1", "3.14.0", "3.15.1"]),
    ),
    _file("zip-slip", "GHSA-hqp4-2352-xf5r: a member above the folder", _with("../outside"), "member-name", "'../outside'"),
    _file("zip-slip-inside", "a member that goes down and up again", _with("assets/../../outside"), "member-name", "'assets/../../outside'"),
    _file("absolute-member", "a member with an absolute name", lambda scene: zipped([*members(), (str(scene.marker), b"x")]), "member-name", "'/"),
    _file("backslash-member", "a path of Windows", _with("assets\\..\\outside"), "member-name", "'assets"),
    _file("drive-member", "a drive of Windows", _with("c:outside"), "member-name", "'c:outside'"),
    _file("two-normal-forms", "a name that two file systems read as two names", _with("assets/cafe\u0301"), "member-name", "'assets/cafe"),
    _file("symlink-member", "#23015: a member that is a symbolic link", _symlink, "not-a-file", "'assets/"),
    _file("folder-member", "a member that is a folder", _with(_folder()), "not-a-file", "'assets/layers/x/vocabulary.txt'"),
    _file("nested-archive", "an archive inside the archive", _with("inner.keras", archive()), "unexpected-member", "inner.keras"),
    _file("script-member", "a program beside the model", _with("setup.py", b"import os"), "unexpected-member", "setup.py"),
    _file("asset-that-nobody-needs", "a vocabulary that no layer asks for", _with("assets/layers/string_lookup/vocabulary.txt"), "asset-not-needed", "assets/layers/string_lookup/vocabulary.txt"),
    _file("pickle-member", "a pickle beside the model", _with("data.pkl", pickle.dumps({})), "format-torch", "member 'data.pkl'"),
    _file("npz-weights", "weights as .npz, with a pickled object", _plain(_npz), "format-npz-weights", "member 'model.weights.npz'"),
    _file("orbax", "the marks of an Orbax checkpoint and an asset above the folder", _plain(_orbax), "unexpected-member", "'model/_CHECKPOINT_METADATA'"),
    _file("prefix", "a program before the archive", _plain(lambda: b"#!/bin/sh\nexit\n" + archive()), "directory-misplaced", "byte"),
    _file("suffix", "bytes after the archive", _plain(lambda: archive() + b"x"), "no-end-record", "byte"),
    _file("second-archive-behind", "two archives in one file: from the front the first, from behind the second", _plain(lambda: archive() + archive()), "directory-misplaced", "byte"),
    _file("archive-comment", "a comment in which another end record may hide", _patched(_END, 20, "<H", 1), "no-end-record", "byte"),
    _file("local-name-differs", "local and central header name different members", _plain(lambda: archive().replace(b"config.json", b"Config.json", 1)), "header-mismatch", _CONFIG),
    _file("local-size-differs", "local and central header differ in size", _patched(_LOCAL, 22, "<I", 5, which=1), "header-mismatch", _CONFIG),
    _file("local-method-differs", "local and central header differ in method", _patched(_LOCAL, 8, "<H", 8, which=1), "header-mismatch", _CONFIG),
    _file("overlapping-members", "two entries share their bytes", _patched(_CENTRAL, 42, "<I", 0, which=1), "unclaimed-bytes", "byte"),
    _file("encrypted", "a member marked as encrypted", _everywhere(6, 8, "<H", 1), "encrypted-member", _CONFIG),
    _file("unknown-flags", "flags that nobody sets", _everywhere(6, 8, "<H", 0x8000), "member-flags", _CONFIG),
    _file("bzip2-member", "a method that Keras does not write", _plain(lambda: zipped(members(), zipfile.ZIP_BZIP2)), "member-method", "metadata.json"),
    _file("lzma-member", "a method that Keras does not write", _plain(lambda: zipped(members(), zipfile.ZIP_LZMA)), "member-method", "metadata.json"),
    _file("data-descriptor", "sizes behind the data", _plain(_data_descriptor), "data-descriptor", "metadata.json"),
    _file("zip64", "extra fields with sizes of 64 bits", _plain(_zip64), "header-mismatch", "metadata.json"),
    _file("zip64-end-record", "an end record that points to another one", _patched(_END, 16, "<I", 0xFFFFFFFF), "zip64", "byte"),
    _file("split-archive", "an archive of several files", _patched(_END, 4, "<H", 1), "split-archive", "byte"),
    _file("wrong-crc", "bytes that do not fit their checksum", _everywhere(14, 16, "<I", 0), "crc-mismatch", _CONFIG),
    _file("config-bomb", "200 MB of config in 205 kB, which Keras 3.15.1 loads", _plain(_config_bomb), "member-too-large", _CONFIG),
    _file("weights-bomb", "200 MB of weights in 200 kB", _plain(_weights_bomb), "member-ratio", _WEIGHTS),
    _file("understated-bomb", "10 MB that say to be 1,000 bytes", _plain(_understated), "member-too-large", _WEIGHTS),
)  # fmt: skip

_JSON: Final = (
    _file("deep-json", "a list nested 200,000 deep: a RecursionError", _json(b"[" * 200_000 + b"]" * 200_000), "json-depth", _CONFIG),
    _file("many-values", "two million values", _json(b"[" + b"0," * 2_000_000 + b"0]"), "json-size", _CONFIG),
    _file("duplicate-keys", "one key twice: readers take the first or the last", _json(b'{"class_name": "Sequential", "class_name": "Lambda"}'), "json-duplicate-key", _CONFIG),
    _file("nan", "NaN, which is no JSON", _json(json.dumps(sequential(layer("Rescaling", scale=float("nan")))).encode()), "json-number", _CONFIG),
    _file("infinity", "a number that overflows", _json(b'{"a": 1e999}'), "json-number", _CONFIG),
    _file("long-integer", "an integer of 100,000 digits", _json(b"[" + b"9" * 100_000 + b"]"), "json-number", _CONFIG),
    _file("utf-16", "another encoding", _json("{}".encode("utf-16")), "json-encoding", _CONFIG),
    _file("half-a-character", "a surrogate without its other half", _json(b'{"a": "\\ud800"}'), "json-encoding", _CONFIG),
    _file("repeat-vector", "RepeatVector(2e9): 10 kB that ask for the memory when the model answers", _config(sequential(layer("RepeatVector", n=2_000_000_000))), "number-too-large", "config.json: /config/layers/1/config/n"),
    _file("two-repeat-vectors", "two that multiply", _config(sequential(layer("RepeatVector", n=16_000), layer("Flatten"), layer("RepeatVector", n=16_000))), "growth-too-large", "config.json: /config/layers/3"),
    _file("upsampling", "a picture enlarged 8,000 times in both directions", _config(sequential(layer("UpSampling2D", size=[8000, 8000]), shape=(None, 4, 4, 1))), "growth-too-large", "config.json: /config/layers/1"),
    _file("wide-dense", "a layer of 2^40 units", _config(sequential(dense(units=2**40))), "number-too-large", "config.json: /config/layers/1/config/units"),
    _file("huge-embedding", "a table of 2^26 rows of 2^16", _config(sequential(layer("Embedding", input_dim=2**26, output_dim=2**16))), "too-many-parameters", "config.json: /config/layers/1"),
    _file("huge-input", "an input of 2^40 elements", _config(sequential(dense(), shape=(None, 2**20, 2**20))), "shape-too-large", "config.json: /config/layers/0/config/batch_shape"),
    _file("many-layers", "5,001 layers", _config(sequential(*[layer("Flatten", name=f"f{n}") for n in range(5_001)])), "too-many-layers", "config.json: /"),
    _file("long-name", "a name of a megabyte", _config(sequential(dense(name="x" * 2**20))), "name", "config.json: /config/layers/1/config/name"),
    _file("escape-in-a-name", "control characters for whoever reads the log", _config(sequential(dense(name="\x1b[2Jx\n"))), "name", "config.json: /config/layers/1/config/name"),
    _file("no-model", "a layer where the model should be", _config(dense()), "not-a-model", "config.json: /"),
)  # fmt: skip

ARCHIVES: Final = (*_CONTAINERS, *_JSON)
