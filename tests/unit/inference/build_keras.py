"""Build small Keras models, run each as it is and as a confined process loads it, and print what came; run as a program."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import keras  # noqa: TID253  this is a program
import numpy as np
import tensorflow as tf  # noqa: TID253  as above
from keras import layers  # noqa: TID253  as above

from maas_gateway.errors import GatewayError
from maas_gateway.inference.confined import content_loader
from maas_gateway.inference.conversion.rebuilt import flatten
from maas_gateway.inference.runtimes.keras import check_leaves_nothing
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import FREE, ModelSignature, TensorSpec

_STRING = "string"
LOAD = content_loader("keras")


def signature_of(model: keras.Model, inputs: list[int], outputs: list[int]) -> ModelSignature:
    """Return the signature with a model's inputs and outputs in the given orders."""

    def spec(name: str, tensor: keras.KerasTensor) -> TensorSpec:
        known = {each.numpy.name: each for each in Datatype} | {_STRING: Datatype.BYTES}
        return TensorSpec(name, known[tensor.dtype], tuple(FREE if n is None else n for n in tensor.shape))

    return ModelSignature(
        tuple(spec(f"i{place}", model.inputs[place]) for place in inputs),
        tuple(spec(f"o{place}", model.outputs[place]) for place in outputs),
    )


def content_of(model: keras.Model) -> bytes:
    return b"".join(flatten(model).pieces())


def stateful() -> keras.Model:
    x = layers.Input((5, 3), batch_size=2)
    return keras.Model(x, layers.LSTM(4, stateful=True)(x))


def several() -> keras.Model:
    a, b = layers.Input((3,), name="a"), layers.Input((2,), name="b")
    return keras.Model({"b": b, "a": a}, {"p": layers.Dense(2)(a), "q": layers.Dense(1)(b)})


def words() -> keras.Model:
    x = layers.Input((1,), dtype=_STRING)
    return keras.Model(x, layers.Embedding(4, 3)(layers.StringLookup(vocabulary=["a", "b"])(x)))


MODELS: dict[str, Callable[[], keras.Model]] = {
    "dense": lambda: keras.Sequential([layers.Input((4,)), layers.Dense(3), layers.BatchNormalization()]),
    "recurrent": lambda: keras.Sequential([layers.Input((None, 3)), layers.Bidirectional(layers.GRU(4))]),
    "stateful": stateful,
    "random": lambda: keras.Sequential([layers.Input((8, 8, 3)), layers.RandAugment(), layers.Flatten()]),
    "several": several,
}


def compared(model: keras.Model) -> dict[str, float]:
    """Return how far a model and its runtime differ, and two calls of the runtime with the same input."""
    n_in, n_out = len(model.inputs), len(model.outputs)
    inputs, outputs = list(reversed(range(n_in))), list(reversed(range(n_out)))
    signature = signature_of(model, inputs, outputs)
    runtime = LOAD(content_of(model), signature=signature, input_order=tuple(inputs), output_order=tuple(outputs))
    random = np.random.default_rng(3)
    given = [random.normal(size=[2 if n is None else n for n in t.shape]).astype(t.dtype) for t in model.inputs]
    packed = (
        tf.constant(given[0])
        if n_in == 1
        else keras.tree.pack_sequence_as(model._inputs_struct, [tf.constant(array) for array in given])
    )
    want = [np.asarray(tensor) for tensor in keras.tree.flatten(model(packed, training=False))]
    first = runtime.run(tuple(given[place] for place in inputs))
    second = runtime.run(tuple(given[place] for place in inputs))
    runtime.close()
    return {
        "error": max(float(np.abs(a - want[place]).max()) for a, place in zip(first, outputs, strict=True)),
        "drift": max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True)),
    }


def refused(act: Callable[[], object]) -> str:
    try:
        act()
    except GatewayError as refusal:
        return f"{type(refusal).__name__}: {refusal.detail}"
    return ""


def strings() -> list[object]:
    model = words()
    runtime = LOAD(content_of(model), signature=signature_of(model, [0], [0]), input_order=(0,), output_order=(0,))
    known, unknown = (runtime.run((np.array([[word]], object),))[0] for word in (b"b", b"\xff\x00"))
    table = model.layers[-1].get_weights()[0]
    return [bool(np.allclose(known, table[2])), bool(np.allclose(unknown, table[0]))]


def bad_index() -> str:
    model = keras.Sequential([layers.Input((2,), dtype="int32"), layers.Embedding(4, 3)])
    runtime = LOAD(content_of(model), signature=signature_of(model, [0], [0]), input_order=(0,), output_order=(0,))
    good = np.zeros((1, 2), np.int32)
    before = runtime.run((good,))[0]
    said = refused(lambda: runtime.run((good + 9,)))
    assert np.array_equal(runtime.run((good,))[0], before)
    return said


def graph_that_writes() -> str:
    variable = tf.Variable(0.0)

    @tf.function(autograph=False)
    def inner(x: tf.Tensor) -> tf.Tensor:
        variable.assign_add(tf.reduce_sum(x))
        return x + variable

    outer = tf.function(
        lambda x: tf.while_loop(lambda v: tf.reduce_sum(v) < 3, lambda v: (inner(v),), (x,))[0], autograph=False
    )
    return refused(lambda: check_leaves_nothing(outer.get_concrete_function(tf.TensorSpec([None, 2]))))


def wrong(**more: object) -> str:
    model = MODELS["dense"]()
    right = {"signature": signature_of(model, [0], [0]), "input_order": (0,), "output_order": (0,)}
    return refused(lambda: LOAD(content_of(model), **(right | more)))


def main(directory: Path) -> None:
    """Write the answers of all this to standard output, and a model with its answer into a directory."""
    dense = MODELS["dense"]()
    (directory / "dense.safetensors").write_bytes(content_of(dense))
    np.save(directory / "dense.npy", np.asarray(dense(np.ones((2, 4), np.float32))))
    x = TensorSpec("x", Datatype.FP32, (-1, 4))
    json.dump(
        {
            "compared": {name: compared(make()) for name, make in MODELS.items()},
            "strings": strings(),
            "bad_index": bad_index(),
            "graph_that_writes": graph_that_writes(),
            "wrong": {
                "another width": wrong(signature=ModelSignature((TensorSpec("x", Datatype.FP32, (-1, 5)),), (x,))),
                "another output": wrong(signature=ModelSignature((x,), (TensorSpec("y", Datatype.FP64, (-1, 3)),))),
                "another order": wrong(input_order=(1,)),
                "two outputs": wrong(output_order=(0, 1)),
                "no file": refused(
                    lambda: LOAD(b"PK", signature=ModelSignature((x,), (x,)), input_order=(0,), output_order=(0,))
                ),
            },
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
