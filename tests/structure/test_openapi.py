"""`/openapi.json` is valid, whole and true: every route, its errors and examples."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from jsonschema import Draft202012Validator

from maas_gateway.admin.callers import PROBLEM_JSON
from maas_gateway.app import GatewayApp
from maas_gateway.permissions import Permission
from maas_gateway.place import prepare
from maas_gateway.protocols.open_inference import routes as open_inference
from maas_gateway.protocols.tf_serving import routes as tf_serving
from maas_gateway.settings import Settings

VECTORS = Path(__file__).parents[1] / "vectors"
WHICH = ("", "/versions/{version}", "/labels/{label}")
DOORS = {
    *(
        ("post", f"/v1/models/{{model}}{which}:{verb}")
        for which in WHICH
        for verb in ("predict", "classify", "regress")
    ),
    *(("get", f"/v1/models/{{model}}{which}{verb}") for which in WHICH for verb in ("", "/metadata")),
    ("get", "/v1/models"),
    *(("post", f"/v2/models/{{model}}{which}/infer") for which in WHICH),
    *(("get", f"/v2/models/{{model}}{which}{verb}") for which in WHICH for verb in ("", "/ready", "/config", "/stats")),
    ("get", "/v2"),
    ("get", "/v2/models"),
    ("get", "/v2/models/stats"),
    ("post", "/v2/repository/index"),
    *(("post", f"/v2/repository/models/{{model}}/{verb}") for verb in ("load", "unload")),
    ("get", "/v2/health/live"),
    ("get", "/v2/health/ready"),
}
"""What the prediction doors answer; they are no routes of the framework."""
PUBLIC = {
    "/",
    "/docs",
    "/docs/{asset}",
    "/openapi.json",
    "/problems/{slug}",
    "/oauth/token",
    "/.well-known/jwks.json",
    "/.well-known/statement-keys.json",
    "/.well-known/oauth-authorization-server",
    "/v2/health/live",
    "/v2/health/ready",
}
"""What needs no credential; whatever is added here is added on purpose."""
FILLED = {
    "version": "1",
    "subject": "3f0c8f5e-0a53-4b52-9f0e-6a3f8f1f6a11",
    "binding_id": "3f0c8f5e-0a53-4b52-9f0e-6a3f8f1f6a11",
    "provider_id": "3f0c8f5e-0a53-4b52-9f0e-6a3f8f1f6a11",
    "operation_id": "3f0c8f5e-0a53-4b52-9f0e-6a3f8f1f6a11",
    "asset": "docs.js",
    "slug": "not-found",
    "purpose": "artifacts",
}


@pytest.fixture(scope="module")
def app() -> GatewayApp:
    return GatewayApp(Settings())


@pytest.fixture(scope="module")
def document(app: GatewayApp) -> dict[str, Any]:
    return json.loads(json.dumps(app.openapi()))


def test_document_obeys_the_schema_of_openapi(document: dict[str, Any]) -> None:
    schema = json.loads((VECTORS / "openapi-3.1.json").read_text(encoding="utf-8"))
    faults = [f"{fault.json_path}: {fault.message}" for fault in Draft202012Validator(schema).iter_errors(document)]
    assert faults == []


def test_every_schema_in_the_document_is_a_json_schema(document: dict[str, Any]) -> None:
    schemas = [*document["components"]["schemas"].values(), *(found for _, found in _members(document, "schema"))]
    assert len(schemas) > 50
    for schema in schemas:
        Draft202012Validator.check_schema(schema)


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    references = [reference for _, reference in _members(document, "$ref")]
    assert references
    for reference in references:
        assert _resolved(document, reference) is not None, reference
    named = {reference.rpartition("/")[2] for reference in references}
    assert set(document["components"]["schemas"]) == named, "a schema that nothing uses"


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in _operations(document)]
    assert sorted(names) == sorted(set(names))


def test_every_path_parameter_is_declared_and_described(document: dict[str, Any]) -> None:
    for method, path, operation in _operations(document):
        parameters = operation.get("parameters", [])
        declared = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", path)), (method, path)
        for parameter in parameters:
            assert parameter.get("description"), (method, path, parameter["name"])


def test_every_operation_says_what_it_does_and_stands_under_a_heading(document: dict[str, Any]) -> None:
    headings = {tag["name"] for tag in document["tags"] if tag["description"]}
    used = set()
    for method, path, operation in _operations(document):
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
        assert set(operation["tags"]) <= headings, (method, path)
        used |= set(operation["tags"])
    assert used == headings


def test_every_operation_describes_its_answer_and_its_errors(document: dict[str, Any]) -> None:
    for method, path, operation in _operations(document):
        statuses = set(operation["responses"])
        assert any(status.startswith("2") for status in statuses), (method, path)
        assert "500" in statuses, (method, path)
        assert ("401" in statuses) == (bool(operation["security"]) or path == "/oauth/token"), (method, path)
        assert all(answer["description"] for answer in operation["responses"].values()), (method, path)


def test_every_operation_declares_what_its_caller_needs(document: dict[str, Any]) -> None:
    """That the declaration is what is enforced, `tests/attacks/test_callers.py` proves."""
    known = {*(permission.value for permission in Permission), "any", "public"}
    declared = {(method, path): operation.get("x-permission") for method, path, operation in _operations(document)}
    assert {where: need for where, need in declared.items() if need not in known} == {}
    public = {path for (_, path), need in declared.items() if need == "public"}
    assert public == PUBLIC


def test_every_refusal_of_the_management_api_is_a_problem_with_its_own_status(document: dict[str, Any]) -> None:
    for _, path, operation in _operations(document):
        for status, answer in operation["responses"].items():
            problem = answer.get("content", {}).get(PROBLEM_JSON)
            if path.startswith("/admin/") and status.startswith(("4", "5")):
                assert problem is not None, (path, status)
            if problem is not None:
                assert problem["example"]["status"] == int(status), (path, status)


def test_every_body_and_answer_has_an_example_that_its_schema_takes(document: dict[str, Any]) -> None:
    n_checked = 0
    for where, content in _contents(document):
        schema = content["schema"]
        if schema.get("format") == "binary" or where.endswith("text/html"):
            continue
        examples = _examples(document, content)
        assert examples, where
        validator = Draft202012Validator({**schema, "components": document["components"]})
        for example in examples:
            faults = [fault.message for fault in validator.iter_errors(example)]
            assert faults == [], where
            n_checked += 1
    assert n_checked > 100


def test_every_schema_of_the_management_api_has_an_example_that_it_takes(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        if name == "Problem":
            continue  # its examples stand with each status
        (example,) = schema["examples"]
        validator = Draft202012Validator({**schema, "components": document["components"]})
        assert [fault.message for fault in validator.iter_errors(example)] == [], name
        assert set(example) <= set(schema["properties"]), name


def test_document_holds_every_route_and_nothing_else(app: GatewayApp, document: dict[str, Any]) -> None:
    routes = {
        (method.lower(), route.path)
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if method != "HEAD"
    }
    described = {(method, path) for method, path, _ in _operations(document)}
    assert ("get", "/openapi.json") in routes
    assert described == routes | DOORS


@pytest.mark.parametrize(("method", "path"), sorted(DOORS), ids=lambda value: value)
def test_prediction_door_takes_what_the_document_offers(method: str, path: str) -> None:
    address = _filled(path)
    if path.startswith("/v1"):
        pattern = tf_serving._POST if method == "post" else tf_serving._GET
        assert tf_serving.TFServingRoutes.takes(address)
        assert pattern.fullmatch(address)
    else:
        assert open_inference.OpenInferenceRoutes.takes(address)
        known = {"/v2", *open_inference._HEALTH, *open_inference._LISTS, *open_inference._INDEX}
        assert address in known or open_inference._MODEL.fullmatch(address) or open_inference._CHANGE.fullmatch(address)


def test_what_the_document_calls_public_answers_anyone_and_nothing_else_does(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "var")
    answers = asyncio.run(_answers_without_a_credential(settings))
    for (method, path), (security, statuses, status) in answers.items():
        assert str(status) in statuses, (method, path, status)
        if security:
            assert status == 401, (method, path)
        elif path != "/oauth/token":
            assert status == 200, (method, path)


async def _answers_without_a_credential(settings: Settings) -> dict[tuple[str, str], tuple[Any, set[str], int]]:
    await prepare(settings, makes_root_key=True)
    app = GatewayApp(settings)
    answers = {}
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            for method, path, operation in _operations(app.openapi()):
                answer = await client.request(method, _filled(path))
                answers[method, path] = (operation["security"], set(operation["responses"]), answer.status_code)
    return answers


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def _contents(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for method, path, operation in _operations(document):
        parts = {"body": operation.get("requestBody", {}), **operation["responses"]}
        for part, described in parts.items():
            for media_type, content in described.get("content", {}).items():
                yield f"{method} {path} {part} {media_type}", content


def _examples(document: Mapping[str, Any], content: Mapping[str, Any]) -> list[Any]:
    if "example" in content:
        return [content["example"]]
    if "examples" in content:
        return [example["value"] for example in content["examples"].values()]
    reference = content["schema"].get("$ref")
    schema = content["schema"] if reference is None else _resolved(document, reference)
    return list(schema.get("examples", []))


def _resolved(document: Any, reference: str) -> Any:
    assert reference.startswith("#/"), reference
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _members(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every member of that name, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == name:
                yield key, item
            yield from _members(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _members(item, name)


def _filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: FILLED.get(found[1], "tiny"), path)
