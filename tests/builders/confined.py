"""Versions that are computed in a process of their own: sealed, signed and published as an upload would."""

import hashlib
from dataclasses import replace

from builders.gateways import World
from maas_gateway.clock import Deadline
from maas_gateway.identifiers import ModelRef
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Place
from maas_gateway.registry.manifest import KIND, manifest_of
from maas_gateway.registry.model import ArtifactRole, ModelVersion, Placement, ServingPlan, Stage
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec

SERVED_WITHIN_S = 60.0
ENDLESS = ModelSignature(
    (TensorSpec("x", Datatype.FP32, (-1, 3)),),
    (TensorSpec("y", Datatype.FP32, (-1, 3)),),
)
"""Of `endless.tflite`, which computes for ever if the sum of all its rows is positive."""


async def confined_model(
    world: World,
    slug: str,
    name: str,
    plan: bytes,
    *,
    signature: ModelSignature = ENDLESS,
    runtime: str = "litert",
    version: int = 1,
) -> ModelVersion:
    """Publish a plan with `placement=process` as its tenant's owner; return once it answers or cannot.

    Args:
        world: the gateway.
        slug: the tenant.
        name: the model's name.
        plan: what the runtime loads.
        signature: what it takes and gives, in the plan's own order.
        runtime: which loads it.
        version: its number.
    """
    owner = await world.principal(world.owners[slug])
    gateway = world.gateway
    acting, artifacts, statements = gateway.upload._acting, gateway.upload._artifacts, gateway.upload._statements
    async with acting.database.write(owner.tenant) as session:
        model = await store.ensure_model(session, name, acting.clock.now())
    role = ArtifactRole(runtime)
    sealed = await artifacts.seal(Place(owner.tenant, model.model_id, version), role, [plan])
    unsigned = ModelVersion(
        tenant=owner.tenant,
        model_id=model.model_id,
        model=name,
        version=version,
        stage=Stage.STAGED,
        format="tflite",
        digest=hashlib.sha256(plan).hexdigest(),
        size_bytes=len(plan),
        signature=signature,
        plan=ServingPlan(
            runtime=runtime,
            input_order=tuple(range(len(signature.inputs))),
            output_order=tuple(range(len(signature.outputs))),
            max_relative_error=0.0,
            placement=Placement.PROCESS,
            tolerance=1e-6,
            took_us=1,
        ),
        created_by=owner.name,
        created_at=acting.clock.now(),
        artifacts=(sealed,),
    )
    staged = replace(unsigned, manifest=await statements.sign(KIND, manifest_of(unsigned, scanners={})))
    async with acting.database.write(owner.tenant) as session:
        await store.add_version(session, staged)
    served = await gateway.promote.promote(owner, ModelRef(name, version))
    await gateway.reconciler.settle(owner.tenant, name, Deadline.after(SERVED_WITHIN_S))
    return served
