"""Mutated real files: the scanner never fails, never hangs, and accepts nothing whose classes left the lists.

What was accepted is looked at again by `_strangers`, which shares nothing with the scanner but the lists.
"""

import copy
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maas_gateway.scanning import keras_names
from maas_gateway.scanning.keras_archive import KerasScanner
from maas_gateway.scanning.scanner import ScanReport
from unit.scanning.keras_files import InMemory, zipped

pytestmark = pytest.mark.thorough

_NAMES = ("convolutional", "two_inputs", "nested", "attention", "vocabulary", "optimized")
_MAX_S = 1.0
_CLASSES = {
    (module, name)
    for listed in (
        keras_names.MODELS,
        keras_names.LAYERS,
        keras_names.OPERATIONS,
        keras_names.PARTS,
        keras_names.TRAINING,
    )
    for module, names in listed.items()
    for name in names
}
_FUNCTIONS = {name for names in keras_names.FUNCTIONS.values() for name in names}
_FORMS = {"__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__"}

_LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None, "closure": None}}
_PIECES = st.sampled_from(
    [
        _LAMBDA,
        {"module": "os", "class_name": "function", "config": "system", "registered_name": None},
        {"module": "builtins", "class_name": "function", "config": "relu", "registered_name": None},
        {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None},
        {"module": "keras.layers", "class_name": "Dense", "config": {"name": "x", "units": 2}, "registered_name": None},
        {"class_name": "Dense", "config": {}},
        {"class_name": "__typespec__", "config": []},
        "../../x",
        "/etc/hostname",
        "keras.config",
        "Lambda",
        "function",
        "os",
        "Dense",
        2**40,
        -1,
        True,
        None,
        [],
        {},
    ]
)
_KEYS = st.sampled_from(
    [
        "class_name",
        "module",
        "config",
        "registered_name",
        "name",
        "vocabulary",
        "stateful",
        "units",
        "function",
        "layers",
    ]
)


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container and key of a parsed config."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        yield node, key
        yield from _places(value)


def _mutated(config: Any, data: st.DataObject) -> Any:
    for _ in range(data.draw(st.integers(1, 4))):
        places = list(_places(config))
        holder, key = places[data.draw(st.integers(0, len(places) - 1))]
        act = data.draw(st.sampled_from(["replace", "remove", "add", "copy"]))
        if act == "replace":
            holder[key] = copy.deepcopy(data.draw(_PIECES))
        elif act == "remove":
            del holder[key]
        elif act == "add" and isinstance(holder, dict):
            holder[data.draw(_KEYS)] = copy.deepcopy(data.draw(_PIECES))
        else:
            other, another = places[data.draw(st.integers(0, len(places) - 1))]
            holder[key] = copy.deepcopy(other[another]) if another in _keys(other) else None
    return config


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def _strangers(node: Any) -> list[str]:
    """Return every class, function or form of a config that is not on a list."""
    found = []
    if isinstance(node, dict) and "class_name" in node:
        name, module = node["class_name"], node.get("module")
        if name == "function":
            is_known = node.get("config") in _FUNCTIONS and module in {"builtins", *keras_names.FUNCTIONS}
        else:
            is_known = name in _FORMS or (module, name) in _CLASSES
        if not is_known or node.get("registered_name") not in {
            None,
            name,
            node.get("config") if name == "function" else None,
        }:
            found.append(f"{module} {name}")
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for value in values:
        found += _strangers(value)
    return found


def _scan(raw: bytes) -> ScanReport:
    began = time.process_time()
    report = KerasScanner().scan(InMemory(raw))
    assert time.process_time() - began < _MAX_S
    return report


def _members(models: Path, name: str) -> dict[str, bytes]:
    with zipfile.ZipFile(models / f"{name}.keras") as saved:
        return {name: saved.read(name) for name in saved.namelist()}


def _fuzz_config(models: Path, data: st.DataObject) -> None:
    members = _members(models, data.draw(st.sampled_from(_NAMES)))
    config = _mutated(json.loads(members["config.json"]), data)
    members["config.json"] = json.dumps(config).encode()
    if not _scan(zipped(list(members.items()))).refusals:
        assert _strangers(config) == []


def _fuzz_bytes(models: Path, data: st.DataObject) -> None:
    """Change bytes of a whole file, most of them in its headers and its config."""
    raw = bytearray((models / f"{data.draw(st.sampled_from(_NAMES))}.keras").read_bytes())
    last = len(raw) - 1
    places = st.integers(0, min(6_000, last)) | st.integers(max(0, last - 400), last) | st.integers(0, last)
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(places)] = data.draw(st.integers(0, 255) | st.sampled_from(b'"{}[]:,\\PK\0'))
    if not _scan(bytes(raw)).refusals:
        with zipfile.ZipFile(io.BytesIO(bytes(raw))) as members:
            assert _strangers(json.loads(members.read("config.json"))) == []


_QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
_LONG = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))


@_QUICK
@given(data=st.data())
def test_scan_accepts_no_mutated_config_with_a_stranger(models: Path, data: st.DataObject) -> None:
    _fuzz_config(models, data)


@_QUICK
@given(data=st.data())
def test_scan_accepts_no_changed_bytes_with_a_stranger(models: Path, data: st.DataObject) -> None:
    _fuzz_bytes(models, data)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@_LONG
@given(data=st.data())
def test_scan_accepts_no_mutated_config_with_a_stranger_for_long(models: Path, data: st.DataObject) -> None:
    _fuzz_config(models, data)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@_LONG
@given(data=st.data())
def test_scan_accepts_no_changed_bytes_with_a_stranger_for_long(models: Path, data: st.DataObject) -> None:
    _fuzz_bytes(models, data)


def test_strangers_are_seen_where_there_are_some() -> None:
    """The second look is worth something: it finds what the scanner must not accept."""
    assert _strangers({"layers": [{"a": _LAMBDA}]}) == ["None __lambda__"]
    assert _strangers({"class_name": "function", "module": "os", "config": "system"}) == ["os function"]
    assert _strangers({"class_name": "Dense", "module": "keras.layers", "registered_name": "a>b"}) != []
