"""The Open Inference Protocol door: its paths, its verbs, its errors.

Rules: health is public and tells of the gateway, never of a tenant's models; the version part of a
path is a number or, as an extension, `/labels/<label>`; whether raw bytes follow a body's JSON its header
`Inference-Header-Content-Length` decides, whatever its content type says.

Source: Open Inference Protocol, "HTTP/REST"; KServe and Triton clients' expectations of its answers.
"""

import re
from typing import Final

import orjson

from maas_gateway import __version__
from maas_gateway.clock import Deadline
from maas_gateway.dataplane.describe import Describe
from maas_gateway.dataplane.predict import Predict
from maas_gateway.dataplane.servables import BatchLimits
from maas_gateway.errors import (
    GatewayError,
    MethodNotAllowed,
    ModelNotFound,
    ModelNotReady,
    NotFound,
    Unsupported,
    UnsupportedEncoding,
)
from maas_gateway.identifiers import ModelRef
from maas_gateway.principal import Principal
from maas_gateway.protocols.open_inference.binary import LENGTH_HEADER
from maas_gateway.protocols.open_inference.codec import read_infer, write_error, write_infer
from maas_gateway.protocols.open_inference.configuration import write_configuration
from maas_gateway.protocols.open_inference.metadata import (
    EXTENSIONS,
    SERVER,
    write_model_metadata,
    write_server_metadata,
)
from maas_gateway.protocols.open_inference.outputs import PLAIN
from maas_gateway.protocols.open_inference.references import not_found, of_version
from maas_gateway.protocols.open_inference.repository import (
    MAX_REPOSITORY_BYTES,
    Repository,
    read_change,
    read_index,
    write_changed,
    write_index,
)
from maas_gateway.protocols.open_inference.statistics import write_statistics
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.signature import ModelSignature
from maas_gateway.web.door import Door, PredictionLimits
from maas_gateway.web.exchange import Exchange, Receive, Scope, Send, length_of
from maas_gateway.web.problems import status_of
from maas_gateway.web.readiness import Readiness

PREFIX: Final = "/v2"
_MODEL: Final = re.compile(
    r"/v2/models/([^/]+)(?:/versions/([^/]+)|/labels/([^/]+))?(/ready|/infer|/config|/stats)?/?", re.ASCII
)
_CHANGE: Final = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)/?", re.ASCII)
_INDEX: Final = frozenset(["/v2/repository/index", "/v2/repository/index/"])
_LISTS: Final = frozenset(["/v2/models", "/v2/models/", "/v2/models/stats"])
_OCTETS: Final = b"application/octet-stream"
READY: Final = "/v2/health/ready"
_HEALTH: Final = {
    "/v2/health/live": b'{"live":true}',
    READY: b'{"ready":true,"live":true}',
}
_NOT_READY: Final = b'{"ready":false,"live":true}'


class OpenInferenceDialect:
    """The Open Inference Protocol's way of refusing: `{"error": …}`."""

    def status(self, error: GatewayError) -> int:
        """Return the HTTP status."""
        is_encoding = isinstance(error, UnsupportedEncoding)
        return 400 if isinstance(error, Unsupported) and not is_encoding else status_of(error)

    def write(self, detail: str, request_id: str) -> bytes:
        """Return the error body."""
        return write_error(detail, request_id)


class OpenInferenceRoutes:
    """Answers `/v2…`.

    Args:
        door: the frame that all prediction doors share.
        predict: answers predictions.
        describe: answers questions about models.
        repository: lists models, and has them served or not.
        limits: how much and how long a prediction may be.
        batches: how requests to one model are run together, to be told.
        readiness: whether new requests are welcome, to be told.
    """

    def __init__(
        self,
        door: Door,
        predict: Predict,
        describe: Describe,
        repository: Repository,
        *,
        limits: PredictionLimits,
        batches: BatchLimits,
        readiness: Readiness,
    ) -> None:
        self._door = door
        self._predict = predict
        self._describe = describe
        self._repository = repository
        self._max_body_bytes = limits.max_body_bytes
        self._deadline_s = limits.deadline_s
        self._batches = batches
        self._readiness = readiness

    @staticmethod
    def takes(path: str) -> bool:
        """Tell whether a path is this door's."""
        return path == PREFIX or path.startswith("/v2/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send)
        if exchange.path in _HEALTH:
            await self._door.serve_anyone(exchange, self._health)
        else:
            await self._door.serve(exchange, self._handle)

    async def _handle(self, exchange: Exchange, principal: Principal) -> None:
        if exchange.path in {"/v2", "/v2/"}:
            _only(exchange, "GET")
            await exchange.answer(200, write_server_metadata(SERVER, __version__, EXTENSIONS))
            return
        if exchange.path in _LISTS:
            await self._of_all(exchange, principal)
            return
        matched = _MODEL.fullmatch(exchange.path)
        if matched is None:
            await self._of_repository(exchange, principal)
            return
        ref = _ref(matched)
        try:
            await self._of_model(exchange, principal, ref, matched[4])
        except ModelNotFound as error:
            raise ModelNotFound(not_found(ref)) from error

    async def _of_repository(self, exchange: Exchange, principal: Principal) -> None:
        matched = _CHANGE.fullmatch(exchange.path)
        if matched is None and exchange.path not in _INDEX:
            raise NotFound("Not Found")
        _only(exchange, "POST")
        deadline = Deadline.after(self._deadline_s)
        body = await exchange.body(min(MAX_REPOSITORY_BYTES, self._max_body_bytes), deadline)
        if matched is None:
            rows = await self._repository.index(principal, deadline, only_ready=read_index(body))
            await exchange.answer(200, write_index(rows))
            return
        name, verb = matched[1], matched[2]
        change = self._repository.load if verb == "load" else self._repository.unload
        try:
            await change(principal, name, read_change(body), deadline)
        except ModelNotFound as error:
            raise ModelNotFound(not_found(ModelRef(name))) from error
        await exchange.answer(200, write_changed(name, verb))

    async def _health(self, exchange: Exchange) -> None:
        _only(exchange, "GET")
        if exchange.path == READY and not self._readiness.is_ready:
            await exchange.answer(503, _NOT_READY)
        else:
            await exchange.answer(200, _HEALTH[exchange.path])

    async def _of_model(self, exchange: Exchange, principal: Principal, ref: ModelRef, verb: str | None) -> None:
        deadline = Deadline.after(self._deadline_s)
        if verb == "/infer":
            _only(exchange, "POST")
            await self._infer(exchange, principal, ref, deadline)
            return
        _only(exchange, "GET")
        if verb == "/ready":
            if not await self._describe.is_ready(principal, ref, deadline):
                raise ModelNotReady(f"model '{ref}' is not ready")
            body = orjson.dumps({"name": ref.name, "ready": True})
        elif verb == "/stats":
            counts = await self._describe.statistics(principal, ref, deadline)
            body = write_statistics((ref.name, version.version, each) for version, each in counts)
        else:
            body = await self._described(principal, ref, deadline, is_configuration=verb == "/config")
        await exchange.answer(200, body)

    async def _described(
        self, principal: Principal, ref: ModelRef, deadline: Deadline, *, is_configuration: bool
    ) -> bytes:
        version = await self._describe.version(principal, ref, deadline)
        platform = f"{version.format}_{version.plan.runtime}"
        if is_configuration:
            batches = self._batches
            return write_configuration(
                ref.name, platform, version.signature, max_rows=batches.max_rows, max_queue=batches.max_queue
            )
        versions = await self._describe.versions(principal, ref.name, deadline)
        return write_model_metadata(ref.name, versions, platform, version.signature)

    async def _of_all(self, exchange: Exchange, principal: Principal) -> None:
        """Answer what is asked about all models that the caller may read."""
        _only(exchange, "GET")
        if exchange.path == "/v2/models/stats":
            counts = await self._describe.statistics(principal, None, Deadline.after(self._deadline_s))
            body = write_statistics((version.model, version.version, each) for version, each in counts)
        else:
            body = orjson.dumps({"models": await self._describe.names(principal)})
        await exchange.answer(200, body)

    async def _infer(self, exchange: Exchange, principal: Principal, ref: ModelRef, deadline: Deadline) -> None:
        given_id: str | None = None
        form = PLAIN
        has_rows = True

        async def read(signature: ModelSignature) -> InferenceRequest:
            nonlocal given_id, form, has_rows
            header = exchange.header(LENGTH_HEADER)
            body: bytes | memoryview
            if header is None:
                body = await exchange.body(self._max_body_bytes, deadline)
            else:
                body = await exchange.aligned_body(self._max_body_bytes, deadline, length_of(header) or 0)
            asked = read_infer(body, signature, header=header, model=ref.name)
            given_id, form, has_rows = asked.request_id, asked.form, signature.has_batch
            return asked.request

        response = await self._predict.predict(principal, ref, read, deadline, arriving=exchange)
        written = write_infer(response, given_id or exchange.request_id, form, has_rows=has_rows)
        if not written.raw:
            await exchange.answer(200, written.text)
            return
        length = (LENGTH_HEADER, str(len(written.text)).encode())
        await exchange.answer(200, written.text, [length], content_type=_OCTETS, rest=written.raw)


def _only(exchange: Exchange, method: str) -> None:
    if exchange.method != method:
        raise MethodNotAllowed("Method Not Allowed")


def _ref(matched: re.Match[str]) -> ModelRef:
    return ModelRef(matched[1], None, matched[3]) if matched[2] is None else of_version(matched[1], matched[2])
