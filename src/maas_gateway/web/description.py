"""Building blocks of the OpenAPI document: problem answers, and doors that the framework does not see.

Source: OpenAPI Specification 3.1, "Operation Object", "Path Item Object", "Response Object".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from maas_gateway.errors import GatewayError
from maas_gateway.permissions import Permission
from maas_gateway.web.problems import UNEXPECTED, problem, status_of

PROBLEM_JSON: Final = "application/problem+json"
PERMISSION: Final = "x-permission"
"""The member of an Operation Object that says what its caller needs; without one, a route is taken for protected."""
REQUEST_ID: Final = "f300b672c2de7810"
"""The request id of every example."""
DEMO_MODEL: Final = "breast-cancer"
DEMO_ROW: Final = (
    *(11.13, 16.62, 70.47, 381.1, 0.08151, 0.03834, 0.01369, 0.0137, 0.1511, 0.06148),
    *(0.1415, 0.9671, 0.968, 9.704, 0.005883, 0.006263, 0.009398, 0.006189, 0.02009, 0.002377),
    *(11.68, 20.29, 74.35, 421.1, 0.103, 0.06219, 0.0458, 0.04044, 0.2383, 0.07083),
)
"""One row that the demo's model takes, so that the documentation page's first example runs as it stands.

Source: scikit-learn's copy of the Wisconsin diagnostic breast cancer data.
"""

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_PARAMETERS: Final[Mapping[str, Mapping[str, object]]] = {
    "model": {"description": "The model's name.", "schema": {"type": "string"}, "example": DEMO_MODEL},
    "version": {"description": "The version's number.", "schema": {"type": "integer", "minimum": 1}, "example": 1},
    "label": {
        "description": "The name that points at a version.",
        "schema": {"type": "string"},
        "example": "stable",
    },
}
_REFUSALS: Final[Mapping[int, tuple[str, str]]] = {
    400: (
        "The body or the path is malformed, or the tensors do not fit the model; the sentence names the field.",
        "input 'measurements': expected shape [-1, 30] and got [1, 3]",
    ),
    401: ("No credential, or none that counts.", "send a token: Authorization: Bearer <token>"),
    403: (
        "You may read the model and may not do this.",
        f"this needs the permission model:predict on model '{DEMO_MODEL}'",
    ),
    404: ("No such model, version or label, for you.", f"model '{DEMO_MODEL}' not found"),
    405: ("The address does not answer this method.", "Method Not Allowed"),
    409: (
        "The model's state does not allow this now.",
        f"version 2 of '{DEMO_MODEL}' is quarantined and waits for a person",
    ),
    413: ("The body is too large.", "the body is larger than the 16777216 bytes that are accepted"),
    429: (
        "A limit that covers you is reached; see Retry-After and RateLimit-*.",
        "the limit of 600 requests in 60 s for this model is reached",
    ),
    500: ("An unexpected fault.", UNEXPECTED),
    501: ("An encoding that this door does not read.", "Content-Encoding: gzip, deflate or none"),
    503: ("The model is not loaded, or its queue is full; see Retry-After.", f"model '{DEMO_MODEL}' is not ready"),
    504: ("Time ran out.", "the deadline of the request has passed"),
}
PREDICTION_ERRORS: Final = (400, 401, 403, 404, 413, 429, 500, 501, 503, 504)

Schema = Mapping[str, object]
Need = Permission | Literal["any", "public"]
"""A permission; "any" for whoever is authenticated, who sees or changes only what is its own; "public" for anybody."""


def needs(need: Need, described: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the part of an Operation Object that says what a caller needs, with what else is said of it.

    The planes enforce it, not this; that both say the same is tested, route by route.

    Args:
        need: what the caller needs.
        described: other members of the Operation Object.
    """
    return {PERMISSION: str(need), **(described or {})}


def problem_answers(*answers: tuple[str, GatewayError]) -> dict[int | str, dict[str, Any]]:
    """Return Response Objects whose bodies are problem documents, by status.

    Args:
        answers: when it is answered, and an error that is.
    """
    return {
        status_of(error): {
            "description": when,
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": problem(error, instance="/admin/v1/…", request_id=REQUEST_ID),
                }
            },
        }
        for when, error in answers
    }


@dataclass(frozen=True, slots=True)
class DoorDescription:
    """What all operations of one door share.

    Attributes:
        tag: the heading under which they stand.
        error: the schema of the door's error body.
        write_error: the door's error body around a sentence.
        not_found: the sentence in which the door says 404.
    """

    tag: str
    error: Schema
    write_error: Callable[[str], Schema]
    not_found: str

    def operation(
        self,
        path: str,
        summary: str,
        answer: Schema,
        *,
        description: str,
        need: Need,
        errors: Sequence[int],
        body: Schema | None = None,
        demo_body: Schema | None = None,
        is_body_optional: bool = False,
    ) -> dict[str, Any]:
        """Return one Operation Object; the path's parameters are read off it.

        Args:
            path: as the document spells it.
            summary: a few words.
            answer: the schema of what status 200 carries, with its examples.
            description: what it does, for the client.
            need: what the caller needs.
            errors: the statuses of refusals.
            body: the schema of what it takes, with its examples.
            demo_body: a body that the demo's model takes.
            is_body_optional: whether an empty body says something too.
        """
        answers: dict[str, Any] = {"200": {"description": "The answer.", "content": _json(answer)}}
        for status in errors:
            answers[str(status)] = self._refusal(status)
        operation: dict[str, Any] = {
            "tags": [self.tag],
            "summary": summary,
            "description": description,
            "operationId": re.sub(r"\W+", "_", f"{self.tag} {summary}").lower(),
            "parameters": [_parameter(name) for name in _PARAMETER.findall(path)],
            "responses": answers,
            **needs(need),
        }
        if body is not None:
            operation["requestBody"] = {"required": not is_body_optional, "content": _json(body, demo_body)}
        return operation

    def _refusal(self, status: int) -> dict[str, Any]:
        when, detail = _REFUSALS[status]
        if status == 404:  # noqa: PLR2004  a key of the table above
            detail = self.not_found
        schema = {name: value for name, value in self.error.items() if name != "examples"}
        content = {"schema": schema, "example": dict(self.write_error(detail))}
        return {"description": when, "content": {"application/json": content}}


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, **_PARAMETERS[name]}


def _json(schema: Schema, demo: Schema | None = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": dict(schema)}
    named: dict[str, Any] = {} if demo is None else {"demo": {"summary": "the demo's model", "value": demo}}
    examples = schema.get("examples")
    if isinstance(examples, list):
        named |= {f"example {n}": {"value": example} for n, example in enumerate(examples, 1)}
    if named:
        content["examples"] = named
    return {"application/json": content}
