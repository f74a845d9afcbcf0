"""The client library, both forms, against a gateway simulated below HTTP: tokens, retries, arrays, errors."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from maas_gateway.client import (
    Answer,
    APIKey,
    AsyncClient,
    Client,
    ClientCredentials,
    GatewayRefused,
    Password,
    Retries,
    Token,
)
from maas_gateway.client.credentials import Credential
from maas_gateway.client.failure import LimitReached, NoAnswer, NotAccepted, NotReady, NotSignedIn, NotThere
from maas_gateway.client.tensors import LENGTH_HEADER, read_answer, write_request

ROW = np.array([[1.5, -2.0]], dtype=np.float32)
QUICK = Retries(n=2, longest_pause_s=1, first_pause_s=0.001)
WHO = ClientCredentials("sa-1", "secret")


class Gateway:
    """Answers as a gateway does: tokens, and infer requests by echoing their tensors."""

    def __init__(self, *, life_s: int = 900) -> None:
        self.life_s = life_s
        self.forms: list[dict[str, str]] = []
        self.seen: list[httpx.Request] = []
        self.tokens: list[str] = []
        self.planned: list[httpx.Response | Exception] = []
        self.refused: set[str] = set()
        self.refresh_counts = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            return self._token(request)
        self.seen.append(request)
        self.tokens.append(request.headers["authorization"].removeprefix("Bearer "))
        if self.planned:
            planned = self.planned.pop(0)
            if isinstance(planned, Exception):
                raise planned
            return planned
        if self.tokens[-1] in self.refused:
            return httpx.Response(401, json={"error": "the token is revoked"})
        if request.url.path == "/v2/models":
            return httpx.Response(200, json={"models": ["a"]})
        return self._echo(request)

    def _token(self, request: httpx.Request) -> httpx.Response:
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        self.forms.append(form)
        if form.get("client_secret") == "wrong" or (form["grant_type"] == "refresh_token" and not self.refresh_counts):
            return httpx.Response(400, json={"error": "invalid_grant", "error_description": "no such secret"})
        number = len(self.forms)
        answer = {"access_token": f"t{number}", "expires_in": self.life_s, "token_type": "Bearer"}
        if form["grant_type"] in {"password", "refresh_token"}:
            answer["refresh_token"] = f"r{number}"
        return httpx.Response(200, json=answer)

    def _echo(self, request: httpx.Request) -> httpx.Response:
        length = int(request.headers[LENGTH_HEADER])
        document = json.loads(request.content[:length])
        head = json.dumps({"model_name": "m", "model_version": "3", "id": "r", "outputs": document["inputs"]}).encode()
        headers = {LENGTH_HEADER: str(len(head))}
        return httpx.Response(200, headers=headers, content=head + request.content[length:])


Run = Callable[..., Any]


def _sync(
    gateway: Gateway, credential: Credential, calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]]
) -> list[Any]:
    with Client("http://g", credential, retries=QUICK, transport=httpx.MockTransport(gateway)) as client:
        return [getattr(client, name)(*given_, **named) for name, given_, named in calls]


def _async(
    gateway: Gateway, credential: Credential, calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]]
) -> list[Any]:
    async def run() -> list[Any]:
        async with AsyncClient("http://g", credential, retries=QUICK, transport=httpx.MockTransport(gateway)) as client:
            return [await getattr(client, name)(*given_, **named) for name, given_, named in calls]

    return asyncio.run(run())


both = pytest.mark.parametrize("run", [_sync, _async], ids=["Client", "AsyncClient"])
INFER = ("infer", ("m", {"x": ROW}), {})


@both
def test_token_is_fetched_once_and_sent_with_every_request(run: Run) -> None:
    gateway = Gateway()
    answers = run(gateway, WHO, [INFER, INFER, ("models", (), {})])
    assert gateway.forms == [{"grant_type": "client_credentials", "client_id": "sa-1", "client_secret": "secret"}]
    assert gateway.tokens == ["t1"] * 3
    np.testing.assert_array_equal(answers[0].outputs["x"], ROW, strict=True)
    assert (answers[0].model, answers[0].version, answers[2]) == ("m", "3", ["a"])


@both
@pytest.mark.parametrize("credential", [Token("there"), APIKey("there")], ids=["token", "key"])
def test_what_is_there_already_is_sent_as_it_is(run: Run, credential: Credential) -> None:
    gateway = Gateway()
    run(gateway, credential, [INFER])
    assert (gateway.forms, gateway.tokens) == ([], ["there"])


@both
def test_token_that_ends_soon_is_renewed_by_the_refresh_token_and_by_the_password_where_that_has_ended(
    run: Run,
) -> None:
    gateway = Gateway(life_s=20)
    run(gateway, Password("ada@acme", "pw"), [INFER, INFER])
    assert [form["grant_type"] for form in gateway.forms] == ["password", "refresh_token"]
    assert gateway.forms[1]["refresh_token"] == "r1"
    gateway = Gateway(life_s=20)
    gateway.refresh_counts = False
    run(gateway, Password("ada@acme", "pw"), [INFER, INFER])
    assert [form["grant_type"] for form in gateway.forms] == ["password", "refresh_token", "password"]


@both
def test_request_whose_token_was_revoked_is_repeated_once_with_a_new_one(run: Run) -> None:
    gateway = Gateway()
    gateway.refused = {"t1"}
    run(gateway, WHO, [INFER])
    assert gateway.tokens == ["t1", "t2"]
    assert gateway.seen[0].content == gateway.seen[1].content
    gateway = Gateway()
    gateway.refused = {"t1", "t2"}
    with pytest.raises(NotSignedIn, match="the token is revoked"):
        run(gateway, WHO, [INFER])
    assert len(gateway.seen) == 2


@both
def test_wrong_secret_is_the_gateways_sentence(run: Run) -> None:
    with pytest.raises(NotAccepted, match="no such secret"):
        run(Gateway(), ClientCredentials("sa-1", "wrong"), [INFER])


@both
def test_request_is_sent_again_when_the_gateway_says_when(run: Run) -> None:
    gateway = Gateway()
    gateway.planned = [
        httpx.Response(503, headers={"retry-after": "0"}, json={"error": "loading"}),
        httpx.Response(429, headers={"retry-after": "0"}, json={"error": "too many"}),
    ]
    run(gateway, WHO, [INFER])
    assert len(gateway.seen) == 3


ENDS = {
    "after as many tries as allowed": ([503, 503, 503], "0", NotReady, 3),
    "where the pause is too long": ([429], "2", LimitReached, 1),
    "where no time is said": ([503], None, NotReady, 1),
    "where it is no matter of time": ([404], "0", NotThere, 1),
    "where it may have been computed": ([504], "0", NotReady, 1),
}


@both
@pytest.mark.parametrize(("statuses", "after", "error", "n_sent"), ENDS.values(), ids=ENDS)
def test_request_is_given_up(
    run: Run, statuses: list[int], after: str | None, error: type[GatewayRefused], n_sent: int
) -> None:
    gateway = Gateway()
    headers = {"x-request-id": "7"} | ({} if after is None else {"retry-after": after})
    gateway.planned = [httpx.Response(status, headers=headers, json={"error": "no"}) for status in statuses]
    with pytest.raises(error, match="no") as caught:
        run(gateway, WHO, [INFER])
    assert (caught.value.status, caught.value.request_id) == (statuses[-1], "7")
    assert caught.value.retry_after_s == (None if after is None else float(after))
    assert len(gateway.seen) == n_sent


@both
def test_request_that_could_not_be_delivered_is_sent_again_and_one_that_broke_off_is_not(run: Run) -> None:
    gateway = Gateway()
    gateway.planned = [httpx.ConnectError("refused"), httpx.ConnectError("refused")]
    run(gateway, WHO, [INFER])
    assert len(gateway.seen) == 3
    gateway = Gateway()
    gateway.planned = [httpx.ReadError("reset")]
    with pytest.raises(NoAnswer, match="no answer from g: reset"):
        run(gateway, WHO, [INFER])
    assert len(gateway.seen) == 1


@both
def test_request_says_which_version_outputs_classes_and_how_long(run: Run) -> None:
    gateway = Gateway()
    named = {"outputs": ["x"], "classes": 3, "timeout_s": 0.25, "priority": 1}
    run(gateway, WHO, [("infer", ("a.m", {"x": ROW}), {"version": 2, **named})])
    run(gateway, WHO, [("infer", ("m", {"x": ROW}), {"label": "stable"})])
    first, second = gateway.seen
    assert (first.url.path, second.url.path) == ("/v2/models/a.m/versions/2/infer", "/v2/models/m/labels/stable/infer")
    document = json.loads(first.content[: int(first.headers[LENGTH_HEADER])])
    assert document["parameters"] == {"timeout": 250_000, "priority": 1, "binary_data_output": True}
    assert document["outputs"] == [{"name": "x", "parameters": {"classification": 3}}]
    with pytest.raises(ValueError, match="not both"):
        run(gateway, WHO, [("infer", ("m", {"x": ROW}), {"version": 1, "label": "stable"})])


@both
def test_model_that_is_not_there_or_a_gateway_that_is_not_is_not_ready(run: Run) -> None:
    gateway = Gateway()
    gateway.planned = [httpx.Response(200), httpx.Response(404), httpx.ConnectError("refused")]
    assert run(gateway, WHO, [("is_ready", (), {}), ("is_ready", ("m",), {}), ("is_ready", (), {})]) == [
        True,
        False,
        False,
    ]


@both
def test_answer_that_is_none_is_refused(run: Run) -> None:
    gateway = Gateway()
    gateway.planned = [httpx.Response(200, content=b"<html>")]
    with pytest.raises(GatewayRefused, match="none of this protocol"):
        run(gateway, WHO, [INFER])


def test_no_credential_is_shown_where_it_is_printed() -> None:
    shown = repr([Token("secret"), APIKey("secret"), Password("ada", "secret"), ClientCredentials("id", "secret")])
    assert "secret" not in shown.replace("client_secret", "")


def _answered(headers: dict[str, str], body: bytes) -> Answer:
    return read_answer({name.lower(): value for name, value in headers.items()}, body)


@settings(deadline=None)
@given(
    arrays.arrays(
        st.sampled_from(["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">f4", ">i8"]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    )
)
def test_every_number_survives_the_way_there_and_back(array: np.ndarray) -> None:
    headers, body = write_request({"x": array})
    response = Gateway()._echo(httpx.Request("POST", "http://g", headers=headers, content=body))
    back = _answered(dict(response.headers), response.content).outputs["x"]
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    "value", [["grün", ""], [b"\x00\xff", b""], np.array([["a"], ["bc"]])], ids=["text", "bytes", "an array"]
)
def test_text_goes_as_utf8_and_bytes_as_they_are(value: Any) -> None:
    headers, body = write_request({"x": value})
    response = Gateway()._echo(httpx.Request("POST", "http://g", headers=headers, content=body))
    back = _answered(dict(response.headers), response.content).outputs["x"].reshape(-1).tolist()
    expected = [item if isinstance(item, bytes) else item.encode() for item in np.asarray(value).reshape(-1).tolist()]
    assert back == expected


@pytest.mark.parametrize(
    "value", [np.array([1j]), np.array([object()]), np.array(["2020"], "M8[Y]")], ids=["complex", "objects", "dates"]
)
def test_array_that_the_protocol_does_not_have_is_refused_by_its_name(value: np.ndarray) -> None:
    with pytest.raises(TypeError, match="input 'x'"):
        write_request({"x": value})


def test_answer_in_json_is_read_too_and_surplus_bytes_are_refused() -> None:
    outputs = [
        {"name": "y", "shape": [2], "datatype": "FP16", "data": [1, 2.5]},
        {"name": "z", "shape": [1], "datatype": "BYTES", "data": ["a"]},
    ]
    body = json.dumps({"model_name": "m", "model_version": "1", "id": "", "outputs": outputs}).encode()
    answer = read_answer({}, body)
    assert (answer.outputs["y"].dtype, answer.outputs["y"].tolist()) == (np.float16, [1, 2.5])
    assert answer.outputs["z"].tolist() == [b"a"]
    with pytest.raises(ValueError, match="belong to no output"):
        read_answer({LENGTH_HEADER.lower(): str(len(body))}, body + b"x")
