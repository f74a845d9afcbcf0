"""A model's configuration, in the form of Triton's that load generators and clients read.

Rules: tells what is in force here and nothing else: datatypes and dimensions (without the batch's, which
`max_batch_size` stands for), that requests are batched as they come, how many rows at once, how long a line may be.

Source: NVIDIA Triton, "Model Configuration Extension"; `model_config.proto` for the names.
"""

from collections.abc import Sequence

import orjson

from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec


def write_configuration(
    model: str, platform: str, signature: ModelSignature, *, max_rows: int, max_queue: int
) -> bytes:
    """Return the body that tells how a model is run.

    Args:
        model: its name.
        platform: what was uploaded and what computes it.
        signature: its inputs and outputs.
        max_rows: rows that the engine is given at once.
        max_queue: requests that may wait.
    """
    has_batch = signature.has_batch
    body: dict[str, object] = {
        "name": model,
        "platform": platform,
        "backend": platform.rpartition("_")[2],
        "version_policy": {"all": {}},
        "max_batch_size": max_rows if has_batch else 0,
        "input": _ports(signature.inputs, has_batch=has_batch),
        "output": _ports(signature.outputs, has_batch=has_batch),
        "instance_group": [{"name": model, "kind": "KIND_CPU", "count": 1}],
        "parameters": {},
        "model_transaction_policy": {"decoupled": False},
    }
    if has_batch:
        policy = {"max_queue_size": max_queue, "allow_timeout_override": True}
        body["dynamic_batching"] = {"max_queue_delay_microseconds": 0, "default_queue_policy": policy}
    return orjson.dumps(body)


def _ports(specs: Sequence[TensorSpec], *, has_batch: bool) -> list[dict[str, object]]:
    return [
        {
            "name": spec.name,
            "data_type": "TYPE_STRING" if spec.datatype is Datatype.BYTES else f"TYPE_{spec.datatype.value}",
            "dims": list(spec.shape[1:] if has_batch else spec.shape),
        }
        for spec in specs
    ]
