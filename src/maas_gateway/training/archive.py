"""A Keras model as the bytes of its `.keras` archive, without a file.

Keras's own saver makes a temporary directory for assets even where there are none, and a
confined child has no directory to make one in. This writes the same three members.
"""

import io
import zipfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import keras

_WEIGHTS: Final = "model.weights.h5"


def archive_of(model: "keras.Model") -> bytes:
    """Return the archive of a model that has no assets.

    Args:
        model: built; layers with files of their own (vocabularies) lose them.

    Returns:
        what `model.save("….keras")` would have written.

    Source: keras 3.15.1, `saving_lib._save_model_to_fileobj`.
    """
    # imported where it runs: Keras is loaded in the confined child only
    from keras.src.saving import saving_lib

    config, metadata = saving_lib._serialize_model_as_json(model)  # noqa: SLF001  the public saver takes a path only
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("metadata.json", metadata)
        archive.writestr("config.json", config)
        weights = saving_lib.H5IOStore(_WEIGHTS, archive=archive, mode="w")
        saving_lib._save_state(  # noqa: SLF001  as above
            model, weights_store=weights, assets_store=None, inner_path="", visited_saveables=set()
        )
        weights.close()
    return target.getvalue()
