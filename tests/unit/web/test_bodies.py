"""Bodies of management requests: what is wrong is named, in a problem document, after the caller is known."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from builders.gateways import World, running_gateway
from builders.requests import RawClient, ask, scope
from maas_gateway.errors import DeadlineExceeded
from maas_gateway.web.bodies import read_bytes

pytestmark = pytest.mark.anyio

A = "/admin/v1"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_gateway(tmp_path_factory.mktemp("bodies")) as world:
        await world.tenant("acme")
        yield world


_SUBJECT = "11111111-1111-4111-8111-111111111111"
_WRONG: dict[str, tuple[str, str, Any, str]] = {
    "a field that does not exist": ("POST", "users", {"name": "ada", "age": 3}, "age: there is no such field"),
    "a field in another case": ("POST", "users", {"Name": "ada"}, "name: Field required"),
    "a missing field": ("POST", "users", {}, "name: Field required"),
    "no body": ("POST", "users", b"", "name: Field required"),
    "a number for a text": ("POST", "users", {"name": 7}, "name: Input should be a valid string"),
    "null for a text": ("POST", "users", {"name": None}, "name: Input should be a valid string"),
    "a list for a text": ("POST", "users", {"name": ["ada"]}, "name: Input should be a valid string"),
    "a text that is too long": ("POST", "users", {"name": "a" * 65}, "name: String should have at most 64"),
    "a text for a boolean": ("PATCH", f"users/{_SUBJECT}", {"enabled": "yes"}, "enabled: Input should be a valid bool"),
    "a number for a boolean": ("PATCH", f"users/{_SUBJECT}", {"enabled": 0}, "enabled: Input should be a valid bool"),
    "a text for a number": ("PUT", "models/m/labels/l", {"version": "1"}, "version: Input should be a valid integer"),
    "a fraction for a number": ("PUT", "models/m/labels/l", {"version": 1.5}, "version: Input should be a valid int"),
    "a number that is too small": ("PUT", "models/m/labels/l", {"version": 0}, "version: Input should be greater"),
    "a number that is too large": ("PUT", "models/m/labels/l", {"version": 2**53}, "version: Input should be less"),
    "a word for an id": ("POST", "role-bindings", {"subject": "ada", "role": "owner"}, "subject: Input should be a valid UUID"),
    "a list": ("POST", "users", b"[]", "Input should be an object"),
    "a number": ("POST", "users", b"7", "Input should be an object"),
    "an open brace": ("POST", "users", b"{", "the body is not JSON: "),
    "a comma too many": ("POST", "users", b'{"name": "ada",}', "the body is not JSON: "),
    "two documents": ("POST", "users", b'{"name": "ada"} {}', "the body is not JSON: "),
    "a form": ("POST", "users", b"name=ada", "the body is not JSON: "),
    "invalid UTF-8": ("POST", "users", b'{"name": "\xff"}', "the body is not JSON: "),
    "half a surrogate pair": ("POST", "users", b'{"name": "\\ud800"}', "the body is not JSON: "),
    "a thousand levels": ("POST", "users", b'{"name":' + b"[" * 1_000 + b"]" * 1_000 + b"}", ""),
    "a name in the path that is no id": ("PATCH", "users/ada", {"enabled": True}, "subject: Input should be a valid UUID"),
    "a version in the path that is no number": ("GET", "models/m/versions/one", None, "version: Input should be a valid int"),
    "a version in the path that is zero": ("GET", "models/m/versions/0", None, "version: Input should be greater"),
    "a version in the path of 5000 digits": ("GET", f"models/m/versions/{'9' * 5_000}", None, "version: "),
    "a limit that is too large": ("GET", "audit/events?limit=1001", None, "limit: Input should be less"),
    "a cursor that is negative": ("GET", "audit/events?cursor=-1", None, "cursor: Input should be greater"),
    "a cursor past every number": ("GET", f"audit/events?cursor={2**31}", None, "cursor: Input should be less"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "sentence"), [pytest.param(*case, id=name) for name, case in _WRONG.items()]
)
async def test_wrong_body_is_named(world: World, *, method: str, path: str, body: Any, sentence: str) -> None:
    headers = await world.headers(world.owners["acme"])
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    answer = await world.http.request(method, f"{A}/{path}", content=content, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "request_id"}
    assert problem["detail"].startswith(sentence)
    assert problem["type"].startswith("/problems/")
    assert (await world.http.get(problem["type"])).json()["title"] == problem["title"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("users", "unknown-field"), ("service-accounts", "unknown-field"), ("role-bindings", "invalid-request")],
)
async def test_kind_of_problem_is_the_type(world: World, path: str, kind: str) -> None:
    headers = await world.headers(world.owners["acme"])
    body = {"name": "ada", "x": 1} if kind == "unknown-field" else {}
    answer = await world.http.post(f"{A}/{path}", json=body, headers=headers)
    assert answer.json()["type"] == f"/problems/{kind}"


@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "in pieces"])
async def test_body_over_a_mebibyte_is_refused(world: World, *, is_declared: bool) -> None:
    headers = [(b"authorization", b"Bearer " + (await world.token(world.owners["acme"])).encode())]
    headers += [(b"content-length", b"3000000")] if is_declared else [(b"transfer-encoding", b"chunked")]
    client = RawClient([b"x" * 100_000] * 30)
    answer = await ask(world.app, "POST", f"{A}/users", headers=headers, client=client)
    assert (answer.status, json.loads(answer.body)["type"]) == (413, "/problems/payload-too-large")
    assert answer.headers[b"connection"] == b"close"
    assert answer.n_received_at_start <= 11
    assert answer.is_whole


async def test_body_that_breaks_off_is_no_fault(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    headers = [(b"authorization", b"Bearer " + (await world.token(world.owners["acme"])).encode())]
    client = RawClient([b'{"name": '], disconnects=True)
    answer = await ask(world.app, "POST", f"{A}/users", headers=headers, client=client)
    assert answer.status == 400
    assert "request_failed" not in capfd.readouterr().err


async def test_body_that_never_comes_is_given_up() -> None:
    client = RawClient([b'{"name": '], is_endless=True)
    with pytest.raises(DeadlineExceeded):
        await read_bytes(Request(scope("POST", "/"), client.receive), 100, 0.2)


ROUTES = [
    ("POST", f"{A}/tenants"),
    ("POST", f"{A}/users"),
    ("PATCH", f"{A}/users/{_SUBJECT}"),
    ("POST", f"{A}/role-bindings"),
    ("PUT", f"{A}/models/m/versions/1"),
    ("PUT", f"{A}/models/m/labels/l"),
    ("POST", "/v1/models/m:predict"),
    ("POST", "/v2/models/m/infer"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("token", [b"", b"nonsense"], ids=["no token", "a wrong token"])
async def test_body_is_not_read_before_the_caller_is_known(
    world: World, *, method: str, path: str, token: bytes
) -> None:
    headers = [(b"content-length", b"11")] + ([(b"authorization", b"Bearer " + token)] if token else [])
    client = RawClient([b"hello ", b"world"])
    answer = await ask(world.app, method, path, headers=headers, client=client)
    assert (answer.status, answer.n_received_at_start) == (401, 0)
    assert (client.pieces, answer.is_whole) == ([], True), (
        "what the client was sending is dropped, then the answer ends"
    )


@pytest.mark.parametrize(("method", "path"), [ROUTES[4], ROUTES[6], ROUTES[7]])
async def test_large_body_is_not_read_before_the_caller_is_permitted(world: World, method: str, path: str) -> None:
    powerless = await world.token(await world.service("acme"))
    headers = [(b"authorization", b"Bearer " + powerless.encode()), (b"content-length", b"11")]
    answer = await ask(world.app, method, path, headers=headers, client=RawClient([b"hello ", b"world"]))
    assert (answer.status, answer.n_received_at_start) == (404, 0)


@pytest.mark.parametrize(
    "length", [b"9" * 5_000, b"-1", b"1e3", b"\xb2", b"0x10", b""], ids=["digits", "minus", "e", "²", "hex", "empty"]
)
async def test_odd_content_length_is_no_fault(world: World, length: bytes) -> None:
    token = (await world.token(world.owners["acme"])).encode()
    for method, path in ROUTES[1:]:
        headers = [(b"authorization", b"Bearer " + token), (b"content-length", length)]
        answer = await ask(world.app, method, path, headers=headers, client=RawClient([b"{}"]))
        assert 400 <= answer.status < 500, (path, answer.body)


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"host", b"["), (b"host", b"\xff"), (b"x-request-id", b"\xff\r\n"), (b"content-digest", "sha-256=:é:".encode("latin-1"))],
)  # fmt: skip
async def test_odd_header_is_no_fault(world: World, name: bytes, value: bytes) -> None:
    token = (await world.token(world.owners["acme"])).encode()
    headers = [(b"authorization", b"Bearer " + token), (name, value)]
    for method, path in (("GET", f"{A}/users/?"), ("PUT", f"{A}/models/m/versions/1"), ("GET", f"{A}/models/x#y")):
        answer = await ask(world.app, method, path, headers=headers, client=RawClient([b"{}"]))
        assert answer.status < 500, answer.body
        if answer.status >= 400:
            assert json.loads(answer.body)["instance"] == path


async def test_callers_request_id_is_kept_where_it_is_sound(world: World) -> None:
    sound = await world.http.get("/admin/v1/users", headers={"x-request-id": "my-id.1"})
    assert (sound.headers["x-request-id"], sound.json()["request_id"]) == ("my-id.1", "my-id.1")
    long = await world.http.get("/admin/v1/users", headers={"x-request-id": "x" * 65})
    assert len(long.headers["x-request-id"]) == 16
