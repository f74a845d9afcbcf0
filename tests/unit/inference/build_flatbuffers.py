"""Build small TensorFlow Lite models into the directory named; run as a program, so that tests need no TensorFlow."""

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf  # noqa: TID253  this is a program


def flatbuffer(function: Callable[..., object], *specs: tf.TensorSpec) -> bytes:
    concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], None)
    converter.experimental_lower_to_saved_model = False
    return converter.convert()


def spec(name: str, shape: list[int | None], dtype: tf.DType = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


def build(directory: Path) -> None:
    random = np.random.default_rng(7)
    sizes = (30, 128, 64, 1)
    weights = [random.normal(size=pair).astype(np.float32) / pair[0] ** 0.5 for pair in pairwise(sizes)]
    table = np.arange(30, dtype=np.float32).reshape(10, 3)

    def seed(x: tf.Tensor) -> tf.Tensor:
        for number, weight in enumerate(weights):
            x = x @ tf.constant(weight)
            x = tf.nn.relu(x) if number < 2 else tf.sigmoid(x)
        return x

    def pair(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return a * tf.reduce_sum(b, axis=1, keepdims=True), b - 1.0

    def embedding(ids: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.gather(tf.constant(table), ids), axis=1)

    def fixed(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.reduce_sum(x), x + 1.0

    def ragged(x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(x, axis=1, keepdims=True)

    def endless(x: tf.Tensor) -> tf.Tensor:
        (x,) = tf.while_loop(lambda v: tf.reduce_sum(v) > 0, lambda v: (v * 1.0,), (x,))
        return x

    def hungry(n: tf.Tensor) -> tf.Tensor:
        ones = tf.fill([tf.reduce_max(n), 1 << 20], 1.0)
        return tf.reduce_sum(ones[:1, :1], axis=1) + tf.cast(tf.reduce_sum(n, axis=1), tf.float32)

    models = {
        "seed": flatbuffer(seed, spec("x", [None, 30])),
        "pair": flatbuffer(pair, spec("a", [None, 3]), spec("b", [None, 2])),
        "embedding": flatbuffer(embedding, spec("ids", [None, 4], tf.int32)),
        "fixed": flatbuffer(fixed, spec("x", [2, 3])),
        "endless": flatbuffer(endless, spec("x", [None, 3])),  # for as long as the sum of all rows is positive
        "hungry": flatbuffer(hungry, spec("n", [None, 1], tf.int32)),  # takes as many MiB four times as it is told
        "ragged": flatbuffer(ragged, spec("x", [None, None])),
    }
    for name, content in models.items():
        (directory / f"{name}.tflite").write_bytes(content)
    np.savez(directory / "seed.npz", *weights)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
