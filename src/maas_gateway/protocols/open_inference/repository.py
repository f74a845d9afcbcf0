"""The list of a tenant's models and their versions, as the model repository extension has it.

Rules: a version that has served is listed, READY where this process has it in memory; what has no reason says "".

Source: NVIDIA Triton, "Model Repository Extension", "Index".
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from maas_gateway.clock import Deadline
from maas_gateway.dataplane.describe import Describe, LoadState
from maas_gateway.identifiers import ModelRef
from maas_gateway.principal import Principal

_STATES: Final[Mapping[LoadState, str]] = MappingProxyType(
    {LoadState.AVAILABLE: "READY", LoadState.LOADING: "LOADING", LoadState.ENDED: "UNAVAILABLE"}
)
_UNLOADED: Final = "unloaded"


async def index_of(
    describe: Describe, principal: Principal, deadline: Deadline, *, only_ready: bool
) -> list[dict[str, str]]:
    """Return a row for each version of the models that the caller may read: name, version, state, reason."""
    rows = []
    for name in await describe.names(principal):
        for status in await describe.status(principal, ModelRef(name), deadline):
            is_ready = status.state is LoadState.AVAILABLE
            if is_ready or not only_ready:
                reason = status.reason or (_UNLOADED if status.state is LoadState.ENDED else "")
                state = _STATES[status.state]
                rows.append({"name": name, "version": str(status.version), "state": state, "reason": reason})
    return rows
