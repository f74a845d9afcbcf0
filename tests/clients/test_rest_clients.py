"""Clients that others wrote, as they are released, against the HTTP doors: numbers, types, texts, refusals."""

import csv
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from builders.models import DemoModel
from builders.offers import CUDA, ENVIRONMENTS, PERF, Offer, has_perf_analyzer, offered

CLIENTS = ENVIRONMENTS / "clients" / "bin" / "python"
MLSERVER = ENVIRONMENTS / "clients-mlserver" / "bin" / "mlserver"
TF_SERVING = ENVIRONMENTS / "clients-tf-serving"
UNKNOWN = "Request for unknown model: 'nope' is not found"
BAD_SHAPE = "input 'measurements': expected shape [-1, 30] and got"
NO_TOKEN = "send a token: Authorization: Bearer <token>"
TEXTS = ["", "grün \N{GRINNING FACE}"]

pytestmark = [pytest.mark.anyio, pytest.mark.services]


def _needs(place: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not place.exists(), reason="no clients: sh tests/install_clients.sh all")


@pytest.fixture(scope="module")
async def offer(tmp_path_factory: pytest.TempPathFactory, demo: DemoModel) -> AsyncIterator[Offer]:
    """One gateway for all of these clients, each of which brings nothing into it."""
    async with offered(tmp_path_factory.mktemp("offer"), demo) as running:
        yield running


def _close(scores: list[list[float]]) -> Any:
    return [pytest.approx(row, rel=1e-5) for row in scores]


@pytest.fixture(scope="module")
async def triton(offer: Offer) -> dict[str, Any]:
    """What Triton's client found out."""
    return await offer.told(CLIENTS, "triton_http.py", offer.address)


@_needs(CLIENTS)
async def test_tritons_client_reads_what_there_is(triton: dict[str, Any]) -> None:
    assert (triton["live"], triton["ready"], triton["model_ready"]) == (True, True, [True, True, False])
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(triton["server"]["extensions"])
    assert triton["metadata"]["versions"] == ["1"]
    assert triton["metadata"]["inputs"] == [{"name": "measurements", "datatype": "FP32", "shape": [-1, 30]}]
    config = triton["config"]
    assert (config["name"], config["max_batch_size"], "dynamic_batching" in config) == ("bc", 64, True)
    assert config["input"] == [{"name": "measurements", "data_type": "TYPE_FP32", "dims": [30]}]
    rows = [(row["name"], row["version"], row["state"], row["reason"]) for row in triton["index"]]
    assert rows == [(name, "1", "READY", "") for name in ("bc", "cycled", "echo", "texts")]
    n_requests = 2 + 6 + 1 + 8
    assert triton["counted"] == [2 * n_requests, *[n_requests] * 4]


@_needs(CLIENTS)
async def test_tritons_client_gets_its_numbers_and_texts(offer: Offer, triton: dict[str, Any]) -> None:
    expected = _close(offer.scores)
    dtypes = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "object"}
    for is_binary in (True, False):
        assert triton[f"scores {is_binary}"] == ["7", "float32", expected]
        found = triton[f"echo {is_binary}"]
        assert len(found) == 13
        for name, (dtype, values) in found.items():
            assert dtype == dtypes.get(name, name.lower()), name
            assert values == [_sent(name)] * 2, name
    assert triton["compressed"] == [expected] * 6
    assert triton["classes"] == [f"{row[0]:f}:0" for row in offer.scores]
    assert triton["async"] == [expected] * 8
    assert triton["aio"]["scores"] == [expected] * 9


def _sent(name: str) -> list[Any]:
    bits = int(name.removeprefix("UINT").removeprefix("INT")) if "INT" in name else 0
    if bits:
        return [0, 2**bits - 1] if name.startswith("U") else [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]
    floats = {"FP16": [0.5, -65504.0], "FP32": [0.10000000149011612, -3.4028234663852886e38], "FP64": [0.1, 5e-324]}
    return {"BOOL": [True, False], "BYTES": TEXTS, **floats}[name]


TRITON_REFUSED = {
    "unknown model": ("404", UNKNOWN),
    "unknown version": ("404", "Request for unknown model: 'bc' version 9 is not found"),
    "shape": ("400", f"{BAD_SHAPE} [2, 7]"),
    "input": ("400", "unknown input 'other'; the model's inputs are: measurements"),
    "datatype": ("400", "input 'measurements': expected FP32 and got FP64"),
    "output": ("400", "unexpected inference output 'other' for model 'bc'; its outputs are: benign"),
    "no text": ("400", "input 'IN_BYTES': a text is not UTF-8, which this model needs"),
    "FP16 as JSON": (
        "400",
        "sending FP16 data via JSON is not supported. Please use the binary data format for output",
    ),
    "load": ("403", "this needs the permission model:promote on model 'bc'"),
    "shared memory": ("404", "Not Found"),
    "nobody": ("401", NO_TOKEN),
}


@_needs(CLIENTS)
async def test_tritons_client_raises_what_it_is_refused_with(triton: dict[str, Any]) -> None:
    refused = triton["refused"]
    for name, (status, says) in TRITON_REFUSED.items():
        assert (refused[name][0], says in refused[name][1]) == (status, True), (name, refused[name])
    assert triton["aio"]["refused"] == ["404", UNKNOWN]


@_needs(CLIENTS)
async def test_tritons_client_loads_and_unloads_a_model(triton: dict[str, Any]) -> None:
    found = triton["repository"]
    assert found["steps"] == [False, True, False]
    for name in ("config", "files"):
        assert (found[name][0], "models enter through an upload only" in found[name][1]) == ("400", True)
    assert found["unknown"] == ["404", UNKNOWN]
    rows = [(row["version"], row["state"], row["reason"]) for row in found["rows"]]
    assert rows == [("2", "UNAVAILABLE", "unloaded"), ("1", "UNAVAILABLE", "unloaded")]


@_needs(CLIENTS)
async def test_kserves_client_works_unmodified_over_both_protocols(offer: Offer) -> None:
    found = await offer.told(CLIENTS, "kserve_rest.py", offer.url)
    expected = _close(offer.scores)
    first, second = found["v1"], found["v2"]
    assert (first["live"], first["model_ready"]) == (True, True)
    assert (first["scores"], first["texts"]) == ({"predictions": expected}, {"predictions": [TEXTS]})
    refused = [
        (first["unknown"], 404, "Servable not found for request: Latest(nope), '404 Not Found' for url"),
        (first["bad"], 400, "Type: String is not of expected type: float"),
        (first["nobody"], 401, NO_TOKEN),
        (second["unknown"], 404, f"{UNKNOWN}, '404 Not Found' for url"),
        (second["bad"], 400, f"{BAD_SHAPE} [1, 7], '400 Bad Request' for url"),
    ]
    for raised, status, says in refused:
        assert (raised[0], says in raised[1]) == (status, True), raised
    assert (second["live"], second["ready"], second["model_ready"]) == (True, True, [True, False])
    for is_binary in (True, False):
        assert second[f"scores {is_binary}"] == ["7", "FP32", expected]
        assert second[f"texts {is_binary}"] == TEXTS


@pytest.mark.slow  # an environment of its own
@_needs(MLSERVER)
@pytest.mark.parametrize("form", [(), ("-b",)], ids=["as JSON", "as raw bytes"])
async def test_mlservers_command_answers_each_line_or_says_why_not(
    offer: Offer, tmp_path: Path, form: tuple[str, ...]
) -> None:
    good = {"name": "measurements", "shape": [1, 30], "datatype": "FP32", "data": offer.rows[0]}
    bad = {**good, "shape": [1, 3], "data": [1.0, 2.0, 3.0]}
    lines = [{"id": "a", "inputs": [good]}, {"id": "b", "inputs": [bad]}, {"id": "c", "inputs": [good]}]
    asked, answered = tmp_path / "asked.jsonl", tmp_path / "answered.jsonl"
    asked.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    command = [
        str(MLSERVER),
        "infer",
        "-u",
        offer.address,
        "-m",
        "bc",
        "-i",
        str(asked),
        "-o",
        str(answered),
        "-r",
        "1",
    ]
    header = f"Authorization: Bearer {offer.token}"
    status, printed, errors = await offer.run([*command, "-H", header, *form], {"PYTHONPATH": ""})
    assert status == 0, printed + errors
    found = sorted(
        map(json.loads, answered.read_text().splitlines()), key=lambda line: line["parameters"]["batch_index"]
    )
    assert found[1]["error"]["msg"] == f"{BAD_SHAPE} [1, 3]"
    for line, name in ((found[0], "a"), (found[2], "c")):
        (output,) = line["outputs"]
        assert (line["id"], output["name"], output["datatype"], output["shape"]) == (name, "benign", "FP32", [1, 1])
        assert output["data"] == _close([offer.scores[0]])[0]


@pytest.mark.slow  # its import of TensorFlow; the example of `docs/clients.md` is run by `make test`
@_needs(TF_SERVING)
async def test_answers_are_what_tensorflow_servings_messages_say_as_json(offer: Offer) -> None:
    found = await offer.told(
        Path(sys.executable), "tf_serving_messages.py", offer.url, PYTHONPATH=str(TF_SERVING), TF_CPP_MIN_LOG_LEVEL="3"
    )
    assert found["status"] == [[1, "AVAILABLE", 0]]
    assert found["spec"] == ["bc", 1]
    assert found["takes"] == ["measurements", "float32", [-1, 30]]
    assert found["method"] == "tensorflow/serving/predict"
    assert found["scores"] == ["float32", _close(offer.scores)]
    status, body = found["unknown"]
    assert (status, body["error"]) == (404, "Servable not found for request: Latest(nope)")


async def test_curl_is_answered_as_tensorflow_servings_documentation_has_it(offer: Offer) -> None:
    row = json.dumps(offer.rows[0])
    score = pytest.approx(offer.scores[0][0], rel=1e-5)
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    cases: list[tuple[str, str | None, int, str, Any]] = [
        ("bc:predict", f'{{"instances": [{row}, {row}]}}', 200, "predictions", [[score]] * 2),
        ("bc:predict", f'{{"inputs": [{row}]}}', 200, "outputs", [[score]]),
        ("bc/versions/1:predict", f'{{"inputs": {{"measurements": [{row}]}}}}', 200, "outputs", [[score]]),
        ("bc:classify", f'{{"examples": [{{"measurements": {row}}}]}}', 200, "results", [[["", score]]]),
        ("bc:regress", f'{{"examples": [{{"measurements": {row}}}]}}', 200, "results", [score]),
        ("texts:predict", '{"instances": [[{"b64": "aMOp"}, "x"]]}', 200, "predictions", [["hé", "x"]]),
        ("bc", None, 200, "model_version_status", [state]),
        ("bc/versions/1", None, 200, "model_version_status", [state]),
        ("bc/metadata", None, 200, "model_spec", {"name": "bc", "signature_name": "", "version": "1"}),
        ("nope:predict", f'{{"instances": [{row}]}}', 404, "error", "Servable not found for request: Latest(nope)"),
        ("bc:predict", '{"instances": [[1.0, 2.0]]}', 400, "error", f"{BAD_SHAPE} [1, 2]"),
        ("nope", None, 404, "error", "Could not find any versions of model nope"),
    ]
    for path, body, status, member, expected in cases:
        sends = [] if body is None else ["-d", body, "-X", "POST"]
        known = ["-H", f"Authorization: Bearer {offer.token}"]
        command = ["curl", "-s", "-w", "\n%{http_code}", *known, *sends, f"{offer.url}/v1/models/{path}"]
        code, printed, errors = await offer.run(command, {})
        assert code == 0, errors
        answer, told = printed.rsplit("\n", 1)
        assert (int(told), json.loads(answer)[member]) == (status, expected), (path, printed)


@pytest.mark.slow  # an environment of its own
@pytest.mark.skipif(not has_perf_analyzer(), reason="no perf_analyzer: sh tests/install_clients.sh all")
@pytest.mark.parametrize(
    "form",
    [
        ("-i", "http"),
        ("-i", "http", "--input-tensor-format", "json", "--output-tensor-format", "json"),
        ("-i", "grpc"),
        ("-i", "grpc", "--streaming"),
    ],
    ids=["raw bytes over HTTP", "JSON over HTTP", "gRPC", "streams of gRPC"],
)
async def test_perf_analyzer_runs_a_sweep_to_its_end(offer: Offer, tmp_path: Path, form: tuple[str, ...]) -> None:
    report = tmp_path / "report.csv"
    address = offer.grpc if "grpc" in form else offer.address
    # Windows as short as they may be and any spread: that it gets to its end is asked, not how fast anything is.
    sweep = ["--concurrency-range", "1:3:2", "--measurement-interval", "200", "-s", "999", "-r", "3"]
    known = ["-H", f"authorization: Bearer {offer.token}"]
    status, printed, errors = await offer.run(
        [str(PERF / "bin" / "perf_analyzer"), "-m", "bc", "-u", address, *form, *sweep, *known, "-f", str(report)],
        {"LD_LIBRARY_PATH": str(CUDA)},
    )
    assert status == 0, printed[-1_000:] + errors[-1_000:]
    lines = list(csv.DictReader(report.read_text().splitlines()))
    assert sorted(line["Concurrency"] for line in lines) == ["1", "3"]
    assert all(float(line["Inferences/Second"]) > 0 for line in lines)
    assert all(float(line["Server Compute Infer"]) > 0 for line in lines), "it has read our statistics"
