"""The messages of this port, made from the descriptions in `proto/`.

Rules: they are made from `descriptors.binpb` when they are first asked for, in a pool of their own: so they do not
depend on the version of the compiler that wrote it, and a process that also holds a client's messages of the same names
has both. `make protos` writes that file; a test tells when it is not current.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from maas_gateway.errors import MalformedBody

DESCRIPTORS: Final = "descriptors.binpb"


@cache
def pool() -> Any:
    """Return the pool that holds every message and service of this port."""
    found = DescriptorPool()
    for file in FileDescriptorSet.FromString(files(__package__).joinpath(DESCRIPTORS).read_bytes()).file:
        found.Add(file)
    return found


@cache
def message_class(name: str) -> Any:
    """Return the class of messages of that full name."""
    return GetMessageClass(pool().FindMessageTypeByName(name))


def parsed(name: str, message: bytes) -> Any:
    """Return a message that a client sent.

    Raises:
        MalformedBody: it is none of that name.
    """
    try:
        return message_class(name).FromString(message)
    except DecodeError as cause:
        raise MalformedBody(f"the message is no {name}") from cause


def written(name: str, fields: Mapping[str, Any]) -> bytes:
    """Return a message from its fields, which are named and typed as in its JSON form."""
    encoded: bytes = ParseDict(fields, message_class(name)()).SerializeToString()
    return encoded
