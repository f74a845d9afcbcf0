"""Reading a management request's body: after the caller is known, bounded in size and time, every unknown field named."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from maas_gateway.errors import DeadlineExceeded, InvalidRequest, MalformedBody, PayloadTooLarge, UnknownField
from maas_gateway.web.description import problem_answers

MAX_BODY_BYTES = 1 << 20
DEADLINE_S = 10.0

T = TypeVar("T", bound=BaseModel)


async def read_body(request: Request, kind: type[T]) -> T:
    """Read a JSON body as `kind`.

    Raises:
        MalformedBody: it is not JSON.
        UnknownField: it names a field that `kind` does not have.
        InvalidRequest: a field is missing or has a wrong value; the sentence names it.
        PayloadTooLarge: it is larger than 1 MiB.
        DeadlineExceeded: it did not arrive in time.
    """
    try:
        return kind.model_validate_json(await read_bytes(request, MAX_BODY_BYTES) or b"{}")
    except ValidationError as cause:
        raise invalid(cause.errors(include_url=False, include_context=False, include_input=False)) from None


async def read_bytes(request: Request, max_bytes: int, deadline_s: float = DEADLINE_S) -> bytes:
    """Read the whole body.

    Raises:
        PayloadTooLarge: it is larger than `max_bytes`.
        DeadlineExceeded: it did not arrive within `deadline_s` seconds.
        MalformedBody: the connection broke off.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(deadline_s):
            async for chunk in _bounded(request, max_bytes):
                body += chunk
    except TimeoutError:
        raise DeadlineExceeded("the body did not arrive in time") from None
    except ClientDisconnect as cause:
        raise MalformedBody("the body broke off") from cause
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
    """Return the OpenAPI description of a JSON body of `kind`, for a route that reads it itself.

    Args:
        kind: a model; what it refers to is written where it is used, because the document knows it by no name.
        example: one that `kind` takes.
    """
    content: dict[str, Any] = {"schema": _written_out(kind.model_json_schema())}
    if example is not None:
        content["example"] = example
    too_large = PayloadTooLarge(f"the body is larger than the {MAX_BODY_BYTES} bytes that are accepted")
    answers = problem_answers(("The body is too large.", too_large))
    return {
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {str(status): answer for status, answer in answers.items()},
    }


def _written_out(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with what stands under `$defs` put where it is referred to; none may refer to itself."""
    known = schema.pop("$defs", {})

    def written(part: Any) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                return written(known[part["$ref"].rpartition("/")[2]])
            return {name: written(value) for name, value in part.items()}
        return [written(item) for item in part] if isinstance(part, list) else part

    return {name: written(value) for name, value in schema.items()}


async def _bounded(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > max_bytes:
            raise PayloadTooLarge(f"the body is larger than the {max_bytes} bytes that are accepted")
        yield chunk
