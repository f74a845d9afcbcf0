"""What the TensorFlow Serving door makes of a path."""

from maas_gateway.identifiers import ModelRef
from maas_gateway.protocols.tf_serving import routes


def test_paths_longer_than_any_models_are_read_and_not_kept_in_memory() -> None:
    n_kept = routes._parsed.cache_info().currsize
    name = "a" * 600
    assert routes._target(f"/v1/models/{name}:predict") == (ModelRef(name), "predict")
    assert routes._parsed.cache_info().currsize == n_kept
