"""Routes of models, versions and labels."""

import base64
import binascii
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.requests import ClientDisconnect

from maas_gateway.admin.callers import RESPONSES, Caller, Gate
from maas_gateway.admin.schemas import LabelTarget, ModelAnswer, ModelsAnswer, VersionAnswer
from maas_gateway.clock import Deadline
from maas_gateway.controlplane.upload import Incoming
from maas_gateway.errors import InvalidRequest
from maas_gateway.identifiers import MAX_VERSION, ModelRef
from maas_gateway.web.bodies import body_schema, read_body

router: Final = APIRouter(prefix="/admin/v1/models", tags=["Models"], responses=RESPONSES)

_SETTLE_S: Final = 10.0
_SHA256_BYTES: Final = 32

Number = Annotated[int, Path(ge=1, le=MAX_VERSION, description="The version's number.")]
_UPLOAD: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    "parameters": [
        {
            "name": "Content-Digest",
            "in": "header",
            "schema": {"type": "string"},
            "description": "`sha-256=:<base64>:` (RFC 9530); what arrives is compared with it.",
        }
    ],
}


@router.get("")
async def list_models(gateway: Gate, caller: Caller) -> ModelsAnswer:
    """List the models that you may read."""
    return ModelsAnswer(models=[ModelAnswer.of(model) for model in await gateway.browse.models(caller)])


@router.get("/{name}")
async def get_model(gateway: Gate, caller: Caller, name: str) -> ModelAnswer:
    """Describe a model, its versions and its labels."""
    return ModelAnswer.of(await gateway.browse.model(caller, name))


@router.get("/{name}/versions/{version}")
async def get_version(gateway: Gate, caller: Caller, name: str, version: Number) -> VersionAnswer:
    """Describe a version."""
    return VersionAnswer.of(await gateway.browse.version(caller, ModelRef(name, version)))


@router.put(
    "/{name}/versions/{version}",
    status_code=201,
    openapi_extra=_UPLOAD,
    responses={
        200: {"description": "The same content was there already.", "model": VersionAnswer},
        413: {"description": "The model is too large.", "content": RESPONSES[400]["content"]},
        422: {
            "description": "The model was looked at and refused; the sentence says why.",
            "content": RESPONSES[400]["content"],
        },
        501: {"description": "The format is not taken.", "content": RESPONSES[400]["content"]},
    },
)
async def upload(
    request: Request,
    response: Response,
    gateway: Gate,
    caller: Caller,
    name: str,
    version: Number,
    model_format: Annotated[Literal["keras", "savedmodel", "tflite", "onnx"], Query(alias="format")] = "keras",
) -> VersionAnswer:
    """Upload a model as a version, stage `staged`.

    It is scanned, converted in a confined process, compared with itself, and sealed. Nothing
    serves until it is promoted.
    """
    declared = request.headers.get("content-length", "")
    incoming = Incoming(
        format=model_format,
        digest=_declared_digest(request),
        declared_bytes=int(declared) if declared.isdigit() else None,
        chunks=_chunks(request),
    )
    staged, is_new = await gateway.upload.upload(caller, ModelRef(name, version), incoming)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/admin/v1/models/{name}/versions/{version}"
    return VersionAnswer.of(staged)


@router.post("/{name}/versions/{version}:promote")
async def promote(
    gateway: Gate,
    caller: Caller,
    name: str,
    version: Number,
    exclusive: Annotated[bool, Query(description="Retire every other version in the same step.")] = False,  # noqa: FBT002
) -> VersionAnswer:
    """Have a version serve; answers once it is in memory here, or after 10 s."""
    promoted = await gateway.promote.promote(caller, ModelRef(name, version), is_exclusive=exclusive)
    await gateway.reconciler.settle(caller.tenant, name, Deadline.after(_SETTLE_S))
    return VersionAnswer.of(promoted)


@router.post("/{name}/versions/{version}:retire")
async def retire(gateway: Gate, caller: Caller, name: str, version: Number) -> VersionAnswer:
    """Have a version serve no longer; it can be promoted again."""
    return VersionAnswer.of(await gateway.promote.retire(caller, ModelRef(name, version)))


@router.put("/{name}/labels/{label}", openapi_extra=body_schema(LabelTarget, {"version": 1}))
async def put_label(request: Request, gateway: Gate, caller: Caller, name: str, label: str) -> ModelAnswer:
    """Point a label at a serving version."""
    target = await read_body(request, LabelTarget)
    return ModelAnswer.of(await gateway.promote.label(caller, ModelRef(name, None, label), target.version))


@router.delete("/{name}/labels/{label}", status_code=204)
async def delete_label(gateway: Gate, caller: Caller, name: str, label: str) -> None:
    """Delete a label."""
    await gateway.promote.unlabel(caller, ModelRef(name, None, label))


def _declared_digest(request: Request) -> bytes | None:
    text = request.headers.get("content-digest") or request.headers.get("digest")
    if text is None:
        return None
    for part in text.split(","):
        algorithm, _, value = part.strip().partition("=")
        if algorithm.lower() == "sha-256":
            try:
                digest = base64.b64decode(value.strip().strip(":"), validate=True)
            except binascii.Error:
                digest = b""
            if len(digest) == _SHA256_BYTES:
                return digest
    raise InvalidRequest("Content-Digest: sha-256=:<base64 of 32 bytes>: (RFC 9530)")


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as cause:
        raise InvalidRequest("the upload broke off; nothing was kept") from cause
