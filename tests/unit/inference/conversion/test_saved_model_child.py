"""Real SavedModels through the real child: frozen, compared, lowered, and nothing left behind."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.conversions import converted
from builders.saved_models import archive_of, saved_models
from builders.shared import built_once
from builders.tf_models import packed, saved_model
from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.limits import Limits
from maas_gateway.errors import ArtifactRefused
from maas_gateway.scanning.frozen_graph import FrozenGraphScanner
from maas_gateway.scanning.saved_model import SavedModelScanner
from unit.scanning.keras_files import InMemory

pytestmark = pytest.mark.thorough

SERVED = ("module", "loop", "table", "lstm", "text", "lookup", "dense", "conv")
REFUSED = {
    "mixing": "answers a row otherwise when other rows stand beside it",
    "fixed": "fixes its batch size",
    "counter": "answers a row otherwise",
    "broken": "TensorFlow cannot load it",
}
WITH_LOOPS = {"loop", "lstm"}


@dataclass(frozen=True)
class Result:
    """What became of a model."""

    header: Mapping[str, Any]
    contents: Mapping[str, bytes]

    @property
    def plans(self) -> Mapping[str, Mapping[str, Any]]:
        return {plan["runtime"]: plan for plan in self.header["plans"]}


@pytest.fixture(scope="session")
def models(shared_folder: Path) -> Path:
    return saved_models(shared_folder)


@pytest.fixture(scope="session")
def results(shared_folder: Path, models: Path) -> dict[str, Result]:
    """What became of all models, in one child."""

    def build(folder: Path) -> None:
        archives = {name: archive_of(models / name) for name in (*SERVED, "mixing", "fixed", "counter")}
        archives["broken"] = packed(saved_model())
        answer = asyncio.run(
            run_child(
                "convert_saved_models",
                limits=Limits(),
                deadline_s=250,
                request=archives.values(),
                arguments={"sizes": {name: len(archive) for name, archive in archives.items()}},
                search_paths=[Path(__file__).parent / "children"],
            )
        )
        (folder / "headers.json").write_text(json.dumps(dict(answer.header)))
        (folder / "payload").write_bytes(answer.payload)

    folder = built_once(shared_folder, "converted-saved-models", build)
    headers, payload = json.loads((folder / "headers.json").read_text()), (folder / "payload").read_bytes()
    found, position = {}, 0
    for name, header in headers.items():
        contents = {}
        for plan in header.get("plans", ()):
            contents[plan["runtime"]] = payload[position : position + plan["n_bytes"]]
            position += plan["n_bytes"]
        found[name] = Result(header, contents)
    assert position == len(payload)
    return found


@pytest.mark.parametrize("name", [*SERVED, "mixing", "fixed"])
def test_scanner_passes_real_models(models: Path, name: str) -> None:
    report = SavedModelScanner().scan(InMemory(archive_of(models / name)))
    assert report.findings == ()
    assert report.has_control_flow is (name in WITH_LOOPS)


@pytest.mark.parametrize("name", SERVED)
def test_frozen_graph_is_canonical_exact_and_the_same_again(results: dict[str, Result], name: str) -> None:
    result = results[name]
    report = FrozenGraphScanner().scan(InMemory(result.contents["tensorflow"]))
    assert report.findings == ()
    assert report.has_control_flow is (name in WITH_LOOPS)
    plan = result.plans["tensorflow"]
    assert plan["max_relative_error"] <= plan["tolerance"] == 1e-6
    assert plan["took_us"] > 0
    assert result.header["n_compared"] > 0
    assert result.header["is_same_again"]


def test_forms_are_compared_on_the_publishers_sample_too(results: dict[str, Result]) -> None:
    assert "the 3 rows of the publisher's sample" in results["dense"].header["noted again"][0]
    assert results["conv"].header["noted again"] == results["conv"].header["notes"]


@pytest.mark.parametrize("name", ["module", "loop", "dense", "conv"])
def test_what_lowers_has_a_litert_plan_first(results: dict[str, Result], name: str) -> None:
    result = results[name]
    assert [plan["runtime"] for plan in result.header["plans"]] == ["litert", "tensorflow"]
    assert result.plans["litert"]["max_relative_error"] <= result.plans["litert"]["tolerance"] == 1e-5
    assert result.contents["litert"][4:8] == b"TFL3"
    assert result.header["notes"] == []


@pytest.mark.parametrize("name", ["table", "text", "lookup", "lstm"])
def test_what_does_not_lower_keeps_one_plan_and_says_why(results: dict[str, Result], name: str) -> None:
    assert list(results[name].plans) == ["tensorflow"]
    (note,) = results[name].header["notes"]
    assert note.startswith("litert: ")


def test_signature_has_the_models_names_and_free_rows(results: dict[str, Result]) -> None:
    assert results["module"].header["signature"] == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            {"name": "total", "datatype": "FP32", "shape": [-1]},
            {"name": "y", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }
    table = results["table"].header["signature"]
    assert [port["datatype"] for port in table["inputs"] + table["outputs"]] == ["BYTES", "BYTES", "INT64", "INT64"]
    assert [port["shape"] for port in table["inputs"] + table["outputs"]] == [[-1, -1]] * 4


@pytest.mark.parametrize(("name", "sentence"), REFUSED.items())
def test_child_refuses(results: dict[str, Result], name: str, sentence: str) -> None:
    assert sentence in results[name].header["refused"]


def test_child_leaves_nothing_in_its_file_system_in_memory(results: dict[str, Result]) -> None:
    assert {name for name, result in results.items() if result.header["is_left"]} == set()
    assert results["module"].header["steps"] == ["unpacked", "loaded", "rebuilt", "converted"] * 2


def test_tables_are_looked_up_in_the_frozen_graph(results: dict[str, Result]) -> None:
    looked_up = results["table"].header["looked_up"]
    texts = [["A", "red"], ["", "nowhere"], ["12", "RED"]]
    expected = {"a": 1, "red": 2, "12": 3}
    numbers = [[expected.get(text.lower(), -7) for text in row] for row in texts]
    names = {1: "one", 3: "three", -7: "less"}
    assert looked_up["number"] == numbers
    assert looked_up["name"] == [[names.get(number, "none") for number in row] for row in numbers]
    assert looked_up["size"] == [[3, 3]] * 3


def test_gateway_reads_the_childs_answer(models: Path) -> None:
    whole = asyncio.run(converted("savedmodel", archive_of(models / "module")))
    assert [plan.runtime for plan in whole.conversion.plans] == ["litert", "tensorflow"]
    assert FrozenGraphScanner().scan(InMemory(whole.content("tensorflow"))).findings == ()


def test_gateway_refuses_an_archive_of_another_size_than_was_announced(models: Path) -> None:
    archive = archive_of(models / "module")
    with pytest.raises(ArtifactRefused, match="announced"):
        asyncio.run(converted("savedmodel", archive, size_bytes=len(archive) + 1))
