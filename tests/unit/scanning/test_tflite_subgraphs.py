"""Files with several subgraphs, large ones read in pages, and files written anew."""

import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builders.hostile_tflite import HOSTILE, Hostile, choosing, looping
from builders.onnx_models import Bytes
from maas_gateway.errors import ArtifactRefused
from maas_gateway.scanning import flatbuffer
from maas_gateway.scanning.scanner import ScanReport
from maas_gateway.scanning.tflite_graph import TFLiteScanner
from maas_gateway.scanning.tflite_operators import CONTROL_FLOW, OPERATORS
from maas_gateway.scanning.tflite_rebuild import rebuild
from unit.scanning.tflite_files import Fields, model, write


def _scan(raw: bytes) -> ScanReport:
    return TFLiteScanner().scan(Bytes(raw))


def _rebuilt(raw: bytes) -> bytes:
    return b"".join(rebuild(Bytes(raw)))


@pytest.mark.parametrize(("made", "loops"), [(looping(), True), (choosing(), True), (model(), False)])
def test_scan_accepts_subgraphs_that_fit_and_tells_control_flow(made: Fields, loops: bool) -> None:  # noqa: FBT001  a table's column
    report = _scan(write(made))
    assert report.findings == ()
    assert report.has_control_flow == loops


@pytest.mark.parametrize("hostile", HOSTILE, ids=[hostile.name for hostile in HOSTILE])
def test_scan_refuses(hostile: Hostile) -> None:
    began = time.monotonic()
    findings = _scan(hostile.build()).refusals
    assert time.monotonic() - began < 10
    assert (hostile.rule, hostile.where) in {(finding.rule, finding.where) for finding in findings}


@pytest.mark.parametrize("made", [looping(), choosing(), model()])
def test_scan_in_pages_finds_the_same(made: Fields, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write(made)
    whole = _scan(raw)
    monkeypatch.setattr(flatbuffer, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(flatbuffer, "_PAGE_BYTES", 64)
    monkeypatch.setattr(flatbuffer, "_N_PAGES", 2)
    assert _scan(raw) == whole
    made["version"] = 2
    assert [finding.rule for finding in _scan(write(made)).findings] == ["version"]


class _Large:
    """A file whose constant is a row of zeros, made as it is read; counts what was read."""

    def __init__(self, n_bytes: int) -> None:
        made = model()
        made["subgraphs"][0]["tensors"].append({"shape": [n_bytes // 4], "type": 0, "buffer": 4, "name": b"w"})
        made["buffers"].append({"data": b""})
        self._raw = bytearray(write(made))
        self.n_read = 0
        self._grow(n_bytes)

    def _grow(self, n_bytes: int) -> None:
        """Let the last buffer's vector lie at the end, as long as asked."""
        table = flatbuffer.FlatBuffer(bytes(self._raw), *_schema()).root("Model").tables("buffers")[4]
        span = table.span("data")
        assert span is not None
        self._raw += bytes(-len(self._raw) % 8)
        place = next(
            at
            for at in range(8, len(self._raw) - 3, 4)
            if at + struct.unpack_from("<I", self._raw, at)[0] == span.offset - 4
        )
        struct.pack_into("<I", self._raw, place, len(self._raw) + 4 - place)
        self._raw += bytes(4) + struct.pack("<I", n_bytes)
        self.size_bytes = len(self._raw) + n_bytes

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        n_bytes = max(0, min(n_bytes, self.size_bytes - offset))
        self.n_read += n_bytes
        start = bytes(self._raw[offset : offset + n_bytes])
        return start + bytes(n_bytes - len(start))


def _schema() -> tuple[dict[str, tuple[tuple[str, str], ...]], dict[int, tuple[str, tuple[tuple[str, str], ...]]]]:
    from maas_gateway.scanning.tflite_schema import OPTIONS, TABLES

    return dict(TABLES), dict(OPTIONS)


def test_content_of_a_large_constant_is_not_read_by_the_scan_and_once_by_the_rebuilding() -> None:
    source = _Large(64 << 20)
    assert TFLiteScanner().scan(source).findings == ()
    assert source.n_read < 1 << 20
    source.n_read = 0
    n_written = 0
    for piece in rebuild(source):
        assert len(piece) <= 1 << 20
        n_written += len(piece)
    assert n_written == source.size_bytes
    assert source.n_read < (64 << 20) + (2 << 20)


def test_rebuilt_file_holds_no_metadata_no_foreign_bytes_and_no_archive_behind_it() -> None:
    made = model()
    made["buffers"].append({"data": b"SECRET metadata"})
    made["metadata"] = [{"name": b"SECRET name", "buffer": 4}]
    raw = write(made) + b"PK\x03\x04 SECRET labels"
    report = _scan(raw)
    assert [(finding.rule, finding.severity) for finding in report.findings] == [("unclaimed-bytes", "note")]
    rebuilt = _rebuilt(raw)
    assert b"SECRET" not in rebuilt
    assert b"PK" not in rebuilt
    assert _scan(rebuilt).findings == ()
    assert _rebuilt(rebuilt) == rebuilt


@pytest.mark.parametrize("name", ["seed", "convolutional"])
def test_rebuilt_file_differs_from_the_converters_in_its_metadata_only(models: Path, name: str) -> None:
    raw = (models / f"{name}.tflite").read_bytes()
    rebuilt = _rebuilt(raw)
    assert _scan(rebuilt).findings == ()
    assert len(rebuilt) == len(raw)
    assert sum(one != other for one, other in zip(raw, rebuilt, strict=True)) < 200


def test_rebuild_refuses_what_it_cannot_read() -> None:
    with pytest.raises(ArtifactRefused):
        _rebuilt(b"\xff\xff\xff\x7fTFL3" + bytes(40))


def _fuzz(raw: bytes, n_rounds: int) -> list[bytes]:
    chance = random.Random(20261123)
    accepted = []
    for _ in range(n_rounds):
        changed = bytearray(raw)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(changed))
            changed[at] = chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF, changed[at] ^ (1 << chance.randrange(8))))
        began = time.monotonic()
        report = _scan(bytes(changed))
        assert time.monotonic() - began < 1
        if not report.refusals:
            accepted.append(bytes(changed))
            assert _rebuilt(bytes(changed))
    return accepted


_JUDGE = """
import struct, sys
from ai_edge_litert import schema_py_generated as schema
content = sys.stdin.buffer.read()
position = 0
while position < len(content):
    (size,) = struct.unpack_from("<I", content, position)
    model = schema.Model.GetRootAs(content[position + 4 : position + 4 + size], 0)
    position += 4 + size
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        print(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), bool(code.CustomCode()))
"""


def test_scan_accepts_nothing_foreign_when_bytes_are_changed_as_the_engines_schema_reads_them() -> None:
    _judge([each for made in (looping(), choosing(), model()) for each in _fuzz(write(made), 150)])


@pytest.mark.slow
def test_scan_accepts_nothing_foreign_when_many_bytes_are_changed() -> None:
    _judge([each for made in (looping(), choosing(), model()) for each in _fuzz(write(made), 20_000)])


def _judge(accepted: list[bytes]) -> None:
    assert accepted
    content = b"".join(struct.pack("<I", len(each)) + each for each in accepted)
    judged = subprocess.run([sys.executable, "-c", _JUDGE], input=content, capture_output=True, check=True, timeout=60)
    listed = {str(number) for number in (*OPERATORS, *CONTROL_FLOW)}
    lines = judged.stdout.decode().splitlines()
    assert lines
    assert all(line.split()[0] in listed and line.split()[1] == "False" for line in lines)
