"""Everything malformed that a client may send to a prediction door: refused with a status and a sentence, never a 500.

Source: TensorFlow Serving RESTful API and Open Inference Protocol for what is well-formed; the statuses are those of
TensorFlow Serving and NVIDIA Triton but where Triton answers 500, or 200, to what is the client's fault: it is 400 here.
"""

import asyncio
import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.echo_models import echo, served_onnx
from builders.gateways import World, running_gateway
from builders.grpc_clients import calling, running_grpc
from builders.listening import listening
from maas_gateway.errors import ArtifactRefused
from maas_gateway.protocols.open_inference.grpc.messages import written

pytestmark = pytest.mark.anyio

V1, V2 = "/v1/models/one:predict", "/v2/models/one/infer"
LENGTH = "inference-header-content-length"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
MAX_BODY_BYTES = 100_000
ROW = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


@dataclass(frozen=True)
class Case:
    """A request, and what it is answered."""

    status: int
    says: str
    body: bytes = b"{}"
    path: str = V2
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)


def v1(status: int, says: str, body: Any) -> Case:
    return Case(status, says, body if isinstance(body, bytes) else json.dumps(body).encode(), V1)


def v2(status: int, says: str, body: Any, **headers: str) -> Case:
    return Case(status, says, body if isinstance(body, bytes) else json.dumps(body).encode(), headers=headers)


def an_input(**other: Any) -> dict[str, Any]:
    fields = {name: value for name, value in {**ROW, **other}.items() if value is not ...}
    return {"inputs": [fields]}


def packed(status: int, says: str, encoding: str, content: bytes, path: str = V2) -> Case:
    return Case(status, says, content, path, headers={"content-encoding": encoding})


GOOD = {V1: b'{"instances":[[1,2]]}', V2: json.dumps({"inputs": [ROW]}).encode()}
BOMB = b"[" + b" " * 50_000_000
CASES: dict[str, Case] = {
    "v1: nothing": v1(400, "JSON Parse error: The document is empty at offset: 0", b""),
    "v1: a list": v1(400, "JSON Value Type: Array where the body must be an Object", b"[]"),
    "v1: text that is not UTF-8": v1(
        400, "JSON Parse error: Invalid encoding in string. at offset: 15", b'{"instances":["\xff"]}'
    ),
    "v1: a nesting without end": v1(400, "JSON Parse error: Nested too deeply", b"[" * 90_000),
    "v1: rows nested deeper than any model": v1(
        400, "nested more than 32 lists deep", b'{"instances":' + b"[" * 600 + b"1" + b"]" * 600 + b"}"
    ),
    "v1: an integer of 5,000 digits": v1(
        400, "JSON Parse error: Number too big", b'{"instances":[[' + b"9" * 5_000 + b",1]]}"
    ),
    "v1: null": v1(
        400,
        "JSON Value: null Type: Null is not of expected type: float (at instances[0][1])",
        {"instances": [[1, None]]},
    ),
    "v1: an object that is no input": v1(400, "does not have named input: y", {"instances": [{"y": 1}]}),
    "v1: inputs of null": v1(
        400, "JSON Value: null Type: Null is not of expected type: float (at inputs)", {"inputs": None}
    ),
    "v1: instances of text": v1(400, "Expecting 'instances' to be an list/array", {"instances": "x"}),
    "v1: examples that are no list": Case(
        400, "'examples' value must be a list/array", b'{"examples":{}}', "/v1/models/one:classify"
    ),
    "v1: a verb that there is not": Case(
        400, "Malformed request: POST /v1/models/one:dream", path="/v1/models/one:dream"
    ),
    "v1: no verb": Case(400, "Malformed request: POST /v1/models/one", path="/v1/models/one"),
    "v1: another method": Case(400, "Malformed request: GET /v1/models/one:predict", b"", V1, "GET"),
    "v1: a version that is text": Case(
        400,
        "Malformed request: POST /v1/models/one/versions/HELLO:predict",
        path="/v1/models/one/versions/HELLO:predict",
    ),
    "v1: a version beyond 64 bits": Case(
        400,
        "Failed to convert version: 99999999999999999999 to numeric.",
        path="/v1/models/one/versions/99999999999999999999:predict",
    ),
    "v1: a version and a label": Case(400, "Malformed request", path="/v1/models/one/versions/1/labels/x:predict"),
    "v1: a path that is no model's": Case(404, "Not Found", path="/v1/modelz"),
    "v2: nothing": v2(400, "the body is not JSON", b""),
    "v2: a list": v2(400, "the body must be a JSON object and is of type Array", b"[]"),
    "v2: text that is not UTF-8": v2(400, "the body is not JSON", b'{"id":"\xff"}'),
    "v2: a byte order mark": v2(400, "the body is not JSON", b"\xef\xbb\xbf{}"),
    "v2: something behind the document": v2(400, "the body is not JSON", GOOD[V2] + b"{}"),
    "v2: a nesting without end": v2(400, "the body is not JSON", b'{"inputs":' + b"[" * 90_000),
    "v2: NaN": v2(
        400, "input 'x': JSON has no NaN", b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,1]}]}'
    ),
    "v2: a number beyond FP64": v2(
        400, "input 'x': JSON has no NaN", b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1e400,1]}]}'
    ),
    "v2: a number beyond FP32": v2(
        400, "input 'x': element 0 of 'data' is out of range for type: FP32", an_input(data=[1e40, 1])
    ),
    "v2: no inputs": v2(400, "'inputs' must be a list of objects", {}),
    "v2: inputs that are an object": v2(400, "'inputs' must be a list of objects", {"inputs": {}}),
    "v2: an input that is a number": v2(400, "inputs[0] must be an Object and is of type Number", {"inputs": [1]}),
    "v2: an input without a name": v2(400, "inputs[0]: 'name' must be a string", an_input(name=...)),
    "v2: an input without a shape": v2(400, "input 'x': 'shape' must be a list of integers", an_input(shape=...)),
    "v2: an input without a datatype": v2(400, "input 'x': 'datatype' must be a string", an_input(datatype=...)),
    "v2: an input without data": v2(400, "input 'x': 'data' is missing", an_input(data=...)),
    "v2: a shape that is text": v2(400, "input 'x': 'shape' must be a list of integers", an_input(shape="1,2")),
    "v2: a dimension that is a fraction": v2(400, "input 'x': shape[0] must be an integer", an_input(shape=[1.0, 2])),
    "v2: a dimension that is true": v2(400, "input 'x': shape[0] must be an integer", an_input(shape=[True, 2])),
    "v2: a dimension beyond 64 bits": v2(
        400,
        "input 'x': shape[0] must be an integer",
        b'{"inputs":[{"name":"x","shape":[99999999999999999999,2],"datatype":"FP32","data":[]}]}',
    ),
    "v2: more dimensions than any model": v2(
        400, "input 'x': 'shape' has more than 32 dimensions", an_input(shape=[1] * 33)
    ),
    "v2: a datatype that there is not": v2(
        400, "input 'x': unknown datatype 'FLOAT'; the model's is FP32", an_input(datatype="FLOAT")
    ),
    "v2: brain floats, which no model here takes": v2(
        400, "input 'x': no model of this server takes BF16; this one takes FP32", an_input(datatype="BF16")
    ),
    "v2: brain floats as raw bytes": v2(
        400,
        "input 'x': no model of this server takes BF16; this one takes FP32",
        an_input(datatype="BF16", data=..., parameters={"binary_data_size": 4}),
    ),
    "v2: data that is null": v2(400, "input 'x': 'data' must be a list and is of type Null", an_input(data=None)),
    "v2: data that is an object": v2(400, "input 'x': 'data' must be a list and is of type Object", an_input(data={})),
    "v2: data of texts": v2(
        400,
        "input 'x': JSON Value: \"1\" Type: String is not of expected type: FP32 (at data[0])",
        an_input(data=["1", "2"]),
    ),
    "v2: data of null": v2(400, "input 'x': JSON Value: null Type: Null", an_input(data=[1, None])),
    "v2: data nested deeper than any model": v2(
        400, "input 'x': nested more than 32 lists deep", an_input(data=json.loads("[" * 600 + "]" * 600))
    ),
    "v2: parameters that are a list": v2(400, "'parameters' must be an Object", {**an_input(), "parameters": []}),
    "v2: parameters of an input that are text": v2(
        400, "input 'x': 'parameters' must be an Object", an_input(parameters="x")
    ),
    "v2: shared memory": v2(
        400, "input 'x': this server has no shared memory", an_input(data=..., parameters={"shared_memory_region": "r"})
    ),
    "v2: an id that is a number": v2(400, "'id' must be a string", {**an_input(), "id": 7}),
    "v2: outputs that are an object": v2(400, "'outputs' must be a list of objects", {**an_input(), "outputs": {}}),
    "v2: an output that is text": v2(
        400, "outputs[0] must be an Object whose 'name' is a string", {**an_input(), "outputs": ["x_out"]}
    ),
    "v2: a header length that is text": v2(
        400, "Inference-Header-Content-Length must be a number of bytes", b"{}", **{LENGTH: "abc"}
    ),
    "v2: a header length that is a fraction": v2(
        400, "Inference-Header-Content-Length must be a number of bytes", b"{}", **{LENGTH: "1.5"}
    ),
    "v2: a header length that is negative": v2(
        400, "inference header size should be in range (0, 2), got: -5", b"{}", **{LENGTH: "-5"}
    ),
    "v2: a header length with two signs": v2(
        400, "Inference-Header-Content-Length must be a number of bytes", b"{}", **{LENGTH: "--5"}
    ),
    "v2: a header length beyond the body": v2(
        400, "inference header size should be in range (0, 2), got: 3", b"{}", **{LENGTH: "3"}
    ),
    "v2: an empty header length": v2(
        400, "Inference-Header-Content-Length must be a number of bytes", b"{}", **{LENGTH: ""}
    ),
    "v2: raw bytes without a header": v2(
        400,
        "unexpected size for input 'x', expecting 8 additional bytes for model 'one'",
        an_input(data=..., parameters={"binary_data_size": 8}),
    ),
    "v2: a size that is true": v2(
        400,
        "input 'x': 'binary_data_size' must be a number of bytes",
        an_input(data=..., parameters={"binary_data_size": True}),
    ),
    "v2: another method": Case(405, "Method Not Allowed", b"", V2, "GET"),
    "v2: a path that is none": Case(404, "Not Found", path="/v2/models/one/dream"),
    "v2: a version that is text": Case(
        404, "Request for unknown model: 'one' versions/v10 is not found", path="/v2/models/one/versions/v10/infer"
    ),
    "v2: a version beyond 64 bits": Case(
        404,
        "Request for unknown model: 'one' versions/99999999999999999999 is not found",
        path="/v2/models/one/versions/99999999999999999999/infer",
    ),
    "v2: a name with a slash": Case(404, "", path="/v2/models/one%2Ftwo/infer"),
    "v2: a name with a zero byte": Case(404, "Request for unknown model", path="/v2/models/o%00e/infer"),
    "v2: a name that is not UTF-8": Case(404, "Request for unknown model", path="/v2/models/%ff%fe/infer"),
}
for _path in (V1, V2):
    _door = _path[1:3]
    CASES |= {
        f"{_door}: gzip that is none": packed(400, "not what its Content-Encoding says", "gzip", GOOD[_path], _path),
        f"{_door}: gzip cut short": packed(
            400, "the compressed body is cut short", "gzip", gzip.compress(GOOD[_path])[:-9], _path
        ),
        f"{_door}: something behind the gzip": packed(
            400, "something follows", "gzip", gzip.compress(GOOD[_path]) + b"x", _path
        ),
        f"{_door}: a gzip bomb": packed(413, "the inflated body is larger", "gzip", gzip.compress(BOMB), _path),
        f"{_door}: a deflate bomb": packed(413, "the inflated body is larger", "deflate", zlib.compress(BOMB), _path),
        f"{_door}: a bomb in a bomb": packed(400, "", "gzip", gzip.compress(gzip.compress(BOMB)), _path),
        f"{_door}: gzip twice by its own word": packed(
            501, "Content-Encoding", "gzip, gzip", gzip.compress(gzip.compress(BOMB)), _path
        ),
        f"{_door}: another encoding": packed(501, "Content-Encoding: gzip, deflate or none", "br", GOOD[_path], _path),
        f"{_door}: too large": Case(413, "the body is larger than the 100000 bytes", bytes(MAX_BODY_BYTES + 1), _path),
    }


async def test_what_is_malformed_is_refused_in_a_sentence(tmp_path: Path, subtests: pytest.Subtests) -> None:
    async with running_gateway(tmp_path, http={"max_body_bytes": MAX_BODY_BYTES}) as world:
        await world.tenant("acme")
        await served_onnx(world, "acme", "one", echo(x="FP32"))
        own = await world.headers(await world.service("acme", "invoker"))
        in_capitals = {"/V1/MODELS/one/VERSIONS/1:PREDICT": GOOD[V1]}  # as TensorFlow Serving's dispatcher takes it
        for path, body in {**GOOD, **in_capitals}.items():
            assert (await world.http.post(path, content=body, headers=own)).status_code == 200
        for name, case in CASES.items():
            with subtests.test(name):
                sent = {**own, **case.headers}
                _check(case, await world.http.request(case.method, case.path, content=case.body, headers=sent))
        _none_has_failed(world)


def _check(case: Case, answer: httpx.Response) -> None:
    assert answer.status_code == case.status, answer.text
    assert answer.headers["content-type"] == "application/json", "KServe's client reads errors of this type only"
    told = answer.json()
    assert case.says in told["error"]
    assert told["request_id"] == answer.headers["x-request-id"]
    if answer.status_code == 501:
        assert answer.headers["accept-encoding"] == "gzip, deflate"


async def test_model_of_brain_floats_is_refused_when_it_is_uploaded(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        with pytest.raises(ArtifactRefused, match="'x' has element type 16, which is not served"):
            await served_onnx(world, "acme", "brain", echo(x="BF16"))


HALF_HTTP = {
    "a head without its end": b"POST /v1/models/one:predict HTTP/1.1\r\nhost: x\r\n{token}",
    "a body of which half comes": b"POST /v1/models/one:predict HTTP/1.1\r\nhost: x\r\n{token}content-length: 90\r\n\r\n{{",
    "raw bytes of which half come": b"POST /v2/models/one/infer HTTP/1.1\r\nhost: x\r\n{token}inference-header-content-length: 0\r\ncontent-length: 8\r\n\r\nabc",
    "a chunk of which half comes": b"POST /v2/models/one/infer HTTP/1.1\r\nhost: x\r\n{token}transfer-encoding: chunked\r\n\r\n64\r\n{{",
    "chunks without an end": b"POST /v2/models/one/infer HTTP/1.1\r\nhost: x\r\n{token}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n",
}


async def test_request_that_stops_half_way_is_let_go(tmp_path: Path, subtests: pytest.Subtests) -> None:
    async with running_gateway(tmp_path, http={"deadline_s": 0.3}) as world, listening(world.app) as address:
        await world.tenant("acme")
        await served_onnx(world, "acme", "one", echo(x="FP32"))
        own = await world.headers(await world.service("acme", "invoker"))
        port = int(address.rpartition(":")[2])
        token = b"authorization: %b\r\n" % own["authorization"].encode()
        for name, text in HALF_HTTP.items():
            sent = text.replace(b"{token}", token).replace(b"{{", b"{").replace(b"}}", b"}")
            with subtests.test(name, then="the client goes"):
                await _half(port, sent, waits=False)
            if b"\r\n\r\n" in text:
                with subtests.test(name, then="the client waits"):
                    assert b" 504 " in await _half(port, sent, waits=True)
        async with httpx.AsyncClient(base_url=address) as http:
            assert (await http.post(V2, content=GOOD[V2], headers=own)).status_code == 200
        _none_has_failed(world)


async def _half(port: int, sent: bytes, *, waits: bool) -> bytes:
    """Send a part of a request; return the first line of what is answered, nothing where nobody waits for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        await writer.drain()
        async with asyncio.timeout(10):
            return await reader.readline() if waits else b""
    finally:
        writer.close()


async def test_message_that_stops_half_way_is_let_go(tmp_path: Path, subtests: pytest.Subtests) -> None:
    async with running_grpc(tmp_path, http={"deadline_s": 0.3}, grpc={"idle_s": 1}) as world, calling(world) as ask:
        await world.tenant("acme")
        await served_onnx(world, "acme", "one", echo(x="FP32"))
        own = await world.headers(await world.service("acme", "invoker"))
        half = b"\x00" + (100).to_bytes(4, "big") + b"\x0a\x03one"
        for method in ("ModelInfer", "ModelStreamInfer"):
            for name, body in {"half a message": half, "half a length": half[:3], "nothing": b""}.items():
                for then, ends in {"goes": False, "says that this was all": True}.items():
                    with subtests.test(f"{method}: {name}, and the client {then}"):
                        told = await _http2(world.app.state.grpc_port, method, own["authorization"], body, ends=ends)
                        assert DATA not in told, "it is refused by its status alone"
                        assert not ends or told[-1] in {HEADERS, RST_STREAM}
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [1, 2]}}
        message = written("inference.ModelInferRequest", {"model_name": "one", "inputs": [tensor]})
        whole = b"\x00" + len(message).to_bytes(4, "big") + message
        told = await _http2(world.app.state.grpc_port, "ModelInfer", own["authorization"], whole, ends=True)
        assert told == [HEADERS, DATA, HEADERS], "a whole one is answered"
        assert (await ask("ModelInfer", message, metadata=tuple(own.items()))).model_name == "one"
        _none_has_failed(world)


async def _http2(port: int, method: str, token: str, body: bytes, *, ends: bool) -> list[int]:
    """Call a method with a body as it is; return the kinds of the call's frames, none where nobody waits for them.

    Source: RFC 9113 section 3.4 (preface), section 6 (frames); RFC 7541 section 6.2.2 (literal fields); gRPC over HTTP2.
    """
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/inference.GRPCInferenceService/{method}",
        ":authority": "x",
        "content-type": "application/grpc",
        "te": "trailers",
        "authorization": token,
    }
    head = b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in fields.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, b""))
        writer.write(_frame(HEADERS, END_HEADERS, 1, head) + _frame(DATA, END_STREAM if ends else 0, 1, body))
        await writer.drain()
        async with asyncio.timeout(10):
            return await _kinds(reader) if ends else []
    finally:
        writer.close()


async def _kinds(reader: asyncio.StreamReader) -> list[int]:
    """Return the kinds of frames that come for a call, up to its end."""
    found: list[int] = []
    while True:
        *size, kind, flags, _, _, _, stream = await reader.readexactly(9)
        await reader.readexactly(int.from_bytes(bytes(size), "big"))
        assert kind != GOAWAY
        if stream:
            found.append(kind)
            if kind == RST_STREAM or flags & END_STREAM:
                return found


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + content


def _literal(text: str) -> bytes:
    raw = text.encode()
    if len(raw) < 127:
        return bytes((len(raw),)) + raw
    rest, length = len(raw) - 127, b"\x7f"
    while rest >= 128:
        length += bytes((rest % 128 + 128,))
        rest //= 128
    return length + bytes((rest,)) + raw


def _none_has_failed(world: World) -> None:
    """Tell that no door has met what it calls an unexpected fault."""
    for door, status in (("tf_serving", "500"), ("open_inference", "500"), ("grpc", "13")):
        labels = {"door": door, "status": status}
        assert world.app.metrics.registry.get_sample_value("maas_request_duration_seconds_count", labels) is None
