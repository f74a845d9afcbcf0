"""Configs that every Keras 3 loads: the frames into which hostile parts are put."""

import io
import json
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from unit.scanning.keras_files import zipped

Config = dict[str, Any]
Fill = Callable[[Any], None]

METADATA = json.dumps({"keras_version": "3.15.1", "date_saved": "2026-11-22@21:12:08"}).encode()


def layer(class_name: str, *, module: str = "keras.layers", **config: Any) -> Config:
    """One layer, named after its class if nothing else is said."""
    name = config.pop("name", class_name.lower())
    return {"module": module, "class_name": class_name, "config": {"name": name, **config}, "registered_name": None}


def dense(**config: Any) -> Config:
    made = layer("Dense", **{"name": "dense", "units": 3, "activation": "linear", **config})
    made["build_config"] = {"input_shape": [None, 4]}
    return made


def edge(origin: str, *shape: int | None) -> Config:
    config = {"shape": list(shape or (None, 4)), "dtype": "float32", "keras_history": [origin, 0, 0]}
    return {"class_name": "__keras_tensor__", "config": config}


def called(node: Config, *arguments: Any, **named: Any) -> Config:
    """A layer of a functional model and its one call."""
    return {**node, "name": node["config"]["name"], "inbound_nodes": [{"args": list(arguments), "kwargs": named}]}


def functional(*layers: Config, output: str | None = None, shape: tuple[int | None, ...] = (None, 4)) -> Config:
    """A functional model whose one input is `start`; its output is the last layer's."""
    start = layer("InputLayer", batch_shape=list(shape), dtype="float32", sparse=False, name="start")
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "model",
            "trainable": True,
            "layers": [{**start, "name": "start", "inbound_nodes": []}, *layers],
            "input_layers": [["start", 0, 0]],
            "output_layers": [[output or layers[-1]["name"], 0, 0]],
        },
        "registered_name": "Functional",
        "build_config": {"input_shape": None},
    }


def sequential(*layers: Config, shape: tuple[int | None, ...] = (None, 4), dtype: str = "float32") -> Config:
    start = layer("InputLayer", batch_shape=list(shape), dtype=dtype, sparse=False, name="start")
    return layer("Sequential", module="keras", name="model", trainable=True, layers=[start, *layers])


def function(module: str, name: str) -> Config:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def gadget(module: str, name: str, argument: Any, *, at: str = "gadget", **named: Any) -> Config:
    """A Lambda that calls `name(argument, **named)` while the model is loaded."""
    node = layer("Lambda", name=at, function=function(module, name), arguments=named, output_shape=[3])
    return called(node, inputs=argument)


def honest_weights(fill: Fill | None = None, **file_options: Any) -> bytes:
    """The weights of one `dense()` in a functional or sequential model, and whatever `fill` does to the file."""
    target = io.BytesIO()
    with h5py.File(target, "w", **file_options) as file:
        file["layers/dense/vars/0"] = np.ones((4, 3), np.float32)
        file["layers/dense/vars/1"] = np.zeros((3,), np.float32)
        if fill is not None:
            fill(file)
    return target.getvalue()


def members(config: Config | bytes | None = None, *, weights: bytes | None = None) -> list[tuple[Any, bytes]]:
    """Name and bytes of the three members."""
    if config is None:
        config = sequential(dense())
    raw = config if isinstance(config, bytes) else json.dumps(config).encode()
    return [
        ("metadata.json", METADATA),
        ("config.json", raw),
        ("model.weights.h5", honest_weights() if weights is None else weights),
    ]


def archive(config: Config | bytes | None = None, *, weights: bytes | None = None) -> bytes:
    """A whole file."""
    return zipped(members(config, weights=weights))
