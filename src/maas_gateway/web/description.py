"""Building blocks of the OpenAPI document for doors that the framework does not see.

Source: OpenAPI Specification 3.1, "Operation Object", "Path Item Object".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_SENTENCES: Final = {
    400: "The body or the path is malformed, or the tensors do not fit the model; the sentence names the field.",
    401: "No credential, or none that counts.",
    403: "You may read the model and may not predict.",
    404: "No such model, version or label, for you.",
    405: "The address does not answer this method.",
    413: "The body is too large.",
    501: "A datatype or an encoding that this door does not carry.",
    503: "The model is not loaded, or its queue is full; see Retry-After.",
    504: "Time ran out.",
}
PREDICTION_ERRORS: Final = (400, 401, 403, 404, 413, 500, 501, 503, 504)

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DoorDescription:
    """What all operations of one door share.

    Attributes:
        tag: the heading under which they stand.
        error: the schema of the door's error body.
    """

    tag: str
    error: Schema

    def operation(
        self, path: str, summary: str, answer: Schema, *, errors: Sequence[int], body: Schema | None = None
    ) -> dict[str, Any]:
        """Return one Operation Object; the path's parameters are read off it."""
        answers: dict[str, Any] = {"200": {"description": "The answer.", "content": _json(answer)}}
        for status in errors:
            sentence = _SENTENCES.get(status, "An unexpected fault.")
            answers[str(status)] = {"description": sentence, "content": _json(self.error)}
        operation: dict[str, Any] = {
            "tags": [self.tag],
            "summary": summary,
            "operationId": re.sub(r"\W+", "_", f"{self.tag} {summary}").lower(),
            "parameters": [_parameter(name) for name in _PARAMETER.findall(path)],
            "responses": answers,
        }
        if body is not None:
            operation["requestBody"] = {"required": True, "content": _json(body)}
        return operation


def _parameter(name: str) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1} if name == "version" else {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _json(schema: Schema) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": dict(schema)}
    examples = schema.get("examples")
    if isinstance(examples, list):
        content["examples"] = {f"example {n}": {"value": example} for n, example in enumerate(examples, 1)}
    return {"application/json": content}
