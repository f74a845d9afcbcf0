"""What describes this port's messages is what the files beside it say."""

from importlib.resources import files
from pathlib import Path

import pytest
from grpc_tools import protoc

from maas_gateway.errors import MalformedBody
from maas_gateway.protocols.open_inference.grpc.messages import DESCRIPTORS, message_class, parsed, pool

FOLDER = Path(str(files("maas_gateway"))) / "protocols" / "open_inference" / "grpc"


def test_the_descriptions_are_current(tmp_path: Path) -> None:
    written = tmp_path / DESCRIPTORS
    sources = ["inference.proto", "health.proto", "reflection.proto"]
    assert {path.name for path in (FOLDER / "proto").glob("*.proto")} == set(sources)
    arguments = ["protoc", f"--proto_path={FOLDER / 'proto'}", f"--descriptor_set_out={written}", *sources]
    assert protoc.main(arguments) == 0
    assert written.read_bytes() == (FOLDER / DESCRIPTORS).read_bytes(), "run: make protos"


def test_the_messages_are_in_a_pool_of_their_own() -> None:
    from google.protobuf import descriptor_pool

    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
    assert pool().FindServiceByName("inference.GRPCInferenceService").methods_by_name["ModelInfer"]


def test_bytes_that_are_no_message_are_refused() -> None:
    assert message_class("inference.ModelReadyRequest")(name="m").SerializeToString() == b"\x0a\x01m"
    with pytest.raises(MalformedBody, match=r"is no inference\.ModelReadyRequest"):
        parsed("inference.ModelReadyRequest", b"\x0a\xff")
