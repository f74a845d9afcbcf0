"""Whole `.keras` files: everything that Keras 3.15.1 saves passes, every other format says what to do instead."""

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_gateway.errors import ArtifactRefused
from maas_gateway.scanning.keras_archive import KerasScanner
from maas_gateway.scanning.scanner import SCANNER_VERSION, Finding, ScanReport, report_of, require_clean
from unit.scanning.keras_files import (
    HDF5,
    Config,
    InMemory,
    archive,
    gadget,
    rewritten,
    sequential,
    zipped,
)

pytestmark = pytest.mark.thorough

_NAMES = (
    "seed",
    "convolutional",
    "two_inputs",
    "embedding",
    "nested",
    "attention",
    "explicit_statistics",
    "vocabulary",
    "mobile",
    "optimized",
)


def _scan(raw: bytes) -> ScanReport:
    return KerasScanner().scan(InMemory(raw))


@pytest.mark.parametrize("name", _NAMES)
def test_scan_accepts_what_keras_saved(models: Path, name: str) -> None:
    report = _scan((models / f"{name}.keras").read_bytes())
    assert report.findings == ()
    assert report.refuse_reason() is None
    require_clean(report)


def test_scan_accepts_what_keras_saved_packed_anew(models: Path) -> None:
    with zipfile.ZipFile(models / "seed.keras") as saved:
        members = [(name, saved.read(name)) for name in saved.namelist()]
    assert _scan(zipped(list(members), zipfile.ZIP_DEFLATED)).findings == ()


def test_every_listed_name_is_one_of_the_installed_keras(models: Path) -> None:
    assert json.loads((models / "unresolved.json").read_text()) == []


@pytest.mark.parametrize(
    ("raw", "rule", "place"),
    [
        (HDF5, "format-hdf5", "byte 0"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(20), "format-tflite", "byte 0"),
        (archive(payload__pkl=b""), "format-pickle", "member 'payload.pkl'"),
    ],
)
def test_scan_refuses_another_format_as_such(raw: bytes, rule: str, place: str) -> None:
    (finding,) = _scan(raw).findings
    assert (finding.rule, finding.severity, finding.where) == (rule, "refuse", place)


_BROKEN = [
    ("nothing", b"", "not-an-archive", "byte 0"),
    ("noise", b"\xf3" * 1000, "no-end-record", "byte"),
    ("prefix bytes", b"#!" + archive(), "directory-misplaced", "byte"),
    ("weights that are no HDF5", archive(model__weights__h5=b"\x80\x04."), "weights-format", "model.weights.h5"),
    ("weights that are empty", archive(model__weights__h5=b""), "weights-format", "model.weights.h5"),
    ("metadata of Keras 2", archive(metadata__json=b'{"keras_version": "2.9"}'), "keras-version", "metadata.json"),
    ("a 9 MiB config", archive(b" " * 9 * 2**20), "member-too-large", "config.json"),
    ("the set_floatx gadget", archive(sequential(gadget("keras.config", "set_floatx"))), "class-runs-code", "config.json: /config/layers/1"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "rule", "place"), [row[1:] for row in _BROKEN], ids=[row[0] for row in _BROKEN])
def test_scan_refuses(raw: bytes, rule: str, place: str) -> None:
    first = _scan(raw).findings[0]
    assert first.rule == rule
    assert first.where.startswith(place)


def _put_lambda(config: Config) -> None:
    config["config"]["layers"][2] = gadget("keras.config", "set_floatx")


def _put_path(config: Config) -> None:
    config["config"]["layers"][3]["config"]["name"] = "../../x"


def _put_loss(config: Config) -> None:
    config["compile_config"]["loss"] = {
        "module": "os",
        "class_name": "function",
        "config": "getcwd",
        "registered_name": None,
    }


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (_put_lambda, "/config/layers/2"),
        (_put_path, "/config/layers/3/config/name"),
        (_put_loss, "/compile_config/loss"),
    ],
)
def test_scan_refuses_a_real_model_that_was_changed(seed: bytes, change: object, place: str) -> None:
    assert callable(change)
    report = _scan(rewritten(seed, change))
    assert report.findings[0].where == f"config.json: {place}"
    with pytest.raises(ArtifactRefused, match=place):
        require_clean(report)


@settings(max_examples=200)
@given(st.data())
def test_scan_never_raises_when_a_file_is_changed(data: st.DataObject) -> None:
    raw = bytearray(archive())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    report = _scan(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    assert report.scanner_version == SCANNER_VERSION


@given(st.binary(max_size=300))
def test_scan_refuses_noise(raw: bytes) -> None:
    assert _scan(raw).refusals


def test_require_clean_names_place_rule_and_how_many_more() -> None:
    findings = [Finding("a", "note", "x", "m"), Finding("b", "refuse", "y", "bad."), Finding("c", "refuse", "z", "m")]
    report = report_of("keras", findings)
    with pytest.raises(ArtifactRefused) as caught:
        require_clean(report)
    assert caught.value.detail == "The model was refused: y: bad. [b] (and 1 more)"
    assert report.to_json() == {
        "format": "keras",
        "scanner_version": SCANNER_VERSION,
        "findings": [
            {"rule": "b", "severity": "refuse", "where": "y", "message": "bad."},
            {"rule": "c", "severity": "refuse", "where": "z", "message": "m"},
            {"rule": "a", "severity": "note", "where": "x", "message": "m"},
        ],
    }


def test_require_clean_lets_notes_pass() -> None:
    require_clean(report_of("keras", [Finding("a", "note", "x", "m"), Finding("b", "review", "y", "m")]))
