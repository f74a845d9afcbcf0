"""Which layers of a functional model any output depends on.

Rules:
    * A layer counts as reached if an output of its model depends on it, or if it is one of the model's inputs.
    * Keras writes reached layers only. One that is not reached was put in by hand: it does nothing when the model
      answers, and yet it is made when the model is loaded. It asks for a person (severity `review`).

Source: keras 3.15.1, keras/src/models/functional.py, `get_config` and `functional_from_config`.
"""

from collections.abc import Iterator
from typing import Final

from maas_gateway.scanning.strict_json import JSON

_EDGE: Final = "__keras_tensor__"


def unreached(config: dict[str, JSON]) -> list[int]:
    """Return the positions of the layers of a functional model that no output depends on.

    Args:
        config: of one model; without `output_layers` (a Sequential) every layer is reached.
    """
    layers, outputs = config.get("layers"), config.get("output_layers")
    if not isinstance(layers, list) or outputs is None:
        return []
    sources: dict[str, set[str]] = {}
    for layer in layers:
        if isinstance(layer, dict):
            sources.setdefault(_name(layer), set()).update(_origins(layer.get("inbound_nodes")))
    reached: set[str] = set()
    waiting = [*_named(outputs), *_named(config.get("input_layers"))]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(sources.get(name, ()))
    return [n for n, layer in enumerate(layers) if isinstance(layer, dict) and _name(layer) not in reached]


def _name(layer: dict[str, JSON]) -> str:
    """Return the name by which edges mean a layer."""
    config = layer.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    name = layer.get("name", inner)
    return name if isinstance(name, str) else ""


def _origins(node: JSON) -> Iterator[str]:
    """Yield the names of the layers from which a call's arguments come."""
    if isinstance(node, list):
        for item in node:
            yield from _origins(item)
    elif isinstance(node, dict):
        config = node.get("config")
        if node.get("class_name") == _EDGE and isinstance(config, dict):
            yield from _named(config.get("keras_history"))
        else:
            for item in node.values():
                yield from _origins(item)


def _named(node: JSON) -> Iterator[str]:
    """Yield every name in nested lists or mappings of `[name, node, tensor]`."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _named(item)
    elif isinstance(node, dict):
        for item in node.values():
            yield from _named(item)
