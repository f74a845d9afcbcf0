"""Save what Keras itself would save for benign models, in a process of its own.

Run as `python benign_keras.py <folder> layers`: `<folder>/<number>.keras` for each model of `benign_layers` and
`benign_operations`, and `names.json`. As `python benign_keras.py <folder> <architecture> …`: `<architecture>.json`, the
config alone, since the weights of an architecture are random and no scanner looks at them.
"""

import json
import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]


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


if __name__ == "__main__":
    sys.path.insert(0, str(_TESTS))
    import keras

    keras.utils.set_random_seed(5)
    target, *wanted = sys.argv[1:]
    if wanted == ["layers"]:
        save_layers(Path(target))
    else:
        save_architectures(Path(target), wanted)
