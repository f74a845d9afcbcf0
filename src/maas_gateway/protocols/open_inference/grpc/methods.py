"""The methods of `GRPCInferenceService` but its stream: what the routes of the JSON form are.

Rules: a model's `version` is empty for the highest that serves, a number, or else a label; a model that is not there or
is another tenant's is NOT_FOUND, in one sentence.

Source: Open Inference Protocol, "gRPC"; NVIDIA Triton's extensions of it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from maas_gateway import __version__
from maas_gateway.clock import Deadline
from maas_gateway.dataplane.describe import Describe
from maas_gateway.dataplane.predict import Predict
from maas_gateway.dataplane.servables import BatchLimits
from maas_gateway.errors import ModelNotFound, Unsupported
from maas_gateway.identifiers import ModelRef
from maas_gateway.principal import Principal
from maas_gateway.protocols.open_inference.configuration import write_configuration
from maas_gateway.protocols.open_inference.grpc.calls import Call
from maas_gateway.protocols.open_inference.grpc.codec import InferMessage, read_infer, take_apart, write_infer
from maas_gateway.protocols.open_inference.grpc.messages import parsed, written
from maas_gateway.protocols.open_inference.metadata import (
    EXTENSIONS,
    SERVER,
    write_model_metadata,
    write_server_metadata,
)
from maas_gateway.protocols.open_inference.outputs import PLAIN
from maas_gateway.protocols.open_inference.references import not_found, of_version
from maas_gateway.protocols.open_inference.repository import Repository
from maas_gateway.protocols.open_inference.statistics import write_statistics
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.signature import ModelSignature

_PACKAGE: Final = "inference."


class Methods:
    """Answers calls about models.

    Args:
        predict: answers predictions.
        describe: answers questions about models.
        repository: lists models, and has them served or not.
        batches: how requests to one model are run together, to be told.
    """

    def __init__(self, predict: Predict, describe: Describe, repository: Repository, *, batches: BatchLimits) -> None:
        self._predict = predict
        self._describe = describe
        self._repository = repository
        self._batches = batches

    async def infer(self, call: Call, principal: Principal, message: bytes) -> bytes:
        """Answer `ModelInfer`."""
        return await self.infer_of(call, principal, take_apart(message))

    async def infer_of(
        self, call: Call, principal: Principal, message: InferMessage, *, is_last_told: bool = False
    ) -> bytes:
        """Answer one request to infer, alone or of a stream, as a `ModelInferResponse`."""
        given_id: str | None = None
        form, has_rows = PLAIN, True

        async def read(signature: ModelSignature) -> InferenceRequest:
            nonlocal given_id, form, has_rows
            asked = read_infer(message, signature)
            given_id, form, has_rows = asked.request_id, asked.form, signature.has_batch
            return asked.request

        ref = _ref(call, message.name, message.version)
        try:
            response = await self._predict.predict(principal, ref, read, call.deadline, arriving=call)
        except ModelNotFound as error:
            raise ModelNotFound(not_found(ref)) from error
        request_id = given_id or call.request_id
        return write_infer(response, request_id, form, has_rows=has_rows, is_last_told=is_last_told)

    async def server_metadata(self, _call: Call, _principal: Principal, _message: bytes) -> bytes:
        """Answer `ServerMetadata`."""
        return _written("ServerMetadataResponse", write_server_metadata(SERVER, __version__, EXTENSIONS))

    async def model_ready(self, call: Call, principal: Principal, message: bytes) -> bytes:
        """Answer `ModelReady`."""

        async def tell(ref: ModelRef) -> bytes:
            is_ready = await self._describe.is_ready(principal, ref, call.deadline)
            return written(f"{_PACKAGE}ModelReadyResponse", {"ready": is_ready})

        return await _of_model(call, parsed(f"{_PACKAGE}ModelReadyRequest", message), tell)

    async def model_metadata(self, call: Call, principal: Principal, message: bytes) -> bytes:
        """Answer `ModelMetadata`."""

        async def tell(ref: ModelRef) -> bytes:
            version = await self._describe.version(principal, ref, call.deadline)
            versions = await self._describe.versions(principal, ref.name, call.deadline)
            platform = f"{version.format}_{version.plan.runtime}"
            body = write_model_metadata(ref.name, versions, platform, version.signature)
            return _written("ModelMetadataResponse", body)

        return await _of_model(call, parsed(f"{_PACKAGE}ModelMetadataRequest", message), tell)

    async def model_configuration(self, call: Call, principal: Principal, message: bytes) -> bytes:
        """Answer `ModelConfig`."""

        async def tell(ref: ModelRef) -> bytes:
            version = await self._describe.version(principal, ref, call.deadline)
            platform, batches = f"{version.format}_{version.plan.runtime}", self._batches
            body = write_configuration(
                ref.name, platform, version.signature, max_rows=batches.max_rows, max_queue=batches.max_queue
            )
            return written(f"{_PACKAGE}ModelConfigResponse", {"config": orjson.loads(body)})

        return await _of_model(call, parsed(f"{_PACKAGE}ModelConfigRequest", message), tell)

    async def model_statistics(self, call: Call, principal: Principal, message: bytes) -> bytes:
        """Answer `ModelStatistics`: of one model, or of all that the caller may read."""
        asked = parsed(f"{_PACKAGE}ModelStatisticsRequest", message)
        if not asked.name:
            counts = await self._describe.statistics(principal, None, call.deadline)
            body = write_statistics((version.model, version.version, each) for version, each in counts)
            return _written("ModelStatisticsResponse", body)

        async def tell(ref: ModelRef) -> bytes:
            counts = await self._describe.statistics(principal, ref, call.deadline)
            body = write_statistics((ref.name, version.version, each) for version, each in counts)
            return _written("ModelStatisticsResponse", body)

        return await _of_model(call, asked, tell)

    async def repository_index(self, call: Call, principal: Principal, message: bytes) -> bytes:
        """Answer `RepositoryIndex`."""
        asked = parsed(f"{_PACKAGE}RepositoryIndexRequest", message)
        _check_repository(asked)
        rows = await self._repository.index(principal, call.deadline, only_ready=asked.ready)
        return written(f"{_PACKAGE}RepositoryIndexResponse", {"models": rows})

    async def repository_load(self, call: Call, principal: Principal, message: bytes) -> bytes:
        """Answer `RepositoryModelLoad`."""
        asked = parsed(f"{_PACKAGE}RepositoryModelLoadRequest", message)
        await _changed(self._repository.load, call, principal, asked)
        return written(f"{_PACKAGE}RepositoryModelLoadResponse", {})

    async def repository_unload(self, call: Call, principal: Principal, message: bytes) -> bytes:
        """Answer `RepositoryModelUnload`."""
        asked = parsed(f"{_PACKAGE}RepositoryModelUnloadRequest", message)
        await _changed(self._repository.unload, call, principal, asked)
        return written(f"{_PACKAGE}RepositoryModelUnloadResponse", {})


def _check_repository(asked: Any) -> None:
    if asked.repository_name:
        raise Unsupported("'repository_name' specification is not supported")


async def _changed(
    change: Callable[[Principal, str, Mapping[str, object], Deadline], Awaitable[None]],
    call: Call,
    principal: Principal,
    asked: Any,
) -> None:
    call.about = asked.model_name
    _check_repository(asked)
    parameters = {
        name: getattr(each, each.WhichOneof("parameter_choice") or "", None) for name, each in asked.parameters.items()
    }
    try:
        await change(principal, asked.model_name, parameters, call.deadline)
    except ModelNotFound as error:
        raise ModelNotFound(not_found(ModelRef(asked.model_name))) from error


async def _of_model(call: Call, asked: Any, tell: Callable[[ModelRef], Awaitable[bytes]]) -> bytes:
    ref = _ref(call, asked.name, asked.version)
    try:
        return await tell(ref)
    except ModelNotFound as error:
        raise ModelNotFound(not_found(ref)) from error


def _ref(call: Call, name: str, version: str) -> ModelRef:
    call.about = name
    if not version:
        return ModelRef(name)
    return of_version(name, version) if version.isdigit() else ModelRef(name, None, version)


def _written(message: str, body: bytes) -> bytes:
    """Return the message whose JSON form the other door sends."""
    return written(f"{_PACKAGE}{message}", orjson.loads(body))
