"""Save benign models with the real Keras and convert one with the real TFLite converter.

Run as `python build_models.py <folder>` in a process of its own: the frameworks are imported once for the session
and never into the process of the tests.
"""

import json
import sys
from pathlib import Path

import keras  # noqa: TID253  this file is a program of its own
import numpy as np
import tensorflow as tf  # noqa: TID253
from keras import layers  # noqa: TID253


def seed() -> keras.Model:
    """The seed network: normalisation adapted to rows, three dense layers, compiled and fitted for one step."""
    generator = np.random.default_rng(7)
    rows = generator.normal(size=(64, 20)).astype("float32")
    normalization = layers.Normalization()
    normalization.adapt(rows)
    model = keras.Sequential(
        [
            keras.Input((20,)),
            normalization,
            layers.Dense(128, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
    model.fit(rows, (rows[:, 0] > 0).astype("float32"), epochs=1, verbose=0)
    return model


def convolutional() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1.0 / 255),
            layers.Conv2D(8, 3, activation="relu", padding="same", kernel_regularizer=keras.regularizers.L2(1e-4)),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(16, 3),
            layers.ReLU(max_value=6.0),
            layers.Dropout(0.25, seed=3),
            layers.Conv2DTranspose(4, 2, strides=2),
            layers.ZeroPadding2D(((0, 1), (1, 0))),
            layers.GlobalAveragePooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation=keras.activations.softmax, kernel_constraint=keras.constraints.MaxNorm(3)),
        ],
        name="cnn",
    )


def two_inputs() -> keras.Model:
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    hidden = layers.Dense(8, activation="gelu", kernel_initializer=keras.initializers.HeNormal(seed=1))(left)
    other = layers.Dense(8, activation=keras.activations.tanh)(right)
    merged = layers.Concatenate()([hidden, other])
    residual = layers.Add()([layers.Dense(16)(merged), merged])
    scaled = residual * 2.0 + keras.ops.mean(merged[..., 1:5:2], axis=-1, keepdims=True)
    return keras.Model(
        {"left": left, "right": right}, {"score": layers.Dense(1)(scaled), "hidden": layers.Softmax()(hidden)}
    )


def embedding() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((16,), dtype="int32"),
            layers.Embedding(1000, 8, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2, activation="softmax"),
        ]
    )


def nested() -> keras.Model:
    inner = keras.Sequential([layers.Dense(6, activation="relu"), layers.Dense(6)], name="inner block")
    outer = keras.Input((5, 6))
    steps = layers.TimeDistributed(inner)(outer)
    recurrent = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(steps)
    return keras.Model(outer, layers.GRU(3)(recurrent))


def attention() -> keras.Model:
    tokens = keras.Input((7, 16))
    attended = layers.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.1)(tokens, tokens)
    normal = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([tokens, attended]))
    feed = layers.Dense(16)(layers.Dense(32, activation="silu")(normal))
    return keras.Model(tokens, layers.Flatten()(layers.Add()([normal, feed])))


def explicit_statistics() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Normalization(mean=[0.0, 1.0, 2.0], variance=[1.0, 2.0, 3.0]),
            layers.Dense(2, dtype="mixed_float16"),
            layers.Activation("linear", dtype="float32"),
        ]
    )


def vocabulary() -> keras.Model:
    lookup = layers.IntegerLookup(vocabulary=[3, 5, 9], output_mode="one_hot")
    return keras.Sequential([keras.Input((1,), dtype="int64"), lookup, layers.Dense(1)])


def mobile() -> keras.Model:
    """A published architecture with its long names, without its weights."""
    return keras.applications.MobileNetV3Small((96, 96, 3), weights=None, classes=7)


def optimized() -> keras.Model:
    """Compiled with objects and a schedule, to have a full compile_config."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.PReLU()])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 100, 0.9)
    model.compile(
        optimizer=keras.optimizers.SGD(schedule, momentum=0.9),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.TopKCategoricalAccuracy(k=2), "mse"],
    )
    return model


MODELS = (
    seed,
    convolutional,
    two_inputs,
    embedding,
    nested,
    attention,
    explicit_statistics,
    vocabulary,
    mobile,
    optimized,
)


def to_tflite(model: keras.Model, shape: tuple[int, ...]) -> bytes:
    """Convert in memory: the concrete function goes to the converter without a SavedModel on disk."""
    function = tf.function(lambda rows: model(rows, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    converter.experimental_lower_to_saved_model = False
    return bytes(converter.convert())


def unresolved() -> list[str]:
    """Return every name of the scanner's lists that the installed Keras does not resolve."""
    from keras.src.saving.serialization_lib import _retrieve_class_or_fn

    from maas_gateway.scanning import keras_names

    missing = []
    for listed in (
        keras_names.MODELS,
        keras_names.LAYERS,
        keras_names.OPERATIONS,
        keras_names.PARTS,
        keras_names.TRAINING,
    ):
        for module, names in listed.items():
            for name in names:
                try:
                    found = _retrieve_class_or_fn(name, name, module, "class", {})
                except (TypeError, ValueError):
                    found = None
                if not isinstance(found, type):
                    missing.append(f"{module}.{name}")
    for module, names in keras_names.FUNCTIONS.items():
        missing += [
            f"{module}.{name}"
            for name in names
            if not callable(getattr(sys.modules["keras"], module.split(".")[1]).__dict__.get(name))
        ]
    return missing


def main(folder: Path) -> None:
    """Write every model as <name>.keras and two of them as <name>.tflite."""
    keras.utils.set_random_seed(11)
    (folder / "unresolved.json").write_text(json.dumps(unresolved()))
    for build in MODELS:
        model = build()
        model.save(folder / f"{build.__name__}.keras")
        if build is seed:
            (folder / "seed.tflite").write_bytes(to_tflite(model, (None, 20)))
        if build is convolutional:
            (folder / "convolutional.tflite").write_bytes(to_tflite(model, (None, 28, 28, 1)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
