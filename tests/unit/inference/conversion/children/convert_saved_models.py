"""Converts many SavedModels in one process, since TensorFlow is slow to start, and asks one frozen graph itself."""

import json
import math
from typing import Any, cast

from maas_gateway.confinement.channel import Channel
from maas_gateway.inference.conversion.refusal import NotConvertible


def serve(channel: Channel) -> None:
    """Answer with what became of each; `sizes` says by name how many bytes of the request each has."""
    sizes = cast("dict[str, int]", channel.arguments["sizes"])
    request, position = b"".join(channel.request()), 0
    headers: dict[str, Any] = {}
    payload = bytearray()
    for name, size in sizes.items():
        headers[name] = _converted(request[position : position + size], payload, has_sample=name == "dense")
        position += size
    channel.answer(headers, bytes(payload))


def _sample(header: Any) -> bytes:
    """Three rows of ones for a model of one input."""
    (port,) = header["signature"]["inputs"]
    shape = [3, *port["shape"][1:]]
    data = [1.0] * math.prod(shape)
    return json.dumps({"inputs": [{**port, "shape": shape, "data": data}]}).encode()


def _converted(archive: bytes, payload: bytearray, *, has_sample: bool) -> dict[str, Any]:
    import tensorflow as tf

    from maas_gateway.inference.conversion.saved_model_child import Upload, convert

    steps: list[str] = []
    header: dict[str, Any]
    try:
        converted = convert(Upload(archive), steps.append)
    except NotConvertible as refusal:
        header = {"refused": str(refusal)}
    else:
        again = convert(Upload(archive), steps.append, _sample(converted.header) if has_sample else b"")
        header = {
            **converted.header,
            "is_same_again": converted.contents[-1] == again.contents[-1],
            "noted again": again.header["notes"],
        }
        payload += b"".join(converted.contents)
        if converted.header["signature"] and len(cast("Any", converted.header)["signature"]["outputs"]) == 3:
            header["looked_up"] = _look_up(converted.contents[-1])
    return {**header, "steps": steps, "is_left": tf.io.gfile.exists("ram://model")}


def _look_up(frozen: bytes) -> dict[str, Any]:
    import tensorflow as tf

    from maas_gateway.inference.runtimes.tensorflow import import_graph

    graph = import_graph(frozen, n_inputs=1, n_outputs=3)
    name, number, size = graph(tf.constant([["A", "red"], ["", "nowhere"], ["12", "RED"]]))
    return {
        "name": [[text.decode() for text in row] for row in name.numpy().tolist()],
        "number": number.numpy().tolist(),
        "size": size.numpy().tolist(),
    }
