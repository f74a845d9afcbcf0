"""`models scan`: what it says of a file, how it ends, and that it asks no gateway and no framework."""

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from maas_gateway.cli.main import app
from maas_gateway.cli.model_files import ModelFile
from maas_gateway.errors import InvalidRequest

RUNNER = CliRunner()
SEEN = "import sys; print([name for name in ('tensorflow', 'keras', 'numpy', 'fastapi') if name in sys.modules])"


def _layer(class_name: str, name: str, behind: str | None = None) -> dict[str, Any]:
    tensor = {"class_name": "__keras_tensor__", "config": {"shape": [None, 3], "dtype": "float32"}}
    nodes = []
    if behind is not None:
        tensor["config"]["keras_history"] = [behind, 0, 0]  # type: ignore[index]
        nodes = [{"args": [tensor], "kwargs": {}}]
    own = {"batch_shape": [None, 3], "dtype": "float32"} if behind is None else {}
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {"name": name, **own},
        "registered_name": None,
        "name": name,
        "inbound_nodes": nodes,
    }


def _keras(*more: dict[str, Any]) -> bytes:
    """Return a Keras archive: an input, a ReLU that answers, and more layers."""
    layers = [_layer("InputLayer", "x"), _layer("ReLU", "y", "x"), *more]
    ends = {"input_layers": ["x", 0, 0], "output_layers": ["y", 0, 0]}
    config = {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {"name": "m", "trainable": True, "layers": layers, **ends},
        "registered_name": "Functional",
    }
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": "2026-11-23@01:02:03"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(1_000))
    return whole.getvalue()


FILES: dict[str, tuple[bytes, str, int]] = {
    "nothing to say": (_keras(), "accepted", os.EX_OK),
    "a person asked for": (_keras(_layer("ReLU", "idle", "x")), "review", os.EX_OK),
    "code in a layer": (_keras(_layer("Lambda", "code", "x")), "refused", os.EX_DATAERR),
}


def _scan(tmp_path: Path, content: bytes, *options: str, name: str = "model.bin") -> tuple[int, dict[str, Any]]:
    path = tmp_path / name
    path.write_bytes(content)
    done = RUNNER.invoke(app, ["models", "scan", str(path), "--json", *options])
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.parametrize(("content", "verdict", "code"), FILES.values(), ids=FILES)
def test_scan_tells_the_verdict_and_ends_with_its_code(tmp_path: Path, content: bytes, verdict: str, code: int) -> None:
    ended, said = _scan(tmp_path, content)
    assert (ended, said["verdict"], said["format"]) == (code, verdict, "keras")
    assert [finding["severity"] for finding in said["findings"]] == {"accepted": [], "review": ["review"]}.get(
        verdict, ["refuse", "review"]
    )
    assert said["size_bytes"] == len(content)


def test_report_for_people_names_place_rule_severity_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(FILES["code in a layer"][0])
    done = RUNNER.invoke(app, ["models", "scan", str(path)], env={"COLUMNS": "200"})
    assert done.exit_code == os.EX_DATAERR
    for word in ("refuse", "class-runs-code", "config.json: /config/layers/2", "Refused by rules", "save it again"):
        assert word in done.stdout


def test_text_of_a_file_is_no_markup_of_the_report(tmp_path: Path) -> None:
    file = tmp_path / "[red]x.keras"
    file.write_bytes(_keras(_layer("[red]Evil[/red]", "a", "x")))
    done = RUNNER.invoke(app, ["models", "scan", str(file)], env={"COLUMNS": "300"})
    assert "[red]x.keras" in done.stdout
    assert "[red]Evil[/red]" in done.stdout


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"\x89HDF\r\n\x1a\n" + bytes(99), "bare HDF5", id="an .h5 file"),
        pytest.param(b"\x80\x04\x95" + bytes(99), "pickle", id="a pickle"),
        pytest.param(b"no model at all", "say which: --format keras|savedmodel|tflite|onnx", id="nothing known"),
        pytest.param(b"", "say which", id="nothing"),
    ],
)
def test_content_of_no_format_that_is_taken_is_told_what_to_do(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    with ModelFile(path) as file, pytest.raises(InvalidRequest, match="model") as caught:
        file.format(None)
    assert sentence in caught.value.detail


def test_format_that_is_said_holds_and_a_file_of_another_is_refused(tmp_path: Path) -> None:
    code, said = _scan(tmp_path, FILES["nothing to say"][0], "--format", "tflite")
    assert (code, said["format"], said["verdict"]) == (os.EX_DATAERR, "tflite", "refused")
    assert "--format keras" in said["findings"][0]["message"]


def test_missing_file_and_unknown_format_end_with_their_own_codes(tmp_path: Path) -> None:
    missing = RUNNER.invoke(app, ["models", "scan", str(tmp_path / "none.keras")])
    assert (missing.exit_code, "no such file" in missing.stderr) == (os.EX_NOINPUT, True)
    path = tmp_path / "model"
    path.write_bytes(b"x")
    unknown = RUNNER.invoke(app, ["models", "scan", str(path), "--format", "pickle"])
    assert isinstance(unknown.exception, InvalidRequest), "which `run` ends with 65"
    assert unknown.exception.detail == "--format pickle: keras, savedmodel, tflite, onnx"


def test_scan_imports_no_framework(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(FILES["nothing to say"][0])
    program = f"from maas_gateway.cli.scan import run_scan; from pathlib import Path; run_scan(Path({str(path)!r}), None, as_json=True); {SEEN}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_saved_models_folder_is_as_if_it_were_packed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index"):
        (folder / name).write_bytes(name.encode())
    with ModelFile(folder) as file, ModelFile(folder) as again:
        assert file.format(None) == "savedmodel"
        assert file.digest() == again.digest()
        packed = b"".join(file.chunks())
        assert len(packed) == file.size_bytes
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = {member.name: (member.mtime, member.uid, member.uname) for member in archive.getmembers()}
    assert members == {"saved_model.pb": (0, 0, ""), "variables/variables.index": (0, 0, "")}


def test_folder_without_a_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"has no saved_model\.pb"):
        ModelFile(tmp_path)
