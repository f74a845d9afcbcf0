"""Uploading: what is taken, what is refused, and that nothing is left of what was refused."""

import base64
import hashlib
import io
import json
import zipfile
from contextlib import aclosing
from pathlib import Path

import pytest
import sqlalchemy as sa

from builders import onnx_models
from builders.gateways import World, running_gateway
from builders.models import DemoModel, pieces, uploaded_model
from builders.plaintext import Search, pieces_of
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.registry.tables import ARTIFACTS, MODEL_VERSIONS

pytestmark = pytest.mark.anyio

PATH = "/admin/v1/models/bc/versions/1?format=keras"


def _digest(content: bytes) -> dict[str, str]:
    return {"content-digest": f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"}


def _rewritten(archive: bytes, config: dict[str, object] | None = None, **extra: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json" and config is not None:
                content = json.dumps(config).encode()
            target.writestr(zipfile.ZipInfo(name), content)
        for name, content in extra.items():
            target.writestr(zipfile.ZipInfo(name.replace("__", "/")), content)
    return out.getvalue()


async def _n_left(world: World) -> tuple[int, int, int]:
    """Return how many version rows, artifact rows and blobs there are."""
    database = Database(world.settings.main_url, CHANGES)
    async with database.connection(is_write=False) as connection:
        n_versions = (await connection.execute(sa.select(sa.func.count()).select_from(MODEL_VERSIONS))).scalar_one()
        n_artifacts = (await connection.execute(sa.select(sa.func.count()).select_from(ARTIFACTS))).scalar_one()
    await database.close()
    return n_versions, n_artifacts, len(list((world.settings.data_dir / "blobs").glob("??/*")))


async def test_an_upload_is_staged_and_nothing_serves_until_it_is_promoted(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        headers = await world.headers(await world.service("acme", "publisher"))
        archive = demo.seed.archive
        answer = await world.http.put(PATH, content=archive, headers={**headers, **_digest(archive)})
        assert answer.status_code == 201, answer.text
        body = answer.json()
        assert (body["stage"], body["format"], body["digest"]) == (
            "staged",
            "keras",
            hashlib.sha256(archive).hexdigest(),
        )
        assert body["signature"]["inputs"] == [{"name": "measurements", "datatype": "FP32", "shape": [-1, 30]}]
        assert body["plan"]["max_relative_error"] <= 1e-5
        assert answer.headers["location"] == "/admin/v1/models/bc/versions/1"
        row = {"instances": [list(demo.seed.example)]}
        assert (await world.http.post("/v1/models/bc:predict", json=row, headers=headers)).status_code == 404
        assert (await world.http.post("/admin/v1/models/bc/versions/1:promote", headers=headers)).status_code == 200
        assert (await world.http.post("/v1/models/bc:predict", json=row, headers=headers)).status_code == 200
        assert await _n_left(world) == (1, 2, 2)


async def test_the_same_content_again_is_the_same_upload_and_other_content_a_conflict(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await uploaded_model(world, "acme", "bc", demo)
        headers = await world.headers(await world.service("acme", "publisher"))
        again = await world.http.put(PATH, content=demo.seed.archive, headers=headers)
        assert (again.status_code, again.json()["stage"]) == (200, "staged")
        other = await world.http.put(PATH, content=demo.seed.archive + b"x", headers=headers)
        assert (other.status_code, other.json()["type"]) == (409, "/problems/version-exists")
        assert await _n_left(world) == (1, 2, 2)


async def test_what_is_refused_leaves_nothing_and_the_sentence_says_why(tmp_path: Path, demo: DemoModel) -> None:
    archive = demo.seed.archive
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        config = json.loads(source.read("config.json"))
    lambda_layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "x"}}
    config["config"]["layers"].append(lambda_layer)
    cases = [
        ("", b"", 422, ""),
        ("", b"\x89HDF\r\n\x1a\n" + bytes(100), 422, ".keras"),
        ("", b"\x80\x04\x95pickle", 422, ""),
        ("", _rewritten(archive, config), 422, "Lambda"),
        ("", _rewritten(archive, __file__=b"x"), 422, ""),
        ("", archive[:-100], 422, ""),
        ("&x=1", archive[:1000] + b"\x00" + archive[1001:], 422, ""),
    ]
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        headers = await world.headers(await world.service("acme", "publisher"))
        for query, content, status, named in cases:
            answer = await world.http.put(PATH + query, content=content, headers=headers)
            assert answer.status_code == status, answer.text
            assert named in answer.json()["detail"]
            assert answer.headers["content-type"] == "application/problem+json"
        wrong = await world.http.put(PATH, content=archive, headers={**headers, **_digest(b"other")})
        assert (wrong.status_code, wrong.json()["detail"][:6]) == (400, "digest")
        for version in ("0", "-1", "x", str(2**63)):
            path = f"/admin/v1/models/bc/versions/{version}?format=keras"
            answer = await world.http.put(path, content=archive, headers=headers)
            assert (answer.status_code, "version" in answer.json()["detail"]) == (400, True)
        for name in ("a.b", "a%20b", "x" * 129):
            answer = await world.http.put(f"/admin/v1/models/{name}/versions/1", content=archive, headers=headers)
            assert (answer.status_code, "model" in answer.json()["detail"]) == (400, True)
        assert (await world.http.put(PATH.replace("keras", "pickle"), content=b"", headers=headers)).status_code == 400
        assert await _n_left(world) == (0, 0, 0)


async def test_an_upload_over_the_bound_is_413_whether_or_not_its_length_is_declared(
    tmp_path: Path, demo: DemoModel
) -> None:
    async def undeclared() -> object:
        for _ in range(50):
            yield bytes(1_000)

    async with running_gateway(tmp_path, uploads={"max_bytes": 10_000}) as world:
        await world.tenant("acme")
        headers = await world.headers(await world.service("acme", "publisher"))
        for content in (bytes(50_000), undeclared()):
            answer = await world.http.put(PATH, content=content, headers=headers)
            assert (answer.status_code, "10000" in answer.json()["detail"]) == (413, True)
        assert await _n_left(world) == (0, 0, 0)


CANARY = "a-word-of-the-sample-that-nobody-else-says"


def _sample(name: str = "x", data: object = None) -> bytes:
    data = [[1.0, 2.0, 3.0, 4.0]] if data is None else data
    entry = {"name": name, "datatype": "FP32", "shape": [1, 4], "data": data}
    return json.dumps({"id": CANARY, "inputs": [entry]}).encode()


async def test_a_publishers_sample_is_compared_on_and_not_kept(tmp_path: Path) -> None:
    model, sample = onnx_models.dense().SerializeToString(), _sample()
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        headers = await world.headers(await world.service("acme", "publisher"))
        path = "/admin/v1/models/dense/versions/1?format=onnx"
        sent = {**headers, **_digest(sample + model), "model-sample-length": str(len(sample))}
        for wrong, status, said in (
            ({"model-sample-length": "0"}, 400, "Model-Sample-Length: a whole number of bytes, at least 1"),
            ({"model-sample-length": "-1"}, 400, "Model-Sample-Length: a whole number"),
            ({"model-sample-length": "many"}, 400, "Model-Sample-Length: a whole number"),
            ({"model-sample-length": str(10**7)}, 413, "the sample is larger than the 8388608 bytes"),
            ({"model-sample-length": str(len(sample + model) + 1)}, 400, "longer than all that is sent"),
            ({"model-sample-length": str(len(sample) - 1)}, 422, ""),
            (_digest(model), 400, "what arrived is not what was declared"),
        ):
            answer = await world.http.put(path, content=sample + model, headers={**sent, **wrong})
            assert (answer.status_code, said in answer.json()["detail"]) == (status, True), (wrong, answer.text)
        for other, said in ((_sample("z"), "unknown input 'z'"), (_sample(data=[["a"] * 4]), "input 'x'")):
            lengths = {"model-sample-length": str(len(other))}
            answer = await world.http.put(path, content=other + model, headers={**headers, **lengths})
            assert answer.status_code == 422
            assert "the sample does not fit the model" in answer.json()["detail"]
            assert said in answer.json()["detail"]
        assert await _n_left(world) == (0, 0, 0)
        async with aclosing(pieces(sample + model, 7)) as cut:
            answer = await world.http.put(path, content=cut, headers=sent)
        assert answer.status_code == 201, answer.text
        assert answer.json()["digest"] == hashlib.sha256(model).hexdigest()
        assert ["1 row of the publisher's sample" in found["message"] for found in answer.json()["findings"]] == [True]
        assert Search({"sample": [CANARY.encode()]}).in_files(world.settings.data_dir.rglob("*")) == {}


async def test_no_file_that_the_gateway_writes_holds_a_models_plaintext(tmp_path: Path, demo: DemoModel) -> None:
    """The data directory, spool and databases included; the whole machine: `attacks/test_plaintext`."""
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await uploaded_model(world, "acme", "bc", demo)
        headers = await world.headers(world.owners["acme"])
        await world.http.post("/admin/v1/models/bc/versions/1:promote", headers=headers)
        row = {"instances": [list(demo.seed.example)]}
        assert (await world.http.post("/v1/models/bc:predict", json=row, headers=headers)).status_code == 200
        with zipfile.ZipFile(io.BytesIO(demo.seed.archive)) as archive:
            weights = archive.read("model.weights.h5")
        pieces = [piece for content in (weights, *demo.plans) for piece in pieces_of(content)]
        assert len(pieces) > 10
        assert Search({"model": pieces}).in_files(world.settings.data_dir.rglob("*")) == {}
