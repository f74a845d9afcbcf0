"""Models in a running gateway: the seed network, trained once a test session, served in moments."""

import base64
import fcntl
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from builders.gateways import World
from maas_gateway.clock import Deadline
from maas_gateway.controlplane.upload import Incoming, Upload
from maas_gateway.identifiers import ModelRef
from maas_gateway.inference.conversion.answer import Conversion
from maas_gateway.inference.conversion.convert import convert_keras
from maas_gateway.registry.model import ModelVersion
from maas_gateway.training.seed import TrainedSeed, train_seed

SERVED_WITHIN_S = 30.0


@dataclass(frozen=True)
class DemoModel:
    """The seed network and what became of it.

    Attributes:
        seed: the archive, one example row and the answer expected for it.
        conversion: what the real converter made of the archive.
    """

    seed: TrainedSeed
    conversion: Conversion


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
            conversion = await convert_keras(pieces(seed.archive), size_bytes=len(seed.archive))
            path.write_text(json.dumps({"seed": asdict(seed), "conversion": asdict(conversion)}, default=_text))
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
    upload = world.gateway.upload if is_converted_anew else _with_converter(world, demo.conversion)
    archive = demo.seed.archive
    incoming = Incoming(format="keras", digest=None, declared_bytes=len(archive), chunks=pieces(archive))
    staged, _ = await upload.upload(owner, ModelRef(name, version), incoming)
    return staged


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
    world.app.state.gateway = replace(world.gateway, upload=_with_converter(world, demo.conversion))


async def pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    """Give out bytes piece by piece, as a door does."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


def _with_converter(world: World, conversion: Conversion) -> Upload:
    """Return the act of uploading with a converter that answers what it answered before."""
    own = world.gateway.upload
    return Upload(
        own._acting,
        own._artifacts,
        own._statements,
        _answering(conversion),
        spool_folder=own._spool_folder,
        max_bytes=own._max_bytes,
        bounds=own._bounds,
    )


def _answering(conversion: Conversion) -> Callable[[AsyncIterator[bytes], int], Awaitable[Conversion]]:
    async def convert(archive: AsyncIterator[bytes], size_bytes: int) -> Conversion:
        received = sum([len(piece) async for piece in archive])
        assert received == size_bytes
        return conversion

    return convert


def _read(path: Path) -> DemoModel:
    found = json.loads(path.read_text())
    seed, conversion = found["seed"], found["conversion"]
    seed |= {"archive": base64.b64decode(seed["archive"]), "example": tuple(seed["example"])}
    conversion |= {
        "plan": base64.b64decode(conversion["plan"]),
        "input_order": tuple(conversion["input_order"]),
        "output_order": tuple(conversion["output_order"]),
    }
    return DemoModel(TrainedSeed(**seed), Conversion(**conversion))


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    return base64.b64encode(value).decode()
