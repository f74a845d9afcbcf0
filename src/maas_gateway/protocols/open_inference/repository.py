"""The model repository extension: which models there are, and having them served or not.

Rules: a version that has ever served is listed, READY where this process has it in memory; what has no reason says "".
To load a model is to promote its newest version, or the one that the parameter `version` names, and answers once
this process serves it; to unload it is to retire every version that serves. Neither brings anything in: a
configuration or a file among the parameters is refused, because models enter through the scanners of an upload only.

Source: NVIDIA Triton, "Model Repository Extension". Deviations from it: what is unknown is not found, and a parameter
that has no effect here is refused.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from maas_gateway.clock import Deadline
from maas_gateway.controlplane.promote import Promote
from maas_gateway.dataplane.describe import Describe, LoadState
from maas_gateway.dataplane.reconcile import Reconciler
from maas_gateway.errors import InvalidRequest, MalformedBody, ModelNotReady
from maas_gateway.identifiers import MAX_VERSION, ModelRef
from maas_gateway.principal import Principal
from maas_gateway.protocols.open_inference.document import parse_document
from maas_gateway.tensors.values import json_type, quoted

MAX_REPOSITORY_BYTES: Final = 1 << 20
"""Largest body about the repository that is read."""

_STATES: Final[Mapping[LoadState, str]] = MappingProxyType(
    {LoadState.AVAILABLE: "READY", LoadState.LOADING: "LOADING", LoadState.ENDED: "UNAVAILABLE"}
)
_UNLOADED: Final = "unloaded"
_VERSION: Final = "version"
_DEPENDENTS: Final = "unload_dependents"
_SETTLE_S: Final = 10.0
_UPLOAD: Final = "models enter through an upload only, PUT /admin/v1/models/{model}/versions/{version}"


class Repository:
    """The models of the caller's tenant, as a repository.

    Args:
        describe: answers questions about models.
        promote: moves versions between stages.
        reconciler: has this process follow.
    """

    def __init__(self, describe: Describe, promote: Promote, reconciler: Reconciler) -> None:
        self._describe = describe
        self._promote = promote
        self._reconciler = reconciler

    async def index(self, principal: Principal, deadline: Deadline, *, only_ready: bool) -> list[dict[str, str]]:
        """Return a row for each version of the models that the caller may read: name, version, state, reason."""
        rows = []
        for name, status in await self._describe.every_status(principal, deadline):
            is_ready = status.state is LoadState.AVAILABLE
            if is_ready or not only_ready:
                reason = status.reason or (_UNLOADED if status.state is LoadState.ENDED else "")
                state = _STATES[status.state]
                rows.append({"name": name, "version": str(status.version), "state": state, "reason": reason})
        return rows

    async def load(self, principal: Principal, name: str, parameters: Mapping[str, object], deadline: Deadline) -> None:
        """Have a model served.

        Raises:
            ModelNotFound: there is no such model or version for this caller.
            PermissionDenied: the caller may not promote.
            InvalidRequest: a parameter is none of this act's.
            IllegalTransition: the version is in quarantine.
            ModelNotReady: it was promoted, and this process does not have it in memory yet, or cannot load it.
        """
        version = _version(parameters)
        serving = await self._promote.load(principal, ModelRef(name, version))
        await self._settle(principal, name, deadline)
        ref = ModelRef(name, serving.version)
        for status in await self._describe.status(principal, ref, deadline):
            if status.state is not LoadState.AVAILABLE:
                reason = status.reason or "it is being loaded"
                raise ModelNotReady(f"model '{ref}' is promoted and not ready: {reason}", retry_after_s=1)

    async def unload(
        self, principal: Principal, name: str, parameters: Mapping[str, object], deadline: Deadline
    ) -> None:
        """Have a model served no longer.

        Raises:
            ModelNotFound: there is no such model for this caller.
            PermissionDenied: the caller may not promote.
            InvalidRequest: a parameter is none of this act's.
            Conflict: a label points at a version that serves.
        """
        for parameter, value in parameters.items():
            if parameter != _DEPENDENTS:
                raise _unknown(parameter, f"'{_DEPENDENTS}', which has no effect here")
            if not isinstance(value, bool):
                raise InvalidRequest(f"parameter '{_DEPENDENTS}' must be a boolean and is of type {json_type(value)}")
        await self._promote.unload(principal, name)
        await self._settle(principal, name, deadline)

    async def _settle(self, principal: Principal, name: str, deadline: Deadline) -> None:
        await self._reconciler.settle(principal.tenant, name, deadline.sooner(_SETTLE_S))


def read_index(body: bytes) -> bool:
    """Return whether only what is ready is asked for; an empty body asks for all.

    Raises:
        MalformedBody: it is no JSON object, or `ready` is no boolean.
    """
    ready = parse_document(body).get("ready", False) if body else False
    if isinstance(ready, bool):
        return ready
    raise MalformedBody(f"'ready' must be a boolean and is of type {json_type(ready)}")


def read_change(body: bytes) -> dict[str, Any]:
    """Return the parameters of a load or an unload; an empty body has none.

    Raises:
        MalformedBody: it is no JSON object, or its `parameters` are none.
    """
    parameters = parse_document(body).get("parameters", {}) if body else {}
    if isinstance(parameters, dict):
        return parameters
    raise MalformedBody(f"'parameters' must be a JSON object and is of type {json_type(parameters)}")


def write_index(rows: list[dict[str, str]]) -> bytes:
    """Return the body that lists versions."""
    return orjson.dumps(rows)


def write_changed(name: str, verb: str) -> bytes:
    """Return the body that says that a model was loaded or unloaded; Triton's is empty, KServe's is this."""
    return orjson.dumps({"name": name, verb: True})


def _version(parameters: Mapping[str, object]) -> int | None:
    """Return which version is to be loaded, None for the newest."""
    for parameter in parameters:
        if parameter == "config":
            raise InvalidRequest(f"parameter 'config' is refused: how a model is run, the gateway decides; {_UPLOAD}")
        if parameter.startswith("file:"):
            raise InvalidRequest(f"parameter {quoted(parameter)} is refused: {_UPLOAD}")
        if parameter != _VERSION:
            raise _unknown(parameter, f"'{_VERSION}'")
    if _VERSION not in parameters:
        return None
    text = str(parameters[_VERSION])  # a number, or as the protocol writes versions
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_VERSION)) and 1 <= int(text) <= MAX_VERSION:
        return int(text)
    raise InvalidRequest(f"parameter '{_VERSION}' must be a version's number, from 1 to {MAX_VERSION}")


def _unknown(parameter: str, known: str) -> InvalidRequest:
    return InvalidRequest(f"parameter {quoted(parameter)} is unknown: this takes {known}")
