"""The parameters of a request: which the protocol's extensions reserve, and what they change.

Rules: `timeout` (microseconds) makes the deadline earlier, never later; `priority` (1 is the first, 0 or absent the
last) orders the requests of one tenant that wait for one model; `binary_data_output` asks for raw bytes. Sequences
are refused, since a model keeps nothing between requests; so are names that start with `triton_`. All others are
ignored.

Source: NVIDIA Triton, "Parameters Extension", "Schedule Policy Extension", "Binary Tensor Data Extension".
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from maas_gateway.errors import InvalidRequest, MalformedBody, Unsupported
from maas_gateway.tensors.values import quoted, shown

_MAX_UINT64: Final = 2**64 - 1
_US_PER_S: Final = 1e6
_SEQUENCES: Final = ("sequence_id", "sequence_start", "sequence_end")


class Parameters(NamedTuple):
    """What a request says beside its tensors.

    Attributes:
        is_binary: whether outputs come as raw bytes.
        priority: 1 is the first, 0 the last.
        timeout_s: seconds after which an answer is of no use, None for the server's own bound.
    """

    is_binary: bool = False
    priority: int = 0
    timeout_s: float | None = None


NONE: Final = Parameters()


def read_parameters(parameters: object) -> Parameters:
    """Read the parameters of a request.

    Raises:
        MalformedBody: they are no object, or one is of the wrong type.
        InvalidRequest: a name is reserved.
        Unsupported: they ask for what is not offered.
    """
    if not isinstance(parameters, dict):
        raise MalformedBody("'parameters' must be an Object")
    for name in parameters:
        if name.startswith("triton_"):
            raise InvalidRequest(f"parameter {quoted(name)}: names that start with 'triton_' are reserved")
    for name in _SEQUENCES:
        if parameters.get(name):
            raise Unsupported(f"parameter '{name}': a model of this server keeps nothing between requests")
    is_binary = parameters.get("binary_data_output", False)
    if not isinstance(is_binary, bool):
        raise MalformedBody("parameter 'binary_data_output' must be true or false")
    timeout_us = _number(parameters, "timeout")
    return Parameters(is_binary, _number(parameters, "priority"), timeout_us / _US_PER_S if timeout_us else None)


def _number(parameters: Mapping[str, object], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= _MAX_UINT64:
        raise MalformedBody(f"parameter '{name}' must be a whole number that is not negative, and is {shown(value)}")
    return value
