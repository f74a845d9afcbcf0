"""Save what Keras itself would save for benign models, in a process of its own.

Run as `python benign_keras.py <folder> layers`: `<folder>/<number>.keras` for each model of `benign_layers` and
`benign_operations`, and `names.json`. As `python benign_keras.py <folder> <architecture> …`: `<architecture>.json`, the
config alone, since the weights of an architecture are random and no scanner looks at them. As `python benign_keras.py
<folder> answering <architecture>`: `model.keras` with random weights, rescaled until the largest output exceeds 0.1 (so
that a difference relative to it means something), `rows.npy`, and Keras's answers to them in `answers.npy`.
"""

import json
import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]
_N_ROWS = 3
_FREE_SIZE = 224
_NOT_TINY = 0.1
_MAX_STEPS = 200
_FINE = 1.2


def save_layers(folder: Path) -> None:
    """Save every small model as an archive, and which is which."""
    from builders.benign_layers import LAYERS
    from builders.benign_operations import OPERATIONS

    models = {**LAYERS, **OPERATIONS}
    for number, build in enumerate(models.values()):
        build().save(folder / f"{number}.keras")
    (folder / "names.json").write_text(json.dumps(list(models)))


def save_architectures(folder: Path, names: list[str]) -> None:
    """Write the configs of architectures of `keras.applications`; their variables are never made."""
    import keras
    from keras.src.backend import StatelessScope

    for name in names:
        with StatelessScope():
            model = getattr(keras.applications, name)(weights=None)
            config = json.dumps(keras.saving.serialize_keras_object(model))
        (folder / f"{name}.json").write_text(config)
        keras.backend.clear_session()


def save_answering(folder: Path, name: str) -> None:
    """Save one architecture whose answers are not tiny, rows to ask it, and its answers."""
    import keras
    import numpy as np

    model = getattr(keras.applications, name)(weights=None)
    shape = [size or _FREE_SIZE for size in model.inputs[0].shape[1:]]
    # The preprocessing inside some architectures takes pixels; others get what the conversion tries them on, so that
    # answers which are large enough here are so there, and no larger.
    takes_pixels = any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    rng = np.random.default_rng(3)
    shape = (_N_ROWS, *shape)
    rows = (rng.uniform(0, 255, shape) if takes_pixels else rng.standard_normal(shape)).astype(np.float32)
    last = next(layer for layer in reversed(model.layers) if layer.get_weights())
    for factor in (2.0, 1.2):  # far first, then only just: beyond that a softmax says less the larger it is
        for _ in range(_MAX_STEPS):
            answers = np.asarray(model(rows, training=False))
            if np.abs(answers).max() > _NOT_TINY:
                break
            last.set_weights([np.float32(factor) * weight for weight in last.get_weights()])
        if factor > _FINE:
            last.set_weights([weight / np.float32(factor) for weight in last.get_weights()])
    model.save(folder / "model.keras")
    np.save(folder / "rows.npy", rows)
    np.save(folder / "answers.npy", answers)


if __name__ == "__main__":
    sys.path.insert(0, str(_TESTS))
    import keras

    keras.utils.set_random_seed(7)
    target, *wanted = sys.argv[1:]
    if wanted == ["layers"]:
        save_layers(Path(target))
    elif wanted[0] == "answering":
        save_answering(Path(target), wanted[1])
    else:
        save_architectures(Path(target), wanted)
