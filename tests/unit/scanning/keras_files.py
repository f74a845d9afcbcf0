"""Builders of `.keras` files in pure Python: valid by default, a test changes what it is about.

The payloads are harmless: names of functions that do nothing but return a value, paths that nobody opens.
"""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(64)
METADATA = json.dumps({"keras_version": "3.15.1", "date_saved": "2026-11-22@21:12:08"}).encode()
Config = dict[str, Any]


@dataclass(frozen=True)
class InMemory:
    """A `Source` over bytes."""

    content: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        return self.content[offset : offset + n_bytes]


def layer(class_name: str, *, module: str = "keras.layers", **config: Any) -> Config:
    """One layer as Keras writes it."""
    name = config.pop("name", class_name.lower())
    return {"module": module, "class_name": class_name, "config": {"name": name, **config}, "registered_name": None}


def dense(**config: Any) -> Config:
    made = layer("Dense", **{"units": 3, "activation": "relu", **config})
    made["build_config"] = {"input_shape": [None, 4]}
    return made


def sequential(*layers: Config) -> Config:
    """A Sequential of four inputs and the layers given."""
    start = layer("InputLayer", batch_shape=[None, 4], dtype="float32", name="start")
    return layer("Sequential", module="keras", name="model", layers=[start, *layers])


def gadget(module: str, function: str, **arguments: Any) -> Config:
    """The Lambda position of security.md 2.1: calls `function(input, **arguments)` while the model is loaded."""
    target = {"module": module, "class_name": "function", "config": function, "registered_name": function}
    return layer("Lambda", function=target, arguments=arguments, output_shape=[3])


def with_key(node: Config, **keys: Any) -> Config:
    return {**node, **keys}


def archive(config: Config | bytes | None = None, **members: bytes) -> bytes:
    """A whole file; `members` replace or add (`__` stands for `.`)."""
    if config is None:
        config = sequential(dense())
    raw = config if isinstance(config, bytes) else json.dumps(config).encode()
    content = {"metadata.json": METADATA, "config.json": raw, "model.weights.h5": HDF5}
    content.update({name.replace("__", "."): data for name, data in members.items()})
    return zipped(list(content.items()))


def zipped(members: list[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """Members in order, duplicates included."""
    with io.BytesIO() as file:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with zipfile.ZipFile(file, "w", method) as target:
                for name, data in members:
                    target.writestr(name, data)
        return file.getvalue()


def valid_members() -> list[tuple[str | zipfile.ZipInfo, bytes]]:
    return [
        ("metadata.json", METADATA),
        ("config.json", json.dumps(sequential(dense())).encode()),
        ("model.weights.h5", HDF5),
    ]


def rewritten(saved: bytes, change: Callable[[Config], None]) -> bytes:
    """A real file with a changed config, packed anew."""
    with zipfile.ZipFile(io.BytesIO(saved)) as original:
        members = {name: original.read(name) for name in original.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    return zipped(list(members.items()))
