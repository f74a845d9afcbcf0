"""A child that rebuilds many archives, one after another: one TensorFlow for all of them.

The request is the archives, the argument `sizes` how long each is. The answer says of each what became of it, and its
payload holds the rebuilt models.
"""

import io
from typing import cast

from maas_gateway.confinement.channel import Channel
from maas_gateway.inference.conversion.answer import REBUILT_TOLERANCE
from maas_gateway.inference.conversion.comparison import compare, engine_of, references_of
from maas_gateway.inference.conversion.loading import load
from maas_gateway.inference.conversion.lowering import describe
from maas_gateway.inference.conversion.rebuilt import flatten, rebuild_flat, rebuild_from
from maas_gateway.inference.conversion.refusal import NotConvertible
from maas_gateway.inference.conversion.weights import check_archive


def serve(channel: Channel) -> None:
    """Answer, for each archive, with the difference of its rebuilt model, or why there is none."""
    content = io.BytesIO(b"".join(channel.request()))
    told, payload = [], bytearray()
    for size in cast("list[int]", channel.arguments["sizes"]):
        said, rebuilt = _rebuild(content.read(size))
        told.append({**said, "n_bytes": len(rebuilt)})
        payload += rebuilt
        channel.progress(n_done=len(told))
    channel.answer({"told": told}, payload)


def _rebuild(archive: bytes) -> tuple[dict[str, object], bytes]:
    import keras

    try:
        check_archive(io.BytesIO(archive))
        model = load(io.BytesIO(archive))
        inputs, outputs = describe(model)
        references = references_of(model, inputs)
        flat = flatten(model)
        error, n_compared = compare(engine_of(rebuild_flat(flat)), references, outputs, tolerance=REBUILT_TOLERANCE)
        rebuilt = b"".join(flat.pieces())
        again = b"".join(flatten(rebuild_from(rebuilt)).pieces())
    except NotConvertible as refusal:
        return {"refused": str(refusal)}, b""
    finally:
        keras.backend.clear_session()
    return {"error": error, "n_compared": n_compared, "n_variables": len(flat.variables), "again": len(again)}, rebuilt
