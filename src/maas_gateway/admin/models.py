"""Routes of models, versions and labels."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Request, Response
from starlette.requests import ClientDisconnect

from maas_gateway.admin.callers import Caller, Gate
from maas_gateway.admin.model_schemas import ModelAnswer, ModelsAnswer, VersionAnswer
from maas_gateway.admin.paging import ByName, next_cursor
from maas_gateway.admin.repeating import management_router
from maas_gateway.admin.schemas import LabelTarget, OperationAnswer
from maas_gateway.clock import Deadline
from maas_gateway.controlplane.arriving import MAX_SAMPLE_BYTES, Incoming
from maas_gateway.errors import ArtifactRefused, DeadlineExceeded, InvalidRequest, PayloadTooLarge
from maas_gateway.identifiers import MAX_VERSION, ModelRef
from maas_gateway.operations.operation import OperationState
from maas_gateway.permissions import Permission
from maas_gateway.registry.openssf import MAX_BUNDLE_BYTES
from maas_gateway.registry.publishers import PublisherSignature, SignatureForm
from maas_gateway.web.bodies import body_schema, read_body
from maas_gateway.web.description import needs, problem_answers
from maas_gateway.web.exchange import length_of
from maas_gateway.web.structured_fields import parse_dictionary, parse_item

router: Final = management_router("Models", below="/models")

_SETTLE_S: Final = 10.0
_IDLE_S: Final = 30.0
_SHA256_BYTES: Final = 32
_SIGNATURE_FIELDS: Final = (
    'Model-Signature: sig=:<base64 of the signature>:, keyid="<the key\'s id>"; '
    "or Model-Signature-Bundle: :<base64 of the bundle>: (RFC 9651)"
)

Name = Annotated[str, Path(description="The model's name.", examples=["breast-cancer"])]
Number = Annotated[int, Path(ge=1, le=MAX_VERSION, description="The version's number.", examples=[1])]
Label = Annotated[str, Path(description="A name that points at a serving version.", examples=["stable"])]
_UPLOAD: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "The model's file, as it lies on disk; before it the publisher's sample, if there is one.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    "parameters": [
        {
            "name": "Content-Digest",
            "in": "header",
            "schema": {"type": "string"},
            "description": "`sha-256=:<base64>:` (RFC 9530); what arrives is compared with it.",
        },
        {
            "name": "Model-Sample-Length",
            "in": "header",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_SAMPLE_BYTES},
            "description": (
                "So many bytes before the model are a sample of your own: a request as `/v2/models/{model}/infer` "
                "takes it in JSON, of real rows. The model's forms are compared on it besides random inputs. It is not "
                "kept. `Content-Digest` is of both, a publisher's signature of the model alone."
            ),
        },
        {
            "name": "Model-Signature",
            "in": "header",
            "schema": {"type": "string"},
            "description": (
                "A publisher's signature of the model, made with a key that your tenant has registered: "
                '`sig=:<base64>:, keyid="<the key\'s id>"` (a dictionary, RFC 9651). ECDSA on P-256 with SHA-256, '
                "DER as `openssl dgst -sha256 -sign key.pem model.keras` writes it, or r ‖ s. Without `keyid`, every "
                "registered key is tried. A tenant may demand a signature: `PUT /admin/v1/publishing-rules`."
            ),
        },
        {
            "name": "Model-Signature-Bundle",
            "in": "header",
            "schema": {"type": "string"},
            "description": (
                "The same as an OpenSSF model-signing bundle, in the place of `Model-Signature`: `:<base64 of the "
                f"JSON>:`, what `model_signing sign key` writes about the one file; at most {MAX_BUNDLE_BYTES} bytes."
            ),
        },
    ],
}


@router.get("", openapi_extra=needs("any"))
async def list_models(gateway: Gate, caller: Caller, asked: ByName) -> ModelsAnswer:
    """List the models that you may read, by name."""
    page = await gateway.browse.models(caller, asked)
    return ModelsAnswer(models=[ModelAnswer.of(model) for model in page], next_cursor=next_cursor(page))


@router.get("/{name}", openapi_extra=needs(Permission.MODEL_READ))
async def get_model(gateway: Gate, caller: Caller, name: Name) -> ModelAnswer:
    """Describe a model, its versions and its labels."""
    return ModelAnswer.of(await gateway.browse.model(caller, name))


@router.get("/{name}/versions/{version}", openapi_extra=needs(Permission.MODEL_READ))
async def get_version(gateway: Gate, caller: Caller, name: Name, version: Number) -> VersionAnswer:
    """Describe a version."""
    return VersionAnswer.of(await gateway.browse.version(caller, ModelRef(name, version)))


@router.put(
    "/{name}/versions/{version}",
    status_code=201,
    openapi_extra=needs(Permission.MODEL_WRITE, _UPLOAD),
    responses={
        200: {"description": "The same content was there already.", "model": VersionAnswer},
        **problem_answers(
            (
                "The model is too large.",
                PayloadTooLarge("the model is larger than the 536870912 bytes that are accepted"),
            ),
            (
                "The model was looked at and refused; the sentence says why.",
                ArtifactRefused("layer 'encoder': a Lambda layer holds code"),
            ),
        ),
    },
)
async def upload(
    request: Request,
    response: Response,
    gateway: Gate,
    caller: Caller,
    name: Name,
    version: Number,
    model_format: Annotated[
        Literal["keras", "savedmodel", "tflite", "onnx"], Query(alias="format", description="What the body is.")
    ] = "keras",
    runtime: Annotated[
        Literal["litert", "onnx", "openvino", "keras", "tensorflow"] | None,
        Query(description="Which of its forms is to serve: the best, unless this names one."),
    ] = None,
) -> VersionAnswer:
    """Upload a model as a version, stage `staged`, or `quarantined` if a scanner asks for a person.

    It is scanned; rebuilt, and converted where that is possible, in a confined process; every form is compared with
    the model as it was uploaded, and sealed; the upload itself is not kept. Nothing serves until it is promoted.
    """
    declared = request.headers.get("content-length", "")
    incoming = Incoming(
        format=model_format,
        digest=_declared_digest(request),
        declared_bytes=length_of(declared.encode("latin-1")),
        chunks=_chunks(request),
        signature=_declared_signature(request),
        sample_bytes=_declared_sample(request),
        runtime=runtime,
    )
    staged, is_new = await gateway.upload.upload(caller, ModelRef(name, version), incoming)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/admin/v1/models/{name}/versions/{version}"
    return VersionAnswer.of(staged)


@router.post("/{name}/versions/{version}:promote", openapi_extra=needs(Permission.MODEL_PROMOTE))
async def promote(
    gateway: Gate,
    caller: Caller,
    name: Name,
    version: Number,
    exclusive: Annotated[bool, Query(description="Retire every other version in the same step.")] = False,  # noqa: FBT002
) -> VersionAnswer:
    """Have a version serve; answers once it is in memory here, or after 10 s."""
    promoted = await gateway.promote.promote(caller, ModelRef(name, version), is_exclusive=exclusive)
    await gateway.reconciler.settle(caller.tenant, name, Deadline.after(_SETTLE_S))
    return VersionAnswer.of(promoted)


@router.post("/{name}/versions/{version}:retire", openapi_extra=needs(Permission.MODEL_PROMOTE))
async def retire(gateway: Gate, caller: Caller, name: Name, version: Number) -> VersionAnswer:
    """Have a version serve no longer; it can be promoted again."""
    return VersionAnswer.of(await gateway.promote.retire(caller, ModelRef(name, version)))


@router.put(
    "/{name}/labels/{label}", openapi_extra=needs(Permission.MODEL_PROMOTE, body_schema(LabelTarget, {"version": 1}))
)
async def put_label(request: Request, gateway: Gate, caller: Caller, name: Name, label: Label) -> ModelAnswer:
    """Point a label at a serving version."""
    target = await read_body(request, LabelTarget)
    return ModelAnswer.of(await gateway.promote.label(caller, ModelRef(name, None, label), target.version))


@router.delete("/{name}/labels/{label}", openapi_extra=needs(Permission.MODEL_PROMOTE), status_code=204)
async def delete_label(gateway: Gate, caller: Caller, name: Name, label: Label) -> None:
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
            except ValueError:  # no base64, no ASCII
                digest = b""
            if len(digest) == _SHA256_BYTES:
                return digest
    raise InvalidRequest("Content-Digest: sha-256=:<base64 of 32 bytes>: (RFC 9530)")


def _declared_sample(request: Request) -> int:
    text = request.headers.get("model-sample-length")
    if text is None:
        return 0
    n_bytes = length_of(text.encode("latin-1"))
    if not n_bytes:
        raise InvalidRequest("Model-Sample-Length: a whole number of bytes, at least 1")
    return n_bytes


def _declared_signature(request: Request) -> PublisherSignature | None:
    plain, bundle = (request.headers.getlist(name) for name in ("model-signature", "model-signature-bundle"))
    if plain and bundle:
        raise InvalidRequest("send one of Model-Signature and Model-Signature-Bundle")
    try:
        if plain:
            return _plain_signature(", ".join(plain))
        return _bundle_signature(", ".join(bundle)) if bundle else None
    except ValueError as cause:
        raise InvalidRequest(_SIGNATURE_FIELDS) from cause


def _plain_signature(field: str) -> PublisherSignature:
    members = parse_dictionary(field)
    content, key_id = members.pop("sig", None), members.pop("keyid", None)
    if members or not isinstance(content, bytes) or isinstance(key_id, bytes):
        raise ValueError("other members, or of other types")
    return PublisherSignature(SignatureForm.ES256, content, key_id)


def _bundle_signature(field: str) -> PublisherSignature:
    content = parse_item(field)
    if not isinstance(content, bytes):
        raise ValueError("a string")  # noqa: TRY004 - one kind of failure for a malformed field
    return PublisherSignature(SignatureForm.OPENSSF_BUNDLE, content)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(_IDLE_S):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise DeadlineExceeded(f"nothing of the upload arrived for {_IDLE_S:.0f} s; nothing was kept") from None
        except ClientDisconnect as cause:
            raise InvalidRequest("the upload broke off; nothing was kept") from cause
        yield chunk


@router.post("/{name}:erase", openapi_extra=needs(Permission.MODEL_ERASE))
async def erase_model(gateway: Gate, caller: Caller, response: Response, name: Name) -> OperationAnswer:
    """Erase a model for good: its keys first, then its versions, labels and blobs.

    Answers the operation; its `result` holds the signed certificate. 202 if some process is slow to
    let go: follow the operation at /admin/v1/operations/{id}.
    """
    operation = await gateway.erase.model(caller, name)
    response.status_code = 202 if operation.state is OperationState.RUNNING else 200
    return OperationAnswer.of(operation)
