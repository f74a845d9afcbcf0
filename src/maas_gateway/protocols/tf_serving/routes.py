"""The TensorFlow Serving door: its paths, its verbs, its errors, and their OpenAPI description.

Source: TensorFlow Serving, "RESTful API"; the patterns of its request dispatcher.
"""

import re
from collections.abc import Awaitable
from functools import lru_cache
from typing import Final

from maas_gateway.clock import Deadline
from maas_gateway.dataplane.describe import Describe, LoadState
from maas_gateway.dataplane.predict import Predict
from maas_gateway.errors import GatewayError, InvalidRequest, LabelNotFound, MalformedBody, ModelNotFound, NotFound
from maas_gateway.identifiers import MAX_VERSION, ModelRef
from maas_gateway.principal import Principal
from maas_gateway.protocols.tf_serving.codec import Format, read_predict, write_error, write_predict
from maas_gateway.protocols.tf_serving.examples import read_examples, write_results
from maas_gateway.protocols.tf_serving.metadata import (
    VersionState,
    VersionStatus,
    write_metadata,
    write_models,
    write_status,
)
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.signature import ModelSignature
from maas_gateway.web.door import Door, PredictionLimits
from maas_gateway.web.exchange import Exchange, Receive, Scope, Send
from maas_gateway.web.problems import status_of

_FAMILY: Final = ("/v1/", "/V1/")
_PREFIX: Final = "/v1/models"

_POST: Final = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(predict|classify|regress)", re.IGNORECASE | re.ASCII
)
_GET: Final = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?", re.IGNORECASE | re.ASCII
)
_PREDICT: Final = "predict"
_MAX_KEPT_PATH: Final = 512  # a client must not fill the memory of parsed paths with long ones
_STATES: Final = {
    LoadState.LOADING: VersionState.LOADING,
    LoadState.AVAILABLE: VersionState.AVAILABLE,
    LoadState.ENDED: VersionState.END,
}


class TFServingDialect:
    """TensorFlow Serving's way of refusing: `{"error": …}`, and 400 for an unknown label."""

    def status(self, error: GatewayError) -> int:
        """Return the HTTP status."""
        return 400 if isinstance(error, LabelNotFound) else status_of(error)

    def write(self, detail: str, request_id: str) -> bytes:
        """Return the error body."""
        return write_error(detail, request_id)


class TFServingRoutes:
    """Answers `/v1/models…`.

    Args:
        door: the frame that all prediction doors share.
        predict: answers predictions.
        describe: answers questions about models.
        limits: how much and how long a prediction may be.
    """

    def __init__(self, door: Door, predict: Predict, describe: Describe, limits: PredictionLimits) -> None:
        self._door = door
        self._predict = predict
        self._describe = describe
        self._max_body_bytes = limits.max_body_bytes
        self._deadline_s = limits.deadline_s

    @staticmethod
    def takes(path: str) -> bool:
        """Tell whether a path is this door's."""
        return path.startswith(_FAMILY)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        return self._door.serve(Exchange(scope, receive, send), self._handle)

    def _handle(self, exchange: Exchange, principal: Principal) -> Awaitable[None]:
        if exchange.method == "POST" and (target := _target(exchange.path)) is not None:
            return self._infer(exchange, principal, *target)
        if exchange.method == "GET" and (matched := _GET.fullmatch(exchange.path)) is not None:
            return self._read(exchange, principal, matched)
        if not exchange.path.lower().startswith(_PREFIX):
            raise NotFound("Not Found")
        raise MalformedBody(f"Malformed request: {exchange.method} {exchange.path}")

    async def _infer(self, exchange: Exchange, principal: Principal, ref: ModelRef, verb: str) -> None:
        deadline = Deadline.after(self._deadline_s)
        form = Format.ROW

        async def read(signature: ModelSignature) -> InferenceRequest:
            nonlocal form
            body = await exchange.body(self._max_body_bytes, deadline)
            if verb != _PREDICT:
                return read_examples(body, signature, verb)
            request, form = read_predict(body, signature)
            return request

        try:
            response = await self._predict.predict(principal, ref, read, deadline, arriving=exchange)
        except ModelNotFound as error:
            raise _servable_not_found(error, ref) from error
        body = write_predict(response, form) if verb == _PREDICT else write_results(response, verb)
        await exchange.answer(200, body)

    async def _read(self, exchange: Exchange, principal: Principal, matched: re.Match[str]) -> None:
        deadline = Deadline.after(self._deadline_s)
        if matched[1] is None:
            await exchange.answer(200, write_models(await self._describe.names(principal)))
            return
        ref = _ref(matched)
        try:
            if matched[4] is not None:
                version = await self._describe.version(principal, ref, deadline)
                await exchange.answer(200, write_metadata(ref.name, version.version, version.signature))
                return
            found = await self._describe.status(principal, ref, deadline)
        except ModelNotFound as error:
            if matched[4] is not None or isinstance(error, LabelNotFound):
                raise _servable_not_found(error, ref) from error
            what = "any versions" if ref.version is None else f"version {ref.version}"
            raise ModelNotFound(f"Could not find {what} of model {ref.name}") from error
        states = [
            VersionStatus(
                status.version, _STATES[status.state], "UNAVAILABLE" if status.reason else "OK", status.reason
            )
            for status in found
        ]
        await exchange.answer(200, write_status(ref.name, states))


def _target(path: str) -> tuple[ModelRef, str] | None:
    """Return what a POST to a path is for and its verb; None where the path is none of this door's."""
    return _parsed(path) if len(path) <= _MAX_KEPT_PATH else _parsed.__wrapped__(path)


@lru_cache(maxsize=1_024)
def _parsed(path: str) -> tuple[ModelRef, str] | None:
    matched = _POST.fullmatch(path)
    return None if matched is None else (_ref(matched), matched[4].lower())


def _ref(matched: re.Match[str]) -> ModelRef:
    version = None
    if matched[2] is not None:
        if len(matched[2]) > len(str(MAX_VERSION)):
            raise InvalidRequest(f"Failed to convert version: {matched[2][:40]} to numeric.")
        version = int(matched[2])
    return ModelRef(matched[1], version, matched[3])


def _servable_not_found(error: NotFound, ref: ModelRef) -> ModelNotFound:
    if isinstance(error, LabelNotFound):
        return LabelNotFound(f"Unrecognized servable version label: {ref.label}")
    which = f"Specific({ref.name}, {ref.version})" if ref.version is not None else f"Latest({ref.name})"
    return ModelNotFound(f"Servable not found for request: {which}")
