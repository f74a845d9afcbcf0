"""What the confined child does for the seed network: train it, test it, hand it over as bytes.

The recipe: scikit-learn's breast cancer data (WDBC, 569 rows of 30 numbers, label 1 is benign), split
80 to 20 with a fixed seed and stratified; standardised in the model itself by what the training
split shows; Dense 128 relu, 64 relu, 1 sigmoid; adam, binary cross-entropy, 10 epochs of batches of 32.

Source: Wolberg, Street, Mangasarian: Breast Cancer Wisconsin (Diagnostic), UCI, 1995.
"""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from maas_gateway.confinement.channel import Channel
from maas_gateway.training.archive import archive_of

if TYPE_CHECKING:
    import keras

EPOCHS: Final = 10
_BATCH_ROWS: Final = 32
_HELD_OUT: Final = 0.2
_SEED: Final = 42

Rows = NDArray[np.float32]


def serve(channel: Channel) -> None:
    """Train, and answer with the archive."""
    # imported where it runs: Keras is loaded in the confined child only
    import keras

    keras.utils.set_random_seed(_SEED)
    (rows, labels), (held_out, held_out_labels) = _split()
    model = build(rows)
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    teller = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: channel.progress(
            epoch=epoch + 1, of=EPOCHS, loss=float(logs["loss"]), accuracy=float(logs["accuracy"])
        )
    )
    model.fit(rows, labels, epochs=EPOCHS, batch_size=_BATCH_ROWS, verbose=0, callbacks=[teller])
    _, accuracy = model.evaluate(held_out, held_out_labels, verbose=0)
    example = rounded(held_out[int(np.flatnonzero(held_out_labels)[0])])  # benign: an answer near 1 reads well
    expected = float(np.asarray(model(np.array([example], dtype=np.float32), training=False))[0, 0])
    channel.answer({"accuracy": float(accuracy), "example": example, "expected": expected}, archive_of(model))


def build(rows: Rows) -> "keras.Model":
    """Return the seed network, not trained, standardising as `rows` ask for.

    Args:
        rows: (batch, 30) float32, the training split.
    """
    # imported where it runs: Keras is loaded in the confined child only
    import keras

    standardised = keras.layers.Normalization(name="standardise")
    standardised.adapt(rows)
    return keras.Sequential(
        [
            keras.Input((rows.shape[1],), name="measurements"),
            standardised,
            keras.layers.Dense(128, activation="relu", name="first"),
            keras.layers.Dense(64, activation="relu", name="second"),
            keras.layers.Dense(1, activation="sigmoid", name="benign"),
        ],
        name="breast_cancer",
    )


def rounded(row: Rows) -> list[float]:
    """Return a row with four significant digits, so that it prints on a command line."""
    return [float(f"{value:.4g}") for value in row]


def _split() -> tuple[tuple[Rows, Rows], tuple[Rows, Rows]]:
    # imported where it runs: scikit-learn is loaded in the confined child only
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    rows, labels = load_breast_cancer(return_X_y=True)
    rows, held_out, labels, held_out_labels = train_test_split(
        rows.astype(np.float32),
        labels.astype(np.float32),
        test_size=_HELD_OUT,
        random_state=_SEED,
        stratify=labels,
    )
    return (rows, labels), (held_out, held_out_labels)
