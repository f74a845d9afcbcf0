"""A child that builds the models of the tests and converts each: one TensorFlow for all of them."""

import io
import json
from collections.abc import Callable

from maas_gateway.confinement.channel import Channel
from maas_gateway.inference.conversion.keras_child import convert
from maas_gateway.inference.conversion.refusal import NotConvertible
from maas_gateway.training.archive import archive_of


def serve(channel: Channel) -> None:
    """Answer, for each model, with its archive and what became of it; the payload holds archives and plans."""
    import keras

    told: dict[str, object] = {}
    payload = bytearray()
    for name, build in _MODELS.items():
        keras.utils.set_random_seed(1)
        archive, rebuilt, plan = archive_of(build()), b"", b""
        keras.backend.clear_session()
        try:
            converted = convert(io.BytesIO(archive), lambda _: None)
            header, rebuilt, plan = converted.header, b"".join(converted.flat.pieces()), converted.flatbuffer or b""
            assert b"".join(converted.pieces()) == rebuilt + plan
        except NotConvertible as refusal:
            header = {"refused": str(refusal)}
        if name == "small":
            header = {**header, "with samples": [_with_sample(archive, data) for data in ([1.0] * 12, ["a"] * 12)]}
        told[name] = {**header, "sizes": [len(archive), len(rebuilt), len(plan)]}
        payload += archive + rebuilt + plan
    channel.answer(told, payload)


def _with_sample(archive: bytes, data: list[object]) -> dict[str, object]:
    """What becomes of the small model with three rows of a sample."""
    sample = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 4], "data": data}]}
    try:
        return convert(io.BytesIO(archive), lambda _: None, json.dumps(sample).encode()).header
    except NotConvertible as refusal:
        return {"refused": str(refusal)}


def _small() -> object:
    from keras import Input, Sequential, layers

    return Sequential([Input((4,), name="x"), layers.Dense(3, activation="softmax", name="y")])


def _canary() -> object:
    """A model whose weights hold 32 bytes that are found nowhere else."""
    import numpy as np
    from keras import Input, Sequential, layers

    model = Sequential([Input((4,), name="x"), layers.Dense(8, name="y")])
    model.layers[0].bias.assign(np.random.default_rng(77).standard_normal(8).astype(np.float32))
    return model


def _two_by_two() -> object:
    """Inputs whose names sort against their order, outputs likewise."""
    from keras import Input, Model, layers, ops

    zulu, alpha = Input((3,), name="zulu"), Input((5,), name="alpha")
    double = layers.Rescaling(2.0, name="zulu_doubled")(zulu)
    total = layers.Rescaling(1.0, offset=1.0, name="alpha_total")(ops.sum(alpha, axis=-1, keepdims=True))
    return Model([zulu, alpha], [double, total])


def _twins() -> object:
    """Inputs of one shape and outputs of one shape: only the order tells them apart."""
    from keras import Input, Model, layers

    second, first = Input((2,), name="second"), Input((2,), name="first")
    return Model(
        [second, first],
        [layers.Rescaling(3.0, name="tripled_second")(second), layers.Rescaling(5.0, name="quintupled_first")(first)],
    )


def _dictionaries() -> object:
    from keras import Input, Model, layers

    left, right = Input((2,), name="left"), Input((2,), name="right")
    outputs = {"zz": layers.Rescaling(2.0)(left), "aa": layers.Rescaling(7.0)(right)}
    return Model({"left": left, "right": right}, outputs)


def _one_layer_twice() -> object:
    from keras import Input, Model, layers

    left, right = Input((2,), name="left"), Input((2,), name="right")
    shared = layers.Dense(2, name="shared")
    return Model([left, right], [shared(left), shared(right)])


def _tokens() -> object:
    from keras import Input, Model, layers

    tokens = Input((None,), dtype="int32", name="tokens")
    mean = layers.GlobalAveragePooling1D()(layers.Embedding(20, 8)(tokens))
    return Model(tokens, layers.Dense(2, name="score")(mean))


def _picture() -> object:
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((None, None, 3), name="picture"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 9, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2, name="score"),
        ]
    )


def _choice() -> object:
    from keras import Input, Model, layers, ops

    row, wanted = Input((6,), name="row"), Input((1,), dtype="bool", name="wanted")
    kept = row * ops.cast(wanted, "float32")
    return Model([row, wanted], [ops.cast(ops.round(layers.Dense(4)(kept)), "int32")])


def _half() -> object:
    from keras import Input, Sequential, layers

    return Sequential([Input((4,)), layers.Dense(3, dtype="bfloat16"), layers.Dense(2, dtype="float32", name="y")])


def _recurrent() -> object:
    from keras import Input, Sequential, layers

    return Sequential([Input((6, 3)), layers.LSTM(4)])


def _double() -> object:
    from keras import Input, Sequential, layers

    return Sequential([Input((6,), dtype="float64"), layers.Dense(4, dtype="float64")])


def _fixed_batch() -> object:
    from keras import Input, Sequential, layers

    return Sequential([Input(batch_shape=(2, 3), name="x"), layers.Dense(4)])


def _not_finite() -> object:
    from keras import Input, Model, ops

    x = Input((3,), name="x")
    return Model(x, ops.log(-ops.abs(x)))


def _partly_finite() -> object:
    from keras import Input, Model, ops

    x = Input((3,), name="x")
    return Model(x, ops.log(x))


def _words() -> object:
    from keras import Input, Model, layers

    x = Input((3,), dtype="string", name="words")
    found = layers.StringLookup(vocabulary=["red", "green"], num_oov_indices=0)(x)
    return Model(x, [layers.Hashing(8)(x), layers.StringLookup(vocabulary=["a", "b"], invert=True)(found)])


def _short_floats() -> object:
    from keras import Input, Sequential, layers

    return Sequential([Input((4,), dtype="bfloat16", name="x"), layers.Dense(3, dtype="bfloat16")])


_MODELS: dict[str, Callable[[], object]] = {
    "small": _small,
    "canary": _canary,
    "two-by-two": _two_by_two,
    "twins": _twins,
    "dictionaries": _dictionaries,
    "one-layer-twice": _one_layer_twice,
    "tokens": _tokens,
    "picture": _picture,
    "choice": _choice,
    "half": _half,
    "recurrent": _recurrent,
    "double": _double,
    "fixed-batch": _fixed_batch,
    "not-finite": _not_finite,
    "partly-finite": _partly_finite,
    "words": _words,
    "short-floats": _short_floats,
}
