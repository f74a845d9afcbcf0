"""Mutated real SavedModels, judged by TensorFlow's own reader, and what hostile ones do when nobody stops them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.hostile import SECRET
from builders.saved_models import saved_models
from builders.tf_models import files_of, saved_model, tar
from maas_gateway.scanning.saved_model import SavedModelScanner
from maas_gateway.scanning.tf_operators import DORMANT, FROZEN_AWAY, OPERATORS, SAVER
from unit.scanning.keras_files import InMemory

pytestmark = [pytest.mark.slow, pytest.mark.loads_tensorflow]

LISTED = OPERATORS | FROZEN_AWAY | DORMANT | SAVER
NAMES = ("module", "loop", "table", "text")
OTHERS = [b"ReadFile", b"PyFunc", b"WriteFile", b"PrintV2", b"Stage", b"MatchingFiles"]
_PROGRAM = Path(__file__).with_name("run_hostile_graphs.py")


class Graphs(dict[str, bytes]):
    """Every saved_model.pb by name, without a word of its content."""

    def __repr__(self) -> str:
        return "<graphs>"


@pytest.fixture(scope="session")
def graphs(shared_folder: Path) -> Graphs:
    folder = saved_models(shared_folder)
    return Graphs({name: (folder / name / "saved_model.pb").read_bytes() for name in NAMES})


def scan(graph: bytes) -> bool:
    """Whether a saved_model.pb is accepted."""
    return not SavedModelScanner().scan(InMemory(tar({**files_of(saved_model()), "saved_model.pb": graph}))).refusals


def _operators(graph: bytes) -> set[str]:
    """Every operator in the file, as TensorFlow reads it; none if it does not (a text in what we leave unread)."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(graph)
    except DecodeError:
        return set()
    found = set()
    for meta_graph in model.meta_graphs:
        found |= {node.op for node in meta_graph.graph_def.node}
        for function in meta_graph.graph_def.library.function:
            found |= {node.op for node in function.node_def}
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES), changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3))
def test_no_mutant_is_accepted_whose_operators_are_not_listed(
    graphs: Graphs, name: str, changes: list[tuple[float, int]]
) -> None:
    graph = bytearray(graphs[name])
    for place, value in changes:
        graph[int(place * (len(graph) - 1))] = value
    if scan(bytes(graph)):
        assert _operators(bytes(graph)) <= LISTED


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES), place=st.floats(0, 1), other=st.sampled_from(OTHERS))
def test_no_mutant_is_accepted_one_operator_of_which_is_another(
    graphs: Graphs, name: str, place: float, other: bytes
) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString(graphs[name])
    graph = model.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    nodes[int(place * (len(nodes) - 1))].op = other.decode()
    assert not scan(model.SerializeToString())


def test_real_models_stay_accepted_when_tensorflow_writes_them_anew(graphs: Graphs) -> None:
    assert all(scan(graph) for graph in graphs.values())


def test_listed_operators_are_tensorflows_and_few_of_them_have_effects() -> None:
    from tensorflow.python.framework import op_def_registry

    found = {name: op_def_registry.get(name) for name in LISTED}
    assert {name for name, definition in found.items() if definition is None} == set()
    assert {name for name in OPERATORS if found[name].is_stateful} == {
        "Assert",
        "Case",
        "If",
        "StatefulPartitionedCall",
        "While",
    }


@pytest.fixture(scope="module")
def effects(shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What hostile graphs do in TensorFlow when nobody has scanned them; each is a real model with one more node."""
    folder = tmp_path_factory.mktemp("scene")
    (folder / "secret").write_bytes(SECRET)
    model = saved_models(shared_folder) / "module"
    ran = subprocess.run(
        [sys.executable, str(_PROGRAM), str(model), str(folder)],
        check=True,
        capture_output=True,
        timeout=200,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    found: dict[str, object] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", ["WriteFile", "PrintV2", "ReadFile while it is loaded"])
def test_hostile_graphs_are_live_in_tensorflow_and_refused_here(effects: dict[str, object], name: str) -> None:
    effect = effects[name]
    assert isinstance(effect, dict)
    assert effect["has_happened"] is True
    assert not scan(bytes.fromhex(effect["graph"]))
