"""A Keras model out of an archive in memory: the public loader takes a path only.

Rules: the archive was scanned and its weights were checked before; safe mode is on, nothing is compiled, and no file is
touched.
"""

from typing import TYPE_CHECKING, BinaryIO

from maas_gateway.inference.conversion.refusal import NotConvertible, raise_if_out_of_memory, sentence

if TYPE_CHECKING:
    import keras


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

    archive.seek(0)
    try:
        model = saving_lib.load_model(archive, compile=False, safe_mode=True)
    except Exception as objection:
        raise_if_out_of_memory(objection)
        raise NotConvertible(f"Keras cannot load it: {sentence(str(objection))}") from objection
    if not isinstance(model, keras.Model):
        raise NotConvertible("the archive does not hold a model")
    return model
