"""Reflection: which services this port has and how their messages look, told to tools that hold a token.

Rules: what it tells is `proto/`, the same for everybody; a stream asks at most so many questions, each answered before
the next is read.

Source: gRPC, "GRPC Server Reflection Protocol", v1 and v1alpha.
"""

from collections.abc import Iterable
from typing import Any, Final

from maas_gateway.principal import Principal
from maas_gateway.protocols.open_inference.grpc.calls import Call
from maas_gateway.protocols.open_inference.grpc.exchange import CallExchange
from maas_gateway.protocols.open_inference.grpc.messages import message_class, parsed, pool
from maas_gateway.protocols.open_inference.grpc.statuses import Status

SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

_REQUEST: Final = "grpc.reflection.v1.ServerReflectionRequest"
_RESPONSE: Final = "grpc.reflection.v1.ServerReflectionResponse"
_MAX_QUESTIONS: Final = 1_000
_NOT_FOUND: Final = int(Status.NOT_FOUND)
_UNIMPLEMENTED: Final = int(Status.UNIMPLEMENTED)


class Reflection:
    """Answers questions about this port's services.

    Args:
        services: their names.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = sorted(services)

    async def __call__(self, _call: Call, _principal: Principal, exchange: CallExchange) -> None:
        """Answer one stream of questions."""
        for _ in range(_MAX_QUESTIONS):
            message = await exchange.read()
            if message is None:
                return
            await exchange.write(self._answer(parsed(_REQUEST, message)).SerializeToString())

    def _answer(self, asked: Any) -> Any:
        response = message_class(_RESPONSE)(valid_host=asked.host, original_request=asked)
        match asked.WhichOneof("message_request"):
            case "list_services":
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                _tell_file(response, pool().FindFileByName, asked.file_by_filename)
            case "file_containing_symbol":
                _tell_file(response, pool().FindFileContainingSymbol, asked.file_containing_symbol)
            case "all_extension_numbers_of_type":
                response.all_extension_numbers_response.base_type_name = asked.all_extension_numbers_of_type
            case "file_containing_extension":
                response.error_response.error_code = _NOT_FOUND
                response.error_response.error_message = "no message of this port has extensions"
            case _:
                response.error_response.error_code = _UNIMPLEMENTED
                response.error_response.error_message = "the request asks for nothing"
        return response


def _tell_file(response: Any, find: Any, name: str) -> None:
    try:
        file = find(name)
    except KeyError:
        response.error_response.error_code = _NOT_FOUND
        response.error_response.error_message = "there is no such file or symbol here"
    else:
        response.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)
