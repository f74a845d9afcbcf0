"""Routes of quarantine: a person's release, throwing away, looking again with newer rules."""

from typing import Annotated, Any, Final

from fastapi import Query, Request

from maas_gateway.admin.callers import Caller, Gate
from maas_gateway.admin.model_schemas import NewRelease, VersionAnswer
from maas_gateway.admin.models import Name, Number
from maas_gateway.admin.repeating import management_router
from maas_gateway.admin.schemas import OperationAnswer
from maas_gateway.identifiers import ModelRef
from maas_gateway.permissions import Permission
from maas_gateway.web.bodies import body_schema, read_body
from maas_gateway.web.description import needs

router: Final = management_router("Models")

Strict = Annotated[
    bool,
    Query(description="Quarantine what serves too, where the rules newly ask for a person; else it serves on."),
]
DryRun = Annotated[bool, Query(description="Only look, and tell what would be done.")]


def _release_body() -> dict[str, Any]:
    described = body_schema(NewRelease, {"reason": "looked at the preprocessing"})
    return {**described, "requestBody": {**described["requestBody"], "required": False}}


@router.post(
    "/models/{name}/versions/{version}:release", openapi_extra=needs(Permission.MODEL_PROMOTE, _release_body())
)
async def release(request: Request, gateway: Gate, caller: Caller, name: Name, version: Number) -> VersionAnswer:
    """Let a version out of quarantine, because you have looked at its findings: it is `staged` then.

    409 where a finding refuses it: that is nobody's to release. 403 for its uploader, where your tenant asks for a
    second person.
    """
    reason = (await read_body(request, NewRelease)).reason
    ref = ModelRef(name, version)
    return VersionAnswer.of(await gateway.admission.quarantine.release(caller, ref, reason=reason))


@router.delete("/models/{name}/versions/{version}", openapi_extra=needs(Permission.MODEL_WRITE), status_code=204)
async def delete_version(gateway: Gate, caller: Caller, name: Name, version: Number) -> None:
    """Delete a version that does not serve, for good: its keys first, then the rest."""
    await gateway.admission.delete.version(caller, ModelRef(name, version))


@router.delete("/models/{name}", openapi_extra=needs(Permission.MODEL_WRITE), status_code=204)
async def delete_model(gateway: Gate, caller: Caller, name: Name) -> None:
    """Delete a model that has no version, with the shares, bindings and quotas that name it; one with versions is erased with `:erase`."""
    await gateway.admission.delete.model(caller, name)


@router.post("/models:rescan", openapi_extra=needs(Permission.MODEL_PROMOTE))
async def rescan(
    gateway: Gate,
    caller: Caller,
    strict: Strict = False,  # noqa: FBT002
    dry_run: DryRun = False,  # noqa: FBT002
) -> OperationAnswer:
    """Look at every version of your tenant again with today's rules, while requests go on.

    What they refuse is taken out of serving into quarantine, and its labels go. Answers the operation, whose `result`
    says how many were looked at, passed, wait for a person, are refused, and which: finished if it was short, else
    running; follow it at /admin/v1/operations/{id}.
    """
    operation = await gateway.admission.rescan.own(caller, is_strict=strict, is_dry_run=dry_run)
    return OperationAnswer.of(operation)


@router.post("/tenants:rescan", openapi_extra=needs(Permission.TENANT_WRITE))
async def rescan_every_tenant(
    gateway: Gate,
    caller: Caller,
    strict: Strict = False,  # noqa: FBT002
    dry_run: DryRun = False,  # noqa: FBT002
) -> OperationAnswer:
    """Have every tenant's versions looked at again, as `POST /admin/v1/models:rescan` does in each; answers numbers only.

    What was done stands in each tenant's own record, under your name.
    """
    operation = await gateway.admission.rescan.everywhere(caller, is_strict=strict, is_dry_run=dry_run)
    return OperationAnswer.of(operation)
