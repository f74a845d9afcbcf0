"""TLS on both ports: real handshakes of httpx, curl and grpcio's own client."""

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc import StatusCode

from builders.certificates import Authority, Pair
from builders.gateways import World
from builders.grpc_clients import UNLIMITED, Caller, a_request, running_grpc
from builders.listening import listening
from builders.models import DemoModel, published_model

pytestmark = pytest.mark.anyio

ANSWERED_WITHIN_S = 20
HOSTS = ("localhost", "127.0.0.1")
READY = "/v2/health/ready"


@dataclass
class Served:
    """A gateway with TLS, spoken to from outside."""

    world: World
    authority: Authority
    url: str
    folder: Path

    def trusting(self, client: Pair | None = None, authority: Authority | None = None) -> ssl.SSLContext:
        """Return what a client checks the gateway with, and what it shows itself."""
        context = ssl.create_default_context(cadata=(authority or self.authority).pem.decode())
        if client is not None:
            context.load_cert_chain(*client.written(self.folder, "client"))
        return context

    async def shown(self) -> bytes:
        """Return the certificate that a new connection to the HTTP port is shown."""
        return await self.shown_at(httpx.URL(self.url).port or 0)

    async def shown_at(self, port: int) -> bytes:
        """Return the certificate that a new connection to a port is shown."""
        context = self.trusting()
        context.set_alpn_protocols(["h2", "http/1.1"])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return ssl.DER_cert_to_PEM_cert(der).encode()

    async def looked(self) -> None:
        """Have the gateway look at its files until it takes up what has changed."""
        assert self.world.app.tls is not None
        for _ in range(2):
            await self.world.app.tls.look()

    async def ready(self, **how: Any) -> int:
        """Ask on a connection of its own."""
        async with httpx.AsyncClient(verify=self.trusting(**how), base_url=self.url) as client:
            return (await client.get(READY)).status_code

    @asynccontextmanager
    async def calling(self, client: Pair | None = None) -> AsyncIterator[Caller]:
        """Yield a caller of the gRPC port, on a connection of its own."""
        mine = (None, None) if client is None else (client.key, client.chain)
        credentials = grpc.ssl_channel_credentials(self.authority.pem, *mine)
        address = f"127.0.0.1:{self.world.app.state.grpc_port}"
        options = (*UNLIMITED, ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            yield Caller(channel)


@asynccontextmanager
async def _served(folder: Path, **tls: Any) -> AsyncIterator[Served]:
    authority = Authority()
    certificate, key = authority.issue(*HOSTS).written(folder)
    settings = {"certificate_file": certificate, "key_file": key, **tls}
    async with running_grpc(folder, tls=settings) as world:
        assert world.app.tls is not None
        async with listening(world.app, world.app.tls.context) as url:
            yield Served(world, authority, url, folder)


async def _refused(asking: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            await asking
    assert caught.value.code() is StatusCode.UNAVAILABLE


def _only(version: ssl.TLSVersion, context: ssl.SSLContext) -> ssl.SSLContext:
    """Have a client speak one version of TLS, an old one too."""
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.set_alpn_protocols(["h2", "http/1.1"])
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = version
    return context


def _handshake(
    context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession | None]:
    """Ask once; return whether the session was taken up again, and the one to take up next."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=ANSWERED_WITHIN_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost", session=session) as connection,
    ):
        connection.sendall(f"GET {READY} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        return bool(connection.session_reused), connection.session


async def _curl(*arguments: str) -> tuple[int, str]:
    made = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--max-time", "20", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await made.communicate()
    assert made.returncode is not None
    return made.returncode, output.decode()


async def test_predictions_are_answered_over_tls_at_both_ports(tmp_path: Path, demo: DemoModel) -> None:
    async with _served(tmp_path) as served, served.calling() as ask:
        world = served.world
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        token = await world.token(await world.service("acme", "invoker"))
        answer = await ask("ModelInfer", a_request(demo), metadata=(("authorization", f"Bearer {token}"),))
        assert answer.model_name == "bc"
        body = {"instances": [list(demo.seed.example)] * 3}
        async with httpx.AsyncClient(verify=served.trusting(), base_url=served.url) as client:
            found = await client.post("/v1/models/bc:predict", json=body, headers={"authorization": f"Bearer {token}"})
            assert (found.status_code, len(found.json()["predictions"])) == (200, 3)
        (tmp_path / "ca.pem").write_bytes(served.authority.pem)
        assert (await _curl("--cacert", str(tmp_path / "ca.pem"), served.url + READY))[0] == 0
        assert (await _curl(served.url + READY))[0] == 60, "an authority that nobody told it of"
        assert (await _curl(served.url.replace("https", "http") + READY))[0] != 0, "in the clear"
        assert world.settings.base_url.startswith("https://")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{world.app.state.grpc_port}") as channel:
            await _refused(Caller(channel)("ServerReady"))


@pytest.mark.parametrize(("offered", "n_bytes"), [(["h2"], 1), (["http/1.1"], 0), ([], 0)])
async def test_the_grpc_port_speaks_to_who_asks_for_http2_only(
    tmp_path: Path, offered: list[str], n_bytes: int
) -> None:
    async with _served(tmp_path) as served:
        context = served.trusting()
        if offered:
            context.set_alpn_protocols(offered)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.world.app.state.grpc_port, ssl=context)
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            assert len(await reader.read(1)) == n_bytes
        writer.close()


@pytest.mark.parametrize("port", ["HTTP", "gRPC"])
async def test_tls_before_1_2_is_refused_by_the_gateway(tmp_path: Path, port: str) -> None:
    async with _served(tmp_path) as served:
        number = httpx.URL(served.url).port if port == "HTTP" else served.world.app.state.grpc_port
        lenient = _only(ssl.TLSVersion.TLSv1_1, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        lenient.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=lenient) as other:
            (await _opened(served, ssl.TLSVersion.TLSv1_1, other.sockets[0].getsockname()[1])).close()
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await _opened(served, ssl.TLSVersion.TLSv1_1, number)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            (await _opened(served, version, number)).close()


async def _opened(served: Served, version: ssl.TLSVersion, port: int | None) -> asyncio.StreamWriter:
    """Open a connection with this version and no other."""
    return (await asyncio.open_connection("127.0.0.1", port, ssl=_only(version, served.trusting())))[1]


async def test_a_client_certificate_is_demanded_besides_a_token(tmp_path: Path) -> None:
    clients, others = Authority("clients"), Authority("others")
    (tmp_path / "clients.pem").write_bytes(clients.pem)
    async with _served(tmp_path, client_ca_file=tmp_path / "clients.pem") as served:
        mine, foreign = clients.issue("robot"), others.issue("robot")
        assert await served.ready(client=mine) == 200
        async with httpx.AsyncClient(verify=served.trusting(mine), base_url=served.url) as client:
            assert (await client.get("/v2/models")).status_code == 401
        for wrong in (None, foreign):
            with pytest.raises(httpx.TransportError):
                await served.ready(client=wrong)
            async with served.calling(wrong) as ask:
                await _refused(ask("ServerReady"))
        async with served.calling(mine) as ask:
            assert (await ask("ServerReady")).ready
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask("ServerMetadata")
            assert caught.value.code() is StatusCode.UNAUTHENTICATED


async def test_a_client_certificate_that_is_optional_must_be_a_good_one(tmp_path: Path) -> None:
    clients, others = Authority("clients"), Authority("others")
    (tmp_path / "clients.pem").write_bytes(clients.pem)
    tls = {"client_ca_file": tmp_path / "clients.pem", "requires_client_certificate": False}
    async with _served(tmp_path, **tls) as served:
        for good in (None, clients.issue("robot")):
            assert await served.ready(client=good) == 200
            async with served.calling(good) as ask:
                assert (await ask("ServerReady")).ready
        with pytest.raises(httpx.TransportError):
            await served.ready(client=others.issue("robot"))


async def test_a_new_certificate_is_shown_to_new_connections_and_open_ones_go_on(tmp_path: Path) -> None:
    async with (
        _served(tmp_path) as served,
        served.calling() as ask,
        httpx.AsyncClient(verify=served.trusting(), base_url=served.url) as client,
    ):
        streams = {id((await client.get(READY)).extensions["network_stream"])}
        assert (await ask("ServerReady")).ready
        grpc_port = served.world.app.state.grpc_port
        first = await served.shown()
        new = served.authority.issue(*HOSTS)
        for pair, expected in ((new, new.chain), (Authority().issue("x", ends=timedelta(seconds=-1)), new.chain)):
            pair.written(tmp_path)
            await served.looked()
            assert await served.shown() == await served.shown_at(grpc_port) == expected != first
        answered = await client.get(READY)
        streams.add(id(answered.extensions["network_stream"]))
        assert (answered.status_code, len(streams)) == (200, 1)
        assert (await ask("ServerReady")).ready


async def test_clients_of_an_authority_that_is_taken_away_come_in_no_more(tmp_path: Path) -> None:
    old, new = Authority("old"), Authority("new")
    path = tmp_path / "clients.pem"
    path.write_bytes(old.pem)
    async with _served(tmp_path, client_ca_file=path) as served:
        context = served.trusting(old.issue("robot"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # where a ticket comes with the handshake itself
        port = httpx.URL(served.url).port
        _, session = await asyncio.to_thread(_handshake, context, port)
        assert session is not None
        assert (await asyncio.to_thread(_handshake, context, port, session))[0], "the session is taken up again"
        path.write_bytes(new.pem)
        await served.looked()
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(_handshake, context, port, session)
        assert await served.ready(client=new.issue("robot")) == 200
