"""`demo`: a whole gateway on one machine, made once and taken up where a killed start stopped.

Rules: each step finds out whether it is done; secrets are in `first-run.json` (mode 0600) before an
account has them; nothing secret is printed.
"""

import asyncio
import json
import shlex
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from maas_gateway.auth.client_secrets import new_client_id, new_password, new_secret
from maas_gateway.cli.configuration import configured
from maas_gateway.cli.initialise import OPERATOR, write_private
from maas_gateway.cli.serve import refuse_taken_port, serve_prepared
from maas_gateway.clock import Deadline
from maas_gateway.confinement.limits import harden_process
from maas_gateway.controlplane.arriving import Incoming
from maas_gateway.errors import Misconfigured, ModelNotFound
from maas_gateway.gateway import Gateway, open_gateway
from maas_gateway.identifiers import ModelRef
from maas_gateway.place import prepare
from maas_gateway.principal import Principal
from maas_gateway.registry.model import Stage
from maas_gateway.settings import Settings
from maas_gateway.telemetry import logs
from maas_gateway.training.seed import EpochDone, TrainedSeed, train_seed

TENANT: Final = "demo"
MODEL: Final = "breast-cancer"
LABEL: Final = "stable"
VERSION: Final = 1

_READY_S: Final = 60.0


def run_demo(config: Path | None, options: Mapping[str, Any]) -> None:
    """Make the demo gateway if need be, and serve it.

    Raises:
        Misconfigured: the configuration is one for production, or wrong.
    """
    settings = configured(config, options)
    if settings.environment == "production":
        raise Misconfigured("demo makes accounts with generated secrets; in production use init and serve")
    harden_process()
    logs.configure(form=settings.logs.form, level="warning")
    refuse_taken_port(settings)
    console = Console()
    asyncio.run(_first_start(settings, console))
    announcer = threading.Thread(target=_announce, args=(settings, console), daemon=True)
    announcer.start()
    serve_prepared(config, settings)


async def _first_start(settings: Settings, console: Console) -> None:
    began_s = time.monotonic()
    await prepare(settings, makes_root_key=True)
    path = settings.data_dir / "first-run.json"
    record = _written_down(path, settings)
    async with open_gateway(settings) as gateway:
        made = await _accounts(gateway, record)
        console.print(f"Accounts: {'made' if made else 'found'}; credentials in {path}")
        await _model(gateway, record, path, console)
    console.print(f"Ready to serve after {time.monotonic() - began_s:.0f} s.")


def _written_down(path: Path, settings: Settings) -> dict[str, Any]:
    """Return the record of the first start, written before anything in it is used."""
    if path.exists():
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    else:
        record = {
            "operator": {"username": f"{OPERATOR}@platform", "password": new_password()},
            "tenant": TENANT,
            "owner": {"username": f"owner@{TENANT}", "password": new_password()},
            "publisher": {"client_id": new_client_id(), "client_secret": new_secret()},
            "invoker": {"client_id": new_client_id(), "client_secret": new_secret()},
            "model": MODEL,
        }
    where = {"base_url": settings.base_url}
    if settings.grpc.is_enabled:
        where["grpc"] = f"{settings.grpc_host}:{settings.grpc_port}"
    if {name: record.get(name) for name in ("base_url", "grpc") if name in record} != where:
        record = {**where, **{name: value for name, value in record.items() if name not in {"base_url", "grpc"}}}
        write_private(path, record)
    return record


async def _accounts(gateway: Gateway, record: Mapping[str, Any]) -> bool:
    provision = gateway.provision
    made = [
        await provision.operator(OPERATOR, record["operator"]["password"]),
        await provision.tenant(TENANT, "owner", record["owner"]["password"]),
    ]
    for role in ("publisher", "invoker"):
        account = record[role]
        made.append(
            await provision.service_account(
                TENANT, role, client_id=account["client_id"], secret=account["client_secret"]
            )
        )
    return any(made)


async def _model(gateway: Gateway, record: dict[str, Any], path: Path, console: Console) -> None:
    account = record["publisher"]
    issued = await gateway.sign_in.by_secret(account["client_id"], account["client_secret"], address="")
    publisher = issued.principal
    ref = ModelRef(MODEL, VERSION)
    try:
        version = await gateway.browse.version(publisher, ref)
        console.print(f"Model: found '{MODEL}' version {VERSION}, sealed")
    except ModelNotFound:
        seed = await _trained(console)
        if "example" not in record:
            record["example"] = {"instances": [list(seed.example)]}
            write_private(path, record)
        version, _ = await gateway.upload.upload(publisher, ref, _incoming(seed))
        console.print(f"Model: pushed '{MODEL}' version {VERSION}, converted, compared and sealed")
    if version.stage is not Stage.SERVING:
        await gateway.promote.promote(publisher, ref)
        console.print(f"Model: promoted version {VERSION}")
    await _labelled(gateway, publisher, console)
    await gateway.reconciler.settle(publisher.tenant, MODEL, Deadline.after(_READY_S))


async def _labelled(gateway: Gateway, publisher: Principal, console: Console) -> None:
    model = await gateway.browse.model(publisher, MODEL)
    if LABEL not in model.labels:
        await gateway.promote.label(publisher, ModelRef(MODEL, None, LABEL), VERSION)
        console.print(f"Model: labelled version {VERSION} '{LABEL}'")


async def _trained(console: Console) -> TrainedSeed:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Training, in a process of its own", total=10)

        def tell(done: EpochDone) -> None:
            progress.update(task, completed=done.epoch, total=done.of)

        seed = await train_seed(tell)
    console.print(f"Trained on scikit-learn's WDBC data: held-out accuracy {seed.accuracy:.1%}")
    return seed


def _incoming(seed: TrainedSeed) -> Incoming:
    async def chunks() -> AsyncIterator[bytes]:
        yield seed.archive

    return Incoming(format="keras", digest=None, declared_bytes=len(seed.archive), chunks=chunks())


def _announce(settings: Settings, console: Console) -> None:
    """Say where to go, once the gateway answers."""
    address, verify = settings.local_url, _trusting_itself(settings)
    deadline_s = time.monotonic() + _READY_S
    while time.monotonic() < deadline_s:
        try:
            if httpx.get(f"{address}/v2/health/ready", timeout=1, verify=verify).is_success:
                break
        except httpx.HTTPError:
            time.sleep(0.1)
    else:
        return
    record = json.loads((settings.data_dir / "first-run.json").read_text(encoding="utf-8"))
    program = shlex.quote(str(Path(sys.argv[0]).resolve()))
    folder = shlex.quote(str(settings.data_dir.resolve()))
    token = f"$({program} tokens issue --as invoker --data-dir {folder})"
    body = json.dumps(record["example"], separators=(",", ":"))
    console.print(f"\nDocumentation: {address}/docs")
    if "grpc" in record:
        console.print(f"gRPC: {record['grpc']}")
    console.print("Ask the model, from another terminal:\n")
    print(  # noqa: T201  a line to be pasted: no wrapping, no markup
        f"curl -s {address}/v1/models/{MODEL}:predict -H \"Authorization: Bearer {token}\" -d '{body}'\n", flush=True
    )


def _trusting_itself(settings: Settings) -> ssl.SSLContext | bool:
    """Return how this program checks its own port's certificate: against that itself, by whatever name it has."""
    if settings.tls.certificate_file is None:
        return True
    context = ssl.create_default_context(cafile=settings.tls.certificate_file)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
