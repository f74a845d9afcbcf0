"""Benign Keras models: every layer that a saved model may hold, in the smallest model that uses it.

`LAYERS` names each model's builder. Imported by `benign_keras` in a process of its own only: it needs Keras.
"""

from collections.abc import Callable
from types import MappingProxyType

import keras  # noqa: TID253  imported by a program of its own only
import numpy as np
from keras import layers  # noqa: TID253
from keras.src.applications import convnext  # noqa: TID253

Build = Callable[[], keras.Model]

_ROW, _STEPS, _PICTURE, _VOLUME = (6,), (5, 6), (12, 12, 3), (6, 6, 6, 2)


def _one(layer: Callable[[], keras.Layer], shape: tuple[int | None, ...], dtype: str = "float32") -> Build:
    """Return a builder of a model with one layer behind one input."""

    def build() -> keras.Model:
        start = keras.Input(shape, dtype=dtype)
        return keras.Model(start, layer()(start))

    return build


def _merging(layer: Callable[[], keras.Layer], *shapes: tuple[int, ...]) -> Build:
    """Return a builder of a model with one layer behind several inputs."""

    def build() -> keras.Model:
        starts = [keras.Input(shape) for shape in shapes or (_ROW, _ROW)]
        return keras.Model(starts, layer()(starts))

    return build


def _attending(layer: Callable[[], keras.Layer]) -> Build:
    """Return a builder of a model that attends from one sequence to another, with a mask."""

    def build() -> keras.Model:
        query, value = keras.Input((4, 8), name="query"), keras.Input((5, 8), name="value")
        attend = layer()
        if isinstance(attend, layers.Attention | layers.AdditiveAttention):
            return keras.Model([query, value], attend([query, value]))
        answer, scores = attend(query, value, return_attention_scores=True)
        return keras.Model([query, value], [answer, scores])

    return build


def _generative(layer: Callable[[], keras.Layer]) -> Build:
    """Return a builder of a model with an augmentation that does nothing when it answers."""
    return _one(layer, _PICTURE)


def _adapted(layer: Callable[[], keras.Layer], rows: object, dtype: str, *, shape: tuple[int, ...] = (1,)) -> Build:
    """Return a builder of a model whose first layer has looked at rows."""

    def build() -> keras.Model:
        made = layer()
        made.adapt(np.array(rows))
        start = keras.Input(shape, dtype=dtype)
        return keras.Model(start, made(start))

    return build


def _pipeline() -> layers.Pipeline:
    return layers.Pipeline([layers.Rescaling(1 / 255), layers.CenterCrop(8, 8), layers.RandomFlip("horizontal")])


def _stateless_cells() -> layers.RNN:
    return layers.RNN(layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(2), layers.SimpleRNNCell(2)]))


def _bidirectional() -> layers.Bidirectional:
    return layers.Bidirectional(
        layers.LSTM(3, return_sequences=True), backward_layer=layers.GRU(3, return_sequences=True, go_backwards=True)
    )


def _masked() -> keras.Model:
    start = keras.Input((None,), dtype="int32")
    embedded = layers.Embedding(50, 4, mask_zero=True, embeddings_regularizer="l2")(start)
    return keras.Model(start, layers.LSTM(3, dropout=0.1, recurrent_dropout=0.1, unroll=False)(embedded))


def _tied() -> keras.Model:
    start = keras.Input((7,), dtype="int32")
    table = layers.ReversibleEmbedding(40, 6)
    return keras.Model(start, table(table(start), reverse=True))


def _lookups() -> keras.Model:
    """Adapted vocabularies at every place where Keras keeps one: twice in one model, and in a model inside it."""
    words, others, inner = layers.StringLookup(), layers.StringLookup(mask_token=""), layers.TextVectorization()
    for lookup, rows in ((words, ["a", "b"]), (others, ["c"]), (inner, ["d e", "f"])):
        lookup.adapt(np.array(rows))
    start = keras.Input((1,), dtype="string")
    nested = keras.Sequential([keras.Input((1,), dtype="string"), inner], name="nested")
    return keras.Model(start, [words(start), others(start), nested(start)])


def _equalization() -> keras.Model:
    """As a Sequential: it cannot be traced among functional layers of Keras 3.15.1."""
    return keras.Sequential([layers.Equalization((0, 255)), layers.Flatten()])


def _low_rank(dense: layers.Dense) -> layers.Dense:
    dense.build((None, *_ROW))
    dense.enable_lora(2)
    return dense


_POOLINGS = {
    f"{kind}Pooling{n}D": _one(
        lambda kind=kind, n=n: getattr(layers, f"{kind}Pooling{n}D")(2),  # type: ignore[misc]
        (_STEPS, _PICTURE, _VOLUME)[n - 1],
    )
    for kind in ("Max", "Average", "AdaptiveMax", "AdaptiveAverage")
    for n in (1, 2, 3)
}
_GLOBAL = {
    f"Global{kind}Pooling{n}D": _one(
        lambda kind=kind, n=n: getattr(layers, f"Global{kind}Pooling{n}D")(keepdims=True),  # type: ignore[misc]
        (_STEPS, _PICTURE, _VOLUME)[n - 1],
    )
    for kind in ("Max", "Average")
    for n in (1, 2, 3)
}
_CONVOLUTIONS = {
    f"Conv{n}D{transposed}": _one(
        lambda n=n, transposed=transposed: getattr(layers, f"Conv{n}D{transposed}")(  # type: ignore[misc]
            4, 3, padding="same", strides=2, activation="relu"
        ),
        (_STEPS, _PICTURE, _VOLUME)[n - 1],
    )
    for transposed in ("", "Transpose")
    for n in (1, 2, 3)
}
_SIZED = {
    f"{kind}{n}D": _one(
        lambda kind=kind, n=n: getattr(layers, f"{kind}{n}D")(1 if kind != "UpSampling" else 2),  # type: ignore[misc]
        (_STEPS, _PICTURE, _VOLUME)[n - 1],
    )
    for kind in ("Cropping", "ZeroPadding", "UpSampling")
    for n in (1, 2, 3)
}
_DROPPING = {
    f"SpatialDropout{n}D": _one(
        lambda n=n: getattr(layers, f"SpatialDropout{n}D")(0.5, seed=3),  # type: ignore[misc]
        (_STEPS, _PICTURE, _VOLUME)[n - 1],
    )
    for n in (1, 2, 3)
}
_LAYERS: dict[str, Build] = {
    **_POOLINGS,
    **_GLOBAL,
    **_CONVOLUTIONS,
    **_SIZED,
    **_DROPPING,
    "DepthwiseConv1D": _one(lambda: layers.DepthwiseConv1D(3, depth_multiplier=2), _STEPS),
    "DepthwiseConv2D": _one(lambda: layers.DepthwiseConv2D(3), _PICTURE),
    "SeparableConv1D": _one(lambda: layers.SeparableConv1D(4, 3), _STEPS),
    "SeparableConv2D": _one(lambda: layers.SeparableConv2D(4, 3), _PICTURE),
    "Conv2D dilated, in groups": _one(lambda: layers.Conv2D(6, 3, groups=3, dilation_rate=2), _PICTURE),
    "Dense": _one(
        lambda: layers.Dense(3, "gelu", kernel_initializer="he_normal", bias_regularizer=keras.regularizers.L1L2()),
        _ROW,
    ),
    "Dense with constraints": _one(
        lambda: layers.Dense(3, kernel_constraint="max_norm", bias_constraint=keras.constraints.NonNeg()), _ROW
    ),
    **{
        f"Dense made by {kind}": _one(
            lambda kind=kind: layers.Dense(3, kernel_initializer=getattr(keras.initializers, kind)()),  # type: ignore[misc]
            _ROW,
        )
        for kind in [
            "GlorotNormal",
            "HeUniform",
            "LecunNormal",
            "LecunUniform",
            "Orthogonal",
            "RandomNormal",
            "RandomUniform",
            "TruncatedNormal",
            "VarianceScaling",
            "Ones",
            "Zeros",
            "Identity",
            "Constant",
        ]
    },
    **{
        f"Dense held by {kind}": _one(
            lambda kind=kind: layers.Dense(3, kernel_constraint=getattr(keras.constraints, kind)()),  # type: ignore[misc]
            _ROW,
        )
        for kind in ("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")
    },
    **{
        f"Dense kept small by {kind}": _one(
            lambda kind=kind: layers.Dense(3, kernel_regularizer=getattr(keras.regularizers, kind)()),  # type: ignore[misc]
            _ROW,
        )
        for kind in ("L1", "L2", "L1L2", "OrthogonalRegularizer")
    },
    "Dense of half precision": _one(lambda: layers.Dense(3, dtype="mixed_float16"), _ROW),
    "Dense of low rank": _one(lambda: _low_rank(layers.Dense(3)), _ROW),
    "EinsumDense": _one(lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 7), bias_axes="d"), _STEPS),
    "Embedding": _masked,
    "ReversibleEmbedding": _tied,
    "Activation": _one(lambda: layers.Activation("hard_silu"), _ROW),
    "ELU": _one(lambda: layers.ELU(alpha=0.3), _ROW),
    "LeakyReLU": _one(lambda: layers.LeakyReLU(0.1), _ROW),
    "PReLU": _one(lambda: layers.PReLU(shared_axes=[1]), _STEPS),
    "ReLU": _one(lambda: layers.ReLU(6.0, 0.1, 0.5), _ROW),
    "Softmax": _one(lambda: layers.Softmax(axis=[1, 2]), _STEPS),
    "ActivityRegularization": _one(lambda: layers.ActivityRegularization(0.1, 0.1), _ROW),
    "StochasticDepth": _one(lambda: convnext.StochasticDepth(0.2), _PICTURE),
    "Identity": _one(layers.Identity, _ROW),
    "Masking": _one(lambda: layers.Masking(-1.0), _STEPS),
    "Dropout": _one(lambda: layers.Dropout(0.5, noise_shape=(None, 1), seed=1), _ROW),
    "AlphaDropout": _one(lambda: layers.AlphaDropout(0.5), _ROW),
    "GaussianDropout": _one(lambda: layers.GaussianDropout(0.5), _ROW),
    "GaussianNoise": _one(lambda: layers.GaussianNoise(0.5), _ROW),
    "Flatten": _one(layers.Flatten, _STEPS),
    "Permute": _one(lambda: layers.Permute((2, 1)), _STEPS),
    "RepeatVector": _one(lambda: layers.RepeatVector(3), _ROW),
    "Reshape": _one(lambda: layers.Reshape((-1, 2)), _ROW),
    "BatchNormalization": _one(lambda: layers.BatchNormalization(renorm=True), _ROW),
    "BatchNormalization of a picture": _one(lambda: layers.BatchNormalization(axis=1, scale=False), _PICTURE),
    "GroupNormalization": _one(lambda: layers.GroupNormalization(3), _PICTURE),
    "LayerNormalization": _one(lambda: layers.LayerNormalization(axis=[1, 2]), _STEPS),
    "RMSNormalization": _one(layers.RMSNormalization, _STEPS),
    "UnitNormalization": _one(layers.UnitNormalization, _STEPS),
    "SpectralNormalization": _one(lambda: layers.SpectralNormalization(layers.Conv2D(3, 2)), _PICTURE),
    "Add": _merging(layers.Add),
    "Average": _merging(layers.Average),
    "Concatenate": _merging(lambda: layers.Concatenate(axis=1), (2, 3), (4, 3)),
    "Dot": _merging(lambda: layers.Dot(axes=1, normalize=True)),
    "Maximum": _merging(layers.Maximum),
    "Minimum": _merging(layers.Minimum),
    "Multiply": _merging(layers.Multiply),
    "Subtract": _merging(layers.Subtract),
    "Attention": _attending(lambda: layers.Attention(use_scale=True, score_mode="concat")),
    "AdditiveAttention": _attending(layers.AdditiveAttention),
    "MultiHeadAttention": _attending(lambda: layers.MultiHeadAttention(2, 4, value_dim=3, output_shape=(7,))),
    "GroupQueryAttention": _attending(lambda: layers.GroupQueryAttention(4, num_query_heads=4, num_key_value_heads=2)),
    "LSTM": _one(lambda: layers.LSTM(4, return_sequences=True, use_cudnn=False), _STEPS),
    "GRU": _one(lambda: layers.GRU(4, reset_after=False, unroll=True), _STEPS),
    "SimpleRNN": _one(lambda: layers.SimpleRNN(4, return_state=False), (None, 3)),
    "Bidirectional": _one(_bidirectional, _STEPS),
    "RNN of cells": _one(_stateless_cells, _STEPS),
    "TimeDistributed": _one(lambda: layers.TimeDistributed(layers.Conv2D(2, 3)), (4, *_PICTURE)),
    "ConvLSTM1D": _one(lambda: layers.ConvLSTM1D(2, 3), (3, 6, 2)),
    "ConvLSTM2D": _one(lambda: layers.ConvLSTM2D(2, 3), (3, 6, 6, 2)),
    "ConvLSTM3D": _one(lambda: layers.ConvLSTM3D(2, 3), (3, 6, 6, 6, 2)),
    "Rescaling": _one(lambda: layers.Rescaling([1 / 127.5] * 3, offset=[-1.0] * 3), _PICTURE),
    "Resizing": _one(lambda: layers.Resizing(7, 9, interpolation="nearest", crop_to_aspect_ratio=True), _PICTURE),
    "CenterCrop": _one(lambda: layers.CenterCrop(7, 9), _PICTURE),
    "Normalization": _adapted(layers.Normalization, [[1.0, 2.0], [3.0, 5.0]], "float32", shape=(2,)),
    "Normalization with statistics": _one(lambda: layers.Normalization(mean=[2e9] * 6, variance=[4e18] * 6), _ROW),
    "Discretization": _adapted(lambda: layers.Discretization(num_bins=4), [[1.0], [2.0], [3.0]], "float32"),
    "lookups in nested models": _lookups,
    "Discretization by boundaries": _one(lambda: layers.Discretization([-1e6, 0.0, 1e6], output_mode="one_hot"), (1,)),
    "CategoryEncoding": _one(lambda: layers.CategoryEncoding(5, output_mode="multi_hot"), (3,), "int32"),
    "Hashing": _one(lambda: layers.Hashing(9, salt=[133, 2**40]), (1,), "int64"),
    "HashedCrossing": _merging(lambda: layers.HashedCrossing(7), (1,), (1,)),
    "IntegerLookup": _one(lambda: layers.IntegerLookup(vocabulary=[10, -4, 2**40], oov_token=-7), (1,), "int64"),
    "IntegerLookup adapted": _adapted(lambda: layers.IntegerLookup(mask_token=0), [[3], [9], [3]], "int64"),
    "IntegerLookup of frequencies": _adapted(
        lambda: layers.IntegerLookup(output_mode="tf_idf"), [[3], [9], [3]], "int64"
    ),
    "StringLookup": _one(lambda: layers.StringLookup(vocabulary=["a", "b/../c", "ü"]), (1,), "string"),
    "StringLookup adapted": _adapted(layers.StringLookup, [["é"], ["b"], ["b"]], "string"),
    "StringLookup inverted": _one(lambda: layers.StringLookup(vocabulary=["a", "b"], invert=True), (1,), "int64"),
    "TextVectorization adapted": _adapted(
        lambda: layers.TextVectorization(output_sequence_length=4, ngrams=2), ["hello world", "a b"], "string"
    ),
    "TextVectorization": _one(
        lambda: layers.TextVectorization(
            vocabulary=["a", "b"], idf_weights=[0.4, 0.7], output_mode="tf_idf", standardize="lower", split="character"
        ),
        (1,),
        "string",
    ),
    "STFTSpectrogram": _one(lambda: layers.STFTSpectrogram(frame_length=64, frame_step=32, fft_length=64), (640, 1)),
    "MelSpectrogram": _one(lambda: layers.MelSpectrogram(fft_length=256, sequence_stride=64), (1600,)),
    "Pipeline": _one(_pipeline, _PICTURE),
    "AugMix": _generative(lambda: layers.AugMix((0, 255))),
    "AutoContrast": _generative(lambda: layers.AutoContrast((0, 255))),
    "ContrastLimitedAdaptiveHistogramEqualization": _generative(
        lambda: layers.ContrastLimitedAdaptiveHistogramEqualization((0, 255))
    ),
    "CutMix": _generative(layers.CutMix),
    "Equalization": _equalization,
    "MixUp": _generative(layers.MixUp),
    "RandAugment": _generative(layers.RandAugment),
    "RandomBrightness": _generative(lambda: layers.RandomBrightness(0.2)),
    "RandomColorDegeneration": _generative(lambda: layers.RandomColorDegeneration(0.2)),
    "RandomColorJitter": _generative(lambda: layers.RandomColorJitter((0, 255), 0.2, 0.2, 0.2, 0.2)),
    "RandomContrast": _generative(lambda: layers.RandomContrast(0.2)),
    "RandomCrop": _generative(lambda: layers.RandomCrop(8, 8)),
    "RandomElasticTransform": _generative(layers.RandomElasticTransform),
    "RandomErasing": _generative(layers.RandomErasing),
    "RandomFlip": _generative(layers.RandomFlip),
    "RandomGaussianBlur": _generative(layers.RandomGaussianBlur),
    "RandomGrayscale": _generative(layers.RandomGrayscale),
    "RandomHue": _generative(lambda: layers.RandomHue(0.2)),
    "RandomInvert": _generative(layers.RandomInvert),
    "RandomPerspective": _generative(layers.RandomPerspective),
    "RandomPosterization": _generative(lambda: layers.RandomPosterization(4)),
    "RandomRotation": _generative(lambda: layers.RandomRotation(0.2)),
    "RandomSaturation": _generative(lambda: layers.RandomSaturation(0.2)),
    "RandomSharpness": _generative(lambda: layers.RandomSharpness(0.2)),
    "RandomShear": _generative(lambda: layers.RandomShear(0.2, 0.2)),
    "RandomTranslation": _generative(lambda: layers.RandomTranslation(0.2, 0.2)),
    "RandomZoom": _generative(lambda: layers.RandomZoom(0.2)),
    "Solarization": _generative(layers.Solarization),
}
LAYERS = MappingProxyType(_LAYERS)
