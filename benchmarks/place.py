"""A gateway's place for the benchmark: the seed network, trained, sealed and promoted, and its callers.

The `.keras` archive is kept for the peer; it is the benchmark's own data and lies in its folder.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maas_gateway.auth.client_secrets import new_client_id, new_password, new_secret
from maas_gateway.controlplane.upload import Incoming
from maas_gateway.gateway import Gateway, open_gateway
from maas_gateway.identifiers import ModelRef, TenantId
from maas_gateway.place import prepare
from maas_gateway.quotas.quota import Quota
from maas_gateway.settings import load_settings
from maas_gateway.telemetry import logs
from maas_gateway.training.seed import TrainedSeed, train_seed

TENANT: Final = "bench"
GUEST: Final = "guest"
MODEL: Final = "breast-cancer"
VERSION: Final = 1
OPERATOR: Final = "operator"


@dataclass(frozen=True, slots=True)
class Place:
    """What the parts that serve need.

    Attributes:
        data_dir: of a gateway that serves `MODEL`.
        client_id: of an invoker.
        client_secret: the same.
        guest: the id and secret of an invoker of another tenant, which the model is shared with.
        tenant: whose the model is.
        custodian: what a key custodian of it signs in with, as `POST /oauth/token` takes it.
        operator: the same of the platform's operator.
        archive: the `.keras` file of the same model.
        example: one row of 30 numbers.
        expected: the model's answer to it.
    """

    data_dir: Path
    client_id: str
    client_secret: str
    guest: tuple[str, str]
    tenant: TenantId
    custodian: Mapping[str, str]
    operator: Mapping[str, str]
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
    return asyncio.run(_served(folder / "gateway", archive, seed))


async def _served(data_dir: Path, archive: Path, seed: TrainedSeed) -> Place:
    settings = load_settings(over={"data_dir": data_dir})
    await prepare(settings, makes_root_key=True)
    password = new_password()
    async with open_gateway(settings) as gateway:
        await gateway.provision.operator(OPERATOR, password)
        owner = new_password()
        await gateway.provision.tenant(TENANT, "owner", owner)
        publisher = await _account(gateway, "publisher")
        invoker = await _account(gateway, "invoker")
        custodian = await _account(gateway, "key-custodian")
        signed_in = await gateway.sign_in.by_secret(*publisher, address="")
        ref = ModelRef(MODEL, VERSION)
        await gateway.upload.upload(signed_in.principal, ref, _incoming(seed.archive))
        await gateway.promote.promote(signed_in.principal, ref)
        guest = await _guest(gateway, owner)
    return Place(
        data_dir=data_dir,
        client_id=invoker[0],
        client_secret=invoker[1],
        guest=guest,
        tenant=signed_in.principal.tenant,
        custodian={"grant_type": "client_credentials", "client_id": custodian[0], "client_secret": custodian[1]},
        operator={"grant_type": "password", "username": f"{OPERATOR}@platform", "password": password},
        archive=archive,
        example=seed.example,
        expected=seed.expected,
    )


async def _guest(gateway: Gateway, owner: str) -> tuple[str, str]:
    """Share the model with another tenant; return what an invoker of that one signs in with."""
    await gateway.provision.tenant(GUEST, "owner", new_password())
    invoker = await _account(gateway, "invoker", GUEST)
    consumer = (await gateway.sign_in.by_secret(*invoker, address="")).principal.tenant
    signed_in = await gateway.sign_in.by_password(f"owner@{TENANT}", owner, address="")
    await gateway.shares.add(signed_in.principal, MODEL, consumer, Quota())
    return invoker


async def _account(gateway: Gateway, role: str, tenant: str = TENANT) -> tuple[str, str]:
    client_id, secret = new_client_id(), new_secret()
    await gateway.provision.service_account(tenant, role, client_id=client_id, secret=secret)
    return client_id, secret


def _incoming(archive: bytes) -> Incoming:
    async def chunks() -> AsyncIterator[bytes]:
        yield archive

    return Incoming(format="keras", digest=None, declared_bytes=len(archive), chunks=chunks())
