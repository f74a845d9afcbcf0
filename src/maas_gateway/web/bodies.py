"""Reading a management request's body: after the caller is known, bounded, every unknown field named."""

from collections.abc import AsyncIterator
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from maas_gateway.errors import InvalidRequest, MalformedBody, PayloadTooLarge, UnknownField

MAX_BODY_BYTES = 1 << 20

T = TypeVar("T", bound=BaseModel)


async def read_body(request: Request, kind: type[T]) -> T:
    """Read a JSON body as `kind`.

    Raises:
        MalformedBody: it is not JSON.
        UnknownField: it names a field that `kind` does not have.
        InvalidRequest: a field is missing or has a wrong value; the sentence names it.
        PayloadTooLarge: it is larger than 1 MiB.
    """
    try:
        return kind.model_validate_json(await read_bytes(request, MAX_BODY_BYTES) or b"{}")
    except ValidationError as cause:
        raise invalid(cause.errors(include_url=False, include_context=False, include_input=False)) from None


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """Read the whole body.

    Raises:
        PayloadTooLarge: it is larger than `max_bytes`.
    """
    body = bytearray()
    async for chunk in _bounded(request, max_bytes):
        body += chunk
    return bytes(body)


def invalid(faults: Any) -> InvalidRequest:
    """Return the error that pydantic's list of faults means, naming the first field."""
    fault = faults[0]
    where = ".".join(str(part) for part in fault["loc"] if part not in {"body", "query", "path"})
    if fault["type"] == "json_invalid":
        return MalformedBody(f"the body is not JSON: {fault['msg'].removeprefix('Invalid JSON: ')}")
    if fault["type"] == "extra_forbidden":
        return UnknownField(f"{where}: there is no such field")
    return InvalidRequest(f"{where}: {fault['msg']}" if where else str(fault["msg"]))


def body_schema(kind: type[BaseModel], example: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the OpenAPI description of a JSON body of `kind`, for a route that reads it itself."""
    content: dict[str, Any] = {"schema": kind.model_json_schema(ref_template="#/components/schemas/{model}")}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


async def _bounded(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > max_bytes:
            raise PayloadTooLarge(f"the body is larger than the {max_bytes} bytes that are accepted")
        yield chunk
