"""Writes real SavedModels, one folder each, below the folder given; a program of its own because it knows TensorFlow."""

import sys
from pathlib import Path

import keras  # noqa: TID253  see above
import numpy as np
import tensorflow as tf  # noqa: TID253  see above

FLOATS = tf.TensorSpec([None, 4], tf.float32, name="x")


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


class Module(tf.Module):
    """Two outputs, two variables, and a function for training with dropout and a step of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(_numbers(4, 3))
        self.bias = tf.Variable(_numbers(3))

    @tf.function(input_signature=[FLOATS])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.nn.softmax(x @ self.kernel + self.bias), "total": tf.reduce_sum(x, axis=1)}

    @tf.function(input_signature=[FLOATS])
    def train(self, x: tf.Tensor) -> tf.Tensor:
        self.bias.assign_add(tf.reduce_mean(tf.nn.dropout(x, 0.5), axis=0)[:3])
        return tf.reduce_sum(self.bias)


class Loop(tf.Module):
    """As many steps as the largest number asks for; a row takes part in its own ones."""

    @tf.function(input_signature=[FLOATS, tf.TensorSpec([None], tf.int32, name="steps")])
    def __call__(self, x: tf.Tensor, steps: tf.Tensor) -> dict[str, tf.Tensor]:
        def body(step: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return step + 1, tf.where((step < steps)[:, None], tf.sin(y) * 1.5, y)

        _, y = tf.while_loop(lambda step, _y: step < tf.reduce_max(steps), body, [0, x])
        return {"y": y}


class Table(tf.Module):
    """Texts and numbers looked up."""

    def __init__(self) -> None:
        super().__init__()
        words = tf.lookup.KeyValueTensorInitializer(["a", "red", "12"], tf.constant([1, 2, 3], tf.int64))
        names = tf.lookup.KeyValueTensorInitializer(tf.constant([3, -7, 1], tf.int64), ["three", "less", "one"])
        self.words = tf.lookup.StaticHashTable(words, -7)
        self.names = tf.lookup.StaticHashTable(names, "none")

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, name="text")])
    def __call__(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        number = self.words.lookup(tf.strings.lower(text))
        return {"number": number, "name": self.names.lookup(number), "size": tf.fill(tf.shape(text), self.words.size())}


class Mixing(tf.Module):
    """Every row's answer tells about the others."""

    @tf.function(input_signature=[FLOATS])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x - tf.reduce_mean(x, axis=0)}


class Fixed(tf.Module):
    """One row at a time only."""

    @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 2.0}


class Counter(tf.Module):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(0.0)

    @tf.function(input_signature=[FLOATS])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + self.count.assign_add(1.0)}


def _keras() -> dict[str, keras.Model]:
    layers, start = keras.layers, keras.Input
    words = start((1,), dtype="string")
    looked_up = layers.StringLookup(vocabulary=["red", "green", "blue"])(words)
    vectorize = layers.TextVectorization(vocabulary=["red", "some", "words"], output_sequence_length=4)
    text = start((1,), dtype="string")
    vectors = layers.Embedding(6, 3)(vectorize(text))
    return {
        "dense": keras.Sequential(
            [start((8,)), layers.Dense(16, activation="relu"), layers.BatchNormalization(), layers.Dense(2)]
        ),
        "conv": keras.Sequential(
            [start((12, 12, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.GlobalAveragePooling2D()]
        ),
        "lstm": keras.Sequential([start((5, 3)), layers.LSTM(4), layers.Dense(2)]),
        "lookup": keras.Model(words, layers.Dense(1)(layers.Flatten()(layers.Embedding(5, 3)(looked_up)))),
        "text": keras.Model(text, layers.Dense(2)(layers.Flatten()(vectors))),
    }


def main(folder: Path) -> None:
    """Write them."""
    for made in (Module(), Loop(), Table(), Mixing(), Fixed(), Counter()):
        tf.saved_model.save(made, str(folder / type(made).__name__.lower()), signatures=made.__call__)
    for name, model in _keras().items():
        model.export(str(folder / name), verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
