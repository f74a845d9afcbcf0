"""A gateway's place for the benchmark: the seed network, trained, sealed and promoted, and a caller.

The `.keras` archive is kept for the peer; it is the benchmark's own data and lies in its folder.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maas_gateway.auth.client_secrets import new_client_id, new_password, new_secret
from maas_gateway.controlplane.upload import Incoming
from maas_gateway.gateway import Gateway, open_gateway
from maas_gateway.identifiers import ModelRef
from maas_gateway.place import prepare
from maas_gateway.settings import load_settings
from maas_gateway.telemetry import logs
from maas_gateway.training.seed import TrainedSeed, train_seed

TENANT: Final = "bench"
MODEL: Final = "breast-cancer"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Place:
    """What the parts that serve need.

    Attributes:
        data_dir: of a gateway that serves `MODEL`.
        client_id: of an invoker.
        client_secret: the same.
        archive: the `.keras` file of the same model.
        example: one row of 30 numbers.
        expected: the model's answer to it.
    """

    data_dir: Path
    client_id: str
    client_secret: str
    archive: Path
    example: tuple[float, ...]
    expected: float


def made_place(folder: Path) -> Place:
    """Train, seal and promote; about 20 s."""
    folder.mkdir()
    logs.configure(form="console", level="error")
    seed = asyncio.run(train_seed())
    archive = folder / "seed.keras"
    archive.write_bytes(seed.archive)
    data_dir = folder / "gateway"
    client_id, secret = asyncio.run(_served(data_dir, seed))
    return Place(data_dir, client_id, secret, archive, seed.example, seed.expected)


async def _served(data_dir: Path, seed: TrainedSeed) -> tuple[str, str]:
    settings = load_settings(over={"data_dir": data_dir})
    await prepare(settings, makes_root_key=True)
    async with open_gateway(settings) as gateway:
        await gateway.provision.tenant(TENANT, "owner", new_password())
        publisher = await _account(gateway, "publisher")
        invoker = await _account(gateway, "invoker")
        signed_in = await gateway.sign_in.by_secret(*publisher)
        ref = ModelRef(MODEL, VERSION)
        await gateway.upload.upload(signed_in.principal, ref, _incoming(seed.archive))
        await gateway.promote.promote(signed_in.principal, ref)
    return invoker


async def _account(gateway: Gateway, role: str) -> tuple[str, str]:
    client_id, secret = new_client_id(), new_secret()
    await gateway.provision.service_account(TENANT, role, client_id=client_id, secret=secret)
    return client_id, secret


def _incoming(archive: bytes) -> Incoming:
    async def chunks() -> AsyncIterator[bytes]:
        yield archive

    return Incoming(format="keras", digest=None, declared_bytes=len(archive), chunks=chunks())
