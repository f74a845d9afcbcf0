"""The gRPC door through a real port, asked by grpcio's own client."""

import asyncio
import base64
import zlib
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import StatusCode

from builders.gateways import World
from builders.grpc_clients import HEALTH, SERVICE, Caller, a_request, calling, running_grpc
from builders.models import DemoModel, published_model
from maas_gateway.errors import Misconfigured
from maas_gateway.identifiers import ModelRef
from maas_gateway.protocols.open_inference.grpc.messages import message_class, written

pytestmark = pytest.mark.anyio

Metadata = tuple[tuple[str, str], ...]
REFUSED_WITHIN_S = 20
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
REFLECTION = "ServerReflection/ServerReflectionInfo"


async def _served(world: World, demo: DemoModel) -> Metadata:
    """Serve a model of the tenant acme; return what an invoker of it sends."""
    await world.tenant("acme")
    await published_model(world, "acme", "bc", demo)
    return _bearer(await world.token(await world.service("acme", "invoker")))


def _bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


async def _refusal(asking: Any) -> tuple[StatusCode, str, dict[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(REFUSED_WITHIN_S):
            await asking
    return caught.value.code(), caught.value.details(), dict(caught.value.trailing_metadata())


def _infer(demo: DemoModel, **more: Any) -> bytes:
    return written("inference.ModelInferRequest", a_request(demo, **more))


async def test_predictions_are_those_of_the_other_door(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        owner = await world.principal(world.owners["acme"])
        await world.gateway.promote.label(owner, ModelRef("bc", None, "stable"), 1)
        raw = np.array([demo.seed.example] * 3, "<f4").tobytes()
        tensor = {"name": "measurements", "datatype": "FP32", "shape": [3, 30]}
        sent = {"raw_input_contents": [base64.b64encode(raw).decode()], "inputs": [tensor]}
        for fields, n_rows in ((a_request(demo, 2, id="7"), 2), ({**a_request(demo, id="7"), **sent}, 3)):
            for version in ("", "1", "stable"):
                answer = await ask("ModelInfer", {**fields, "model_version": version}, metadata=metadata)
                assert (answer.model_name, answer.model_version, answer.id) == ("bc", "1", "7")
                (output,) = answer.outputs
                assert (output.datatype, list(output.shape), len(output.contents.fp32_contents)) == (
                    "FP32",
                    [n_rows, 1],
                    0,
                )
                scores = np.frombuffer(answer.raw_output_contents[0], "<f4")
                assert np.allclose(scores, demo.seed.expected, rtol=1e-5)


async def test_models_are_described_as_at_the_other_door(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        headers = dict(metadata)
        await ask("ModelInfer", a_request(demo, 2), metadata=metadata)
        server = await ask("ServerMetadata", metadata=metadata)
        told = (await world.http.get("/v2", headers=headers)).json()
        assert (server.name, list(server.extensions)) == (told["name"], told["extensions"])
        model = await ask("ModelMetadata", {"name": "bc"}, metadata=metadata)
        told = (await world.http.get("/v2/models/bc", headers=headers)).json()
        assert (model.platform, list(model.versions)) == (told["platform"], told["versions"])
        assert [list(spec.shape) for spec in model.inputs] == [spec["shape"] for spec in told["inputs"]]
        config = (await ask("ModelConfig", {"name": "bc", "version": "1"}, metadata=metadata)).config
        told = (await world.http.get("/v2/models/bc/config", headers=headers)).json()
        assert (config.max_batch_size, list(config.input[0].dims)) == (told["max_batch_size"], told["input"][0]["dims"])
        for fields in ({"name": "bc"}, {}):
            (counts,) = (await ask("ModelStatistics", fields, metadata=metadata)).model_stats
            assert (counts.name, counts.inference_count, counts.inference_stats.success.count) == ("bc", 2, 1)
        assert (await ask("ModelReady", {"name": "bc"}, metadata=metadata)).ready
        for fields in ({}, {"ready": True}):
            (row,) = (await ask("RepositoryIndex", fields, metadata=metadata)).models
            assert (row.name, row.version, row.state, row.reason) == ("bc", "1", "READY", "")


async def test_each_kind_of_caller_gets_its_own_answer(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        token = metadata[0][1].removeprefix("Bearer ")
        await world.tenant("globex")
        stranger = _bearer(await world.token(await world.service("globex", "invoker")))
        auditor = _bearer(await world.token(await world.service("acme", "auditor")))
        basic = base64.b64encode(f"anybody:{token}".encode()).decode()
        for sent in (metadata, (("authorization", f"  Bearer {token}"),), (("authorization", f"Basic {basic}"),)):
            assert (await ask("ModelInfer", a_request(demo), metadata=sent)).model_name == "bc"
        nobody: list[tuple[Metadata, str]] = [
            ((), "send a token"),
            (_bearer("nonsense"), ""),
            ((("authorization", "Negotiate x"),), "no bearer token"),
            ((("x-api-key", "nonsense"),), "holds no API key"),
            ((*metadata, ("x-api-key", "maas_x_y")), "more than one credential"),
        ]
        for method in (
            "ModelInfer",
            "ServerMetadata",
            "ModelReady",
            "ModelMetadata",
            "ModelConfig",
            "ModelStatistics",
            "RepositoryIndex",
            "RepositoryModelLoad",
        ):
            for sent, says in nobody:
                code, detail, trailers = await _refusal(ask(method, metadata=sent))
                assert (code, says in detail) == (StatusCode.UNAUTHENTICATED, True), detail
                assert trailers["www-authenticate"].startswith("Bearer realm=")
                assert trailers["x-request-id"]
        unseen = await _refusal(ask("ModelInfer", a_request(demo), metadata=stranger))
        absent = await _refusal(ask("ModelInfer", a_request(demo, model="bc2"), metadata=stranger))
        assert unseen[0] is absent[0] is StatusCode.NOT_FOUND
        assert unseen[1] == absent[1].replace("bc2", "bc") == "Request for unknown model: 'bc' is not found"
        code, detail, _ = await _refusal(ask("ModelInfer", a_request(demo), metadata=auditor))
        assert (code, "model:predict" in detail) == (StatusCode.PERMISSION_DENIED, True)
        await world.gateway.audit.flush()
        owner = await world.headers(world.owners["acme"])
        events = (await world.http.get("/admin/v1/audit/events", headers=owner)).json()
        assert "grpc ModelInfer bc" in str(events)


REFUSALS: list[tuple[dict[str, Any], StatusCode, str]] = [
    ({"model_version": "9"}, StatusCode.NOT_FOUND, "'bc' version 9 is not found"),
    ({"model_version": "x/y"}, StatusCode.NOT_FOUND, "'bc' x/y is not found"),
    ({"model_version": "x"}, StatusCode.NOT_FOUND, "'bc' label x is not found"),
    ({"model_name": "b" * 60_000}, StatusCode.NOT_FOUND, "unknown model: 'bbb"),
    ({"model_name": ""}, StatusCode.NOT_FOUND, "unknown model: ''"),
    ({"inputs": []}, StatusCode.INVALID_ARGUMENT, "missing input 'measurements'"),
    ({"parameters": {"sequence_id": {"int64_param": 1}}}, StatusCode.UNIMPLEMENTED, "'sequence_id'"),
    ({"parameters": {"timeout": {"int64_param": 1}}}, StatusCode.DEADLINE_EXCEEDED, "deadline"),
]


async def test_refusals_have_a_status_and_a_sentence(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        for fields, code, says in REFUSALS:
            found = await _refusal(ask("ModelInfer", {**a_request(demo), **fields}, metadata=metadata))
            assert (found[0], says in found[1]) == (code, True), found
            assert len(found[1]) <= 1_001


async def test_what_is_no_message_or_too_large_is_refused(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path, grpc={"max_message_bytes": 10_000}) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        code, detail, trailers = await _refusal(ask("ModelInfer", b"\x0a\xff", metadata=metadata))
        assert (code, detail) == (StatusCode.INVALID_ARGUMENT, "the message is cut short")
        assert trailers["x-request-id"]
        code, _, trailers = await _refusal(
            ask("ModelInfer", b"\x0a\xff", metadata=(*metadata, ("x-request-id", "mine")))
        )
        assert trailers["x-request-id"] == "mine"
        code, detail, _ = await _refusal(ask("ModelInfer", bytes(10_001), metadata=metadata))
        assert code is StatusCode.RESOURCE_EXHAUSTED
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{world.app.state.grpc_port}", compression=grpc.Compression.Gzip
        ) as channel:
            packed = Caller(channel)
            assert (await packed("ModelInfer", a_request(demo), metadata=metadata)).model_name == "bc"
            assert len(zlib.compress(bytes(5_000_000))) < 10_000
            code, detail, _ = await _refusal(packed("ModelInfer", bytes(5_000_000), metadata=metadata))
            assert (code, "larger than the 10000 bytes" in detail) == (StatusCode.RESOURCE_EXHAUSTED, True), detail
        code, _, _ = await _refusal(ask("SystemSharedMemoryStatus", b"", metadata=metadata))
        assert code is StatusCode.UNIMPLEMENTED


async def test_a_quota_is_told_with_when_to_come_again(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        owner = await world.headers(world.owners["acme"])
        quota = {"model": "bc", "quota": {"requests": {"amount": 1, "window_s": 60}}}
        answer = await world.http.post("/admin/v1/quotas", json=quota, headers=owner)
        assert answer.status_code == 201, answer.text
        await ask("ModelInfer", a_request(demo), metadata=metadata)
        code, _, trailers = await _refusal(ask("ModelInfer", a_request(demo), metadata=metadata))
        assert code is StatusCode.RESOURCE_EXHAUSTED
        assert int(trailers["retry-after"]) >= 1
        assert trailers["ratelimit-limit"] == "1"


async def test_a_callers_deadline_and_its_going_end_what_is_done_for_it(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        call = ask.channel.stream_unary(f"/{SERVICE}/ModelInfer")(metadata=metadata, timeout=0.2)
        code, _, _ = await _refusal(call)  # its message never comes
        assert code is StatusCode.DEADLINE_EXCEEDED
        gone = [ask.channel.stream_unary(f"/{SERVICE}/ModelInfer")(metadata=metadata) for _ in range(20)]
        await asyncio.gather(*(one.wait_for_connection() for one in gone))
        for one in gone:
            one.cancel()
        assert (await ask("ModelInfer", a_request(demo), metadata=metadata)).model_name == "bc"


async def test_a_message_that_does_not_come_is_given_up(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path, http={"deadline_s": 0.3}) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        code, detail, _ = await _refusal(ask.channel.stream_unary(f"/{SERVICE}/ModelInfer")(metadata=metadata))
        assert (code, detail) == (StatusCode.DEADLINE_EXCEEDED, "the message did not arrive in time")
        empty = ask.channel.stream_unary(f"/{SERVICE}/ModelInfer")(iter(()), metadata=metadata)
        code, detail, _ = await _refusal(empty)
        assert (code, detail) == (StatusCode.INVALID_ARGUMENT, "the call ended without a message")


async def test_a_stream_answers_in_order_and_tells_of_refusals_in_it(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path, grpc={"max_under_way": 3}) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        stream = ask.stream(metadata)
        sent = [_infer(demo, n_rows=1 + n % 4, id=str(n), model="bc" if n % 5 else "x") for n in range(40)]
        for message in (*sent, b"\x0a\xff"):
            await stream.write(message)
        await stream.done_writing()
        answers = [answer async for answer in stream]
        assert await stream.code() is StatusCode.OK
        assert [answer.infer_response.id for answer in answers[:-1]] == [str(n) for n in range(40)]
        for n, answer in enumerate(answers[:-1]):
            expected = "" if n % 5 else "Request for unknown model: 'x' is not found"
            assert answer.error_message == expected
            assert len(answer.infer_response.raw_output_contents) == bool(n % 5)
        assert answers[-1].error_message == "the message is cut short"
        assert answers[-1].infer_response.id  # made for it


async def test_a_stream_ends_when_its_credential_does(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        stream = ask.stream(metadata)
        await stream.write(_infer(demo, id="1"))
        assert (await stream.read()).infer_response.id == "1"
        token = metadata[0][1].removeprefix("Bearer ")
        owner = await world.headers(world.owners["acme"])
        revoked = await world.http.post("/oauth/revoke", data={"token": token}, headers=dict(metadata))
        assert revoked.status_code == 200, (revoked.text, owner)
        await stream.write(_infer(demo, id="2"))
        for ended in (stream.read(), _first(ask.stream(()))):
            code, _, _ = await _refusal(ended)
            assert code is StatusCode.UNAUTHENTICATED


async def test_a_stream_on_which_nothing_comes_ends(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path, grpc={"idle_s": 1}) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        code, detail, _ = await _refusal(_first(ask.stream(metadata)))
        assert (code, detail) == (StatusCode.DEADLINE_EXCEEDED, "nothing came on this stream for 1 seconds")


async def test_streams_and_calls_are_bounded_and_places_come_free(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path, grpc={"max_streams": 3, "max_calls": 6}) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        for _ in range(2):
            streams = [ask.stream(metadata) for _ in range(3)]
            for stream in streams:
                await stream.write(_infer(demo))
                assert (await stream.read()).infer_response.model_name == "bc"
            code, detail, trailers = await _refusal(_first(ask.stream(metadata)))
            assert (code, detail, trailers["retry-after"]) == (StatusCode.UNAVAILABLE, "too many streams are open", "1")
            half = [ask.channel.stream_unary(f"/{SERVICE}/ModelInfer")(metadata=metadata) for _ in range(3)]
            await asyncio.gather(*(one.wait_for_connection() for one in half))
            await _until_full(ask, metadata)
            for each in (*streams, *half):
                each.cancel()
            await _until_free(ask, demo, metadata)


async def _until_full(ask: Caller, metadata: Metadata) -> None:
    async with asyncio.timeout(10):
        while True:
            code = await ask.channel.unary_unary(f"/{SERVICE}/ServerMetadata")(b"", metadata=metadata).code()
            if code is not StatusCode.OK:
                assert code is StatusCode.RESOURCE_EXHAUSTED
                return


async def _until_free(ask: Caller, demo: DemoModel, metadata: Metadata) -> None:
    async with asyncio.timeout(10):
        while True:
            stream = ask.stream(metadata)
            try:
                await stream.write(_infer(demo))
                await stream.read()
                await stream.done_writing()
                assert await stream.read() is grpc.aio.EOF
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):  # refused, maybe before all was written
                continue
            if await stream.code() is StatusCode.OK:
                return


@pytest.mark.thorough
async def test_ten_thousand_tiny_streams_do_no_harm(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path, grpc={"max_calls_a_connection": 10_000, "max_calls": 500}) as world:
        async with calling(world) as ask:
            metadata = await _served(world, demo)
            message = _infer(demo)
            await _until_free(ask, demo, metadata)
            n_tasks = len(asyncio.all_tasks())

            async def tiny(n: int) -> StatusCode:
                stream = ask.stream(metadata)
                try:
                    await stream.write(message if n % 2 else message[:10])
                    if n % 3:
                        await stream.done_writing()
                        async for _ in stream:
                            pass
                    else:
                        stream.cancel()
                except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
                    pass
                return await stream.code()

            codes = set(await asyncio.gather(*(tiny(n) for n in range(10_000))))
            known = {StatusCode.OK, StatusCode.CANCELLED, StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED}
            assert StatusCode.OK in codes
            # INTERNAL ("Internal error from Core") is the client's own, of messages that it could not send: of so many
            # streams on one channel, 7,020 end like that at a server of grpcio that only echoes, too (1.85). So this test
            # tells that no harm is done; that the bounds hold, the one before it tells.
            assert codes <= {*known, StatusCode.INTERNAL}, codes
        async with calling(world) as ask:
            await _until_free(ask, demo, metadata)
            async with asyncio.timeout(10):  # none is left behind, nor what it waited for
                while len(asyncio.all_tasks()) > n_tasks:
                    await ask("ServerLive")
            assert (await ask("ModelInfer", a_request(demo), metadata=metadata)).model_name == "bc"
        metrics = world.app.metrics
        failed = metrics.registry.get_sample_value(
            "maas_request_duration_seconds_count", {"door": "grpc", "status": "13"}
        )
        assert failed is None


async def test_health_is_told_to_anybody_until_the_gateway_stops(tmp_path: Path) -> None:
    check, response = "grpc.health.v1.HealthCheckRequest", message_class("grpc.health.v1.HealthCheckResponse")
    running = running_grpc(tmp_path)
    world = await running.__aenter__()
    async with calling(world) as ask:
        assert (await ask("ServerLive")).live
        assert (await ask("ServerReady")).ready
        for service in ("", SERVICE, HEALTH):
            answer = await ask.channel.unary_unary(f"/{HEALTH}/Check")(written(check, {"service": service}))
            assert response.FromString(answer).status == SERVING
        asking = ask.channel.unary_unary(f"/{HEALTH}/Check")(written(check, {"service": "nope"}))
        assert (await _refusal(asking))[0] is StatusCode.NOT_FOUND
        watching = [
            ask.channel.unary_stream(f"/{HEALTH}/Watch", response_deserializer=response.FromString)(
                written(check, {"service": service})
            )
            for service in ("nope", "")
        ]
        assert [(await watch.read()).status for watch in watching] == [SERVICE_UNKNOWN, SERVING]
        await running.__aexit__(None, None, None)
        assert (await watching[1].read()).status == NOT_SERVING
        for watch in watching:
            assert await watch.read() is grpc.aio.EOF


async def test_reflection_describes_the_services_to_who_has_a_token(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path) as world, calling(world) as ask:
        metadata = await _served(world, demo)
        request = message_class("grpc.reflection.v1.ServerReflectionRequest")
        response = message_class("grpc.reflection.v1.ServerReflectionResponse")
        for version in ("v1", "v1alpha"):
            method = f"/grpc.reflection.{version}.{REFLECTION}"
            code, _, _ = await _refusal(_first(ask.channel.stream_stream(method)()))
            assert code is StatusCode.UNAUTHENTICATED
            stream = ask.channel.stream_stream(
                method, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )(metadata=metadata)
            await stream.write(request(list_services=""))
            names = [service.name for service in (await stream.read()).list_services_response.service]
            assert {SERVICE, HEALTH} < set(names)
            for asked in (request(file_containing_symbol=SERVICE), request(file_by_filename="inference.proto")):
                await stream.write(asked)
                (content,) = (await stream.read()).file_descriptor_response.file_descriptor_proto
                file = FileDescriptorProto.FromString(content)
                assert "ModelStreamInfer" in {method.name for method in file.service[0].method}
            for asked, code_ in ((request(file_by_filename="x"), 5), (request(), 12)):
                await stream.write(asked)
                assert (await stream.read()).error_response.error_code == code_
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF


async def test_two_gateways_cannot_have_one_port(tmp_path: Path) -> None:
    async with running_grpc(tmp_path / "one") as world:
        port = world.app.state.grpc_port
        with pytest.RaisesGroup(pytest.RaisesExc(Misconfigured, match="cannot listen")):
            async with running_grpc(tmp_path / "two", grpc={"port": port}):
                pass


async def _first(stream: Any) -> Any:
    async for answer in stream:
        return answer
    return None
