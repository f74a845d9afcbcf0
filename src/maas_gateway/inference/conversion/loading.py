"""A Keras model out of an archive in memory: the public loader takes a path only, and unpacks vocabularies to a disk.

Rules: the archive was scanned and its weights were checked before; safe mode is on, nothing is compiled, and no file is
touched: vocabularies are written into the configuration before Keras reads it.
"""

import io
import json
import zipfile
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from maas_gateway.inference.conversion.refusal import NotConvertible, keras_reason, raise_if_out_of_memory
from maas_gateway.inference.conversion.weights import WEIGHTS
from maas_gateway.scanning.keras_assets import limit_of, lookups, with_vocabularies
from maas_gateway.scanning.scanner import Refusal
from maas_gateway.scanning.strict_json import JSON

if TYPE_CHECKING:
    import h5py
    import keras

_CONFIG: Final = "config.json"


def load(archive: BinaryIO) -> "keras.Model":
    """Load a model.

    Args:
        archive: the whole `.keras` file, in memory.

    Raises:
        NotConvertible: Keras cannot load it, or it is no model.
    """
    # imported where it runs: Keras and TensorFlow are loaded in the confined child only
    import keras
    from keras.src.saving import saving_lib

    with zipfile.ZipFile(archive) as members:
        weights = saving_lib.H5IOStore(io.BytesIO(members.read(WEIGHTS)), mode="r")
        try:
            config = _configuration(members, weights.h5_file)
            model = saving_lib._model_from_config(config, None, compile=False, safe_mode=True)  # noqa: SLF001  see above
            _fill(model, weights)
        except (NotConvertible, MemoryError):
            raise
        except Exception as objection:
            raise_if_out_of_memory(objection)
            raise NotConvertible(f"Keras cannot load it: {keras_reason(str(objection))}") from objection
        finally:
            weights.close()
    if not isinstance(model, keras.Model):
        raise NotConvertible("the archive does not hold a model")
    return model


def _configuration(members: zipfile.ZipFile, weights: "h5py.File") -> str:
    """Return the configuration with the vocabularies of the archive in it."""
    text = members.read(_CONFIG).decode()
    texts = {name: members.read(name) for name in members.namelist() if limit_of(name) is not None}
    if not texts:
        return text
    config = cast("JSON", json.loads(text))
    found = [lookup for name, lookup in lookups(config).items() if name in texts]
    try:
        with_vocabularies(config, texts, lambda path: [float(weight) for weight in weights[f"{path}/vars/idf_weights"]])
    except Refusal as refusal:
        raise NotConvertible(refusal.finding.message) from refusal
    for lookup in found:
        vocabulary, frequencies = lookup.config["vocabulary"], lookup.config.get("idf_weights")
        if isinstance(vocabulary, list) and isinstance(frequencies, list):
            del frequencies[len(vocabulary) :]  # there may be zeros behind them, up to the most tokens
    return json.dumps(config)


def _fill(model: "keras.Model", weights: object) -> None:
    # imported where it runs: see `load`
    from keras.src.saving import saving_lib

    failed: set[int] = set()
    errors: dict[int, tuple[object, Exception]] = {}
    saving_lib._load_state(  # noqa: SLF001  the public way leads over a path
        model,
        weights_store=weights,
        assets_store=None,
        inner_path="",
        visited_saveables=set(),
        failed_saveables=failed,
        error_msgs=errors,
    )
    if failed:
        raise next(iter(errors.values()))[1]
