"""Models in a running gateway: the seed network, trained once a test session, served in moments."""

import base64
import fcntl
import io
import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from builders.conversions import WholeConversion, converted, pieces
from builders.gateways import World
from maas_gateway.clock import Deadline
from maas_gateway.confinement.conversation import Sink
from maas_gateway.controlplane.arriving import Incoming
from maas_gateway.controlplane.examining import Converter
from maas_gateway.controlplane.upload import Upload
from maas_gateway.identifiers import ModelRef
from maas_gateway.inference.conversion.answer import Conversion
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Place
from maas_gateway.registry.manifest import KIND, resealed
from maas_gateway.registry.model import ArtifactRole, ModelVersion, Stage
from maas_gateway.registry.tables import ARTIFACTS
from maas_gateway.training.seed import TrainedSeed, train_seed

SERVED_WITHIN_S = 30.0


@dataclass(frozen=True)
class DemoModel:
    """The seed network and what became of it.

    Attributes:
        seed: the archive, one example row and the answer expected for it.
        made: what the real converter made of the archive.
    """

    seed: TrainedSeed
    made: WholeConversion

    @property
    def plan(self) -> bytes:
        """The LiteRT flatbuffer, which serves it."""
        return self.made.content("litert")

    @property
    def plans(self) -> list[bytes]:
        """All that is sealed of it."""
        return [self.made.content(runtime) for runtime in self.made.plans]


async def demo_model(folder: Path) -> DemoModel:
    """Return the seed network: trained and converted by whichever worker comes first, read by the others.

    Args:
        folder: what all workers of a test session share.
    """
    path = folder / "demo-model.json"
    with (folder / "demo-model.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            seed = await train_seed()
            made = await converted("keras", seed.archive)
            path.write_text(json.dumps({"seed": asdict(seed), "made": asdict(made)}, default=_text))
    return _read(path)


async def uploaded_model(
    world: World, slug: str, name: str, demo: DemoModel, *, version: int = 1, is_converted_anew: bool = False
) -> ModelVersion:
    """Upload the seed network as its tenant's owner; stage `staged`.

    Args:
        world: the gateway.
        slug: the tenant.
        name: the model's name.
        demo: what is uploaded.
        version: its number.
        is_converted_anew: whether the real converter runs (about 6 s) instead of answering what it answered before.
    """
    owner = await world.principal(world.owners[slug])
    upload = world.gateway.upload if is_converted_anew else _with_converter(world, demo.made)
    archive = demo.seed.archive
    incoming = Incoming(format="keras", digest=None, declared_bytes=len(archive), chunks=pieces(archive))
    staged, _ = await upload.upload(owner, ModelRef(name, version), incoming)
    return staged


async def quarantined_model(world: World, slug: str, name: str, demo: DemoModel, *, version: int = 1) -> ModelVersion:
    """Upload, as its tenant's owner, the seed network with a layer that does nothing: a scanner asks for a person."""
    owner = await world.principal(world.owners[slug])
    archive = with_idle_layer(demo.seed.archive)
    incoming = Incoming(format="keras", digest=None, declared_bytes=len(archive), chunks=pieces(archive))
    found, _ = await _with_converter(world, demo.made).upload(owner, ModelRef(name, version), incoming)
    assert found.stage is Stage.QUARANTINED
    return found


async def refused_by_todays_rules(world: World, slug: str, ref: ModelRef) -> ModelVersion:
    """Have a version be as if rules of once had let in what today's refuse: all of it is sealed and signed as it should be."""
    own = world.gateway.upload
    version = await world.gateway.browse.version(await world.principal(world.owners[slug]), ref)
    place = Place(version.tenant, version.model_id, version.version)
    plan = await own._artifacts.seal(place, ArtifactRole.LITERT, [b"let in by rules of once"])
    artifacts = (*(a for a in version.artifacts if a.role is not ArtifactRole.LITERT), plan)
    said = resealed(await own._artifacts.manifest(version), artifacts)
    new = replace(version, artifacts=artifacts, manifest=await own._statements.sign(KIND, said))
    async with own._acting.database.write(version.tenant) as session:
        assert await store.swap_artifacts(session, version, new)
    return new


async def with_kept_upload(world: World, slug: str, ref: ModelRef, demo: DemoModel) -> ModelVersion:
    """Have a version keep its upload, sealed, as versions did before uploads were rebuilt."""
    own = world.gateway.upload
    version = await world.gateway.browse.version(await world.principal(world.owners[slug]), ref)
    place = Place(version.tenant, version.model_id, version.version)
    kept = await own._artifacts.seal(place, ArtifactRole.SOURCE, [demo.seed.archive])
    artifacts = (*version.artifacts, kept)
    signed = await own._statements.sign(KIND, resealed(await own._artifacts.manifest(version), artifacts))
    async with own._acting.database.write(version.tenant) as session:
        row = {name: getattr(kept, name) for name in ("plain_bytes", "sealed_bytes", "digest")}
        ids = {"id": kept.artifact_id, "model_id": version.model_id, "version": version.version}
        await session.insert(ARTIFACTS, **ids, role=kept.role.value, **row)
        assert await store.sign_again(session, version.model_id, version.version, before=version.manifest, after=signed)
    return replace(version, artifacts=artifacts, manifest=signed)


def with_idle_layer(archive: bytes) -> bytes:
    """Return the seed network as a functional model with one layer more, on which no output depends; it answers the same."""
    whole = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(whole, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = json.dumps(_functional(json.loads(content))).encode()
            target.writestr(zipfile.ZipInfo(name), content)
    return whole.getvalue()


def _functional(sequential: dict[str, Any]) -> dict[str, Any]:
    first, *others = sequential["config"]["layers"]
    idle = {"module": "keras.layers", "class_name": "ReLU", "registered_name": None, "build_config": None}
    idle["config"] = {"name": "idle", "trainable": True, "dtype": "float32"}
    layers = [_linked(first, None), *map(_linked, others, [first, *others]), _linked(idle, first)]
    of = {"input_layers": _place(first), "output_layers": _place(others[-1]), "layers": layers}
    config = {"name": sequential["config"]["name"], "trainable": True, **of}
    return {**sequential, "module": "keras.src.models.functional", "class_name": "Functional", "config": config}


def _linked(layer: dict[str, Any], behind: dict[str, Any] | None) -> dict[str, Any]:
    """Return a layer's config as it stands in a functional model, fed by another layer."""
    nodes = []
    if behind is not None:
        width = 30 if behind["class_name"] in {"InputLayer", "Normalization"} else behind["config"]["units"]
        history = {"shape": [None, width], "dtype": "float32", "keras_history": _place(behind)}
        nodes = [{"args": [{"class_name": "__keras_tensor__", "config": history}], "kwargs": {}}]
    return {**layer, "name": layer["config"]["name"], "inbound_nodes": nodes}


def _place(layer: dict[str, Any]) -> list[Any]:
    return [layer["config"]["name"], 0, 0]


async def published_model(
    world: World, slug: str, name: str, demo: DemoModel, *, version: int = 1, is_converted_anew: bool = False
) -> ModelVersion:
    """Upload and promote the seed network; return once it answers. See `uploaded_model`."""
    await uploaded_model(world, slug, name, demo, version=version, is_converted_anew=is_converted_anew)
    owner = await world.principal(world.owners[slug])
    served = await world.gateway.promote.promote(owner, ModelRef(name, version))
    await world.gateway.reconciler.settle(owner.tenant, name, Deadline.after(SERVED_WITHIN_S))
    return served


def convert_as_before(world: World, demo: DemoModel) -> None:
    """Have uploads over HTTP answer at once, with what the real converter answered before."""
    world.app.state.gateway = replace(world.gateway, upload=_with_converter(world, demo.made))


def _with_converter(world: World, made: WholeConversion) -> Upload:
    """Return the act of uploading with a converter that answers what it answered before."""
    own = world.gateway.upload
    return Upload(
        own._acting,
        own._artifacts,
        own._statements,
        _answering(made),
        spool_folder=own._spool_folder,
        max_bytes=own._max_bytes,
        bounds=own._bounds,
    )


def _answering(made: WholeConversion) -> Converter:
    async def convert(
        form: str, upload: AsyncIterator[bytes], *, size_bytes: int, sink: Sink, sample: bytes = b""
    ) -> Conversion:
        received = sum([len(piece) async for piece in upload])
        assert (form, received) == ("keras", size_bytes)
        await sink(made.payload)
        return made.conversion

    return convert


def _read(path: Path) -> DemoModel:
    found = json.loads(path.read_text())
    seed, made = found["seed"], found["made"]
    seed |= {"archive": base64.b64decode(seed["archive"]), "example": tuple(seed["example"])}
    return DemoModel(
        TrainedSeed(**seed), WholeConversion.from_json(made["conversion"], base64.b64decode(made["payload"]))
    )


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    return base64.b64encode(value).decode()
