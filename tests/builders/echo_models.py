"""ONNX models that answer what they are given, one for each datatype, and one of two inputs."""

from collections.abc import Mapping

from onnx import TensorProto

from builders.conversions import pieces
from builders.gateways import World
from builders.onnx_models import ECHOED, graph, model_of, node, value
from maas_gateway.clock import Deadline
from maas_gateway.controlplane.arriving import Incoming
from maas_gateway.identifiers import ModelRef

ELEMENTS: Mapping[str, int] = {**ECHOED, "BF16": TensorProto.BFLOAT16}
WIDTH = 2
SERVED_WITHIN_S = 30.0


def echo(**ports: str) -> bytes:
    """Return a model whose output `<name>_out` is its input `<name>`, (rows, 2), or (rows, 1) of BYTES.

    Args:
        ports: the datatype of each input.
    """
    shapes = {name: ["n", 1 if datatype == "BYTES" else WIDTH] for name, datatype in ports.items()}
    inputs = [value(name, shapes[name], ELEMENTS[datatype]) for name, datatype in ports.items()]
    outputs = [value(f"{name}_out", shapes[name], ELEMENTS[datatype]) for name, datatype in ports.items()]
    nodes = [node("Identity", name, f"{name}_out") for name in ports]
    return model_of(graph(nodes, inputs, outputs)).SerializeToString()


async def served_onnx(world: World, slug: str, name: str, content: bytes) -> None:
    """Upload an ONNX model as its tenant's owner and promote it; return once it answers."""
    owner = await world.principal(world.owners[slug])
    incoming = Incoming(format="onnx", digest=None, declared_bytes=len(content), chunks=pieces(content))
    await world.gateway.upload.upload(owner, ModelRef(name, 1), incoming)
    await world.gateway.promote.promote(owner, ModelRef(name, 1))
    await world.gateway.reconciler.settle(owner.tenant, name, Deadline.after(SERVED_WITHIN_S))
