"""What takes long, followed with a progress bar: an act until it ends, an upload until it is answered."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TransferSpeedColumn,
)

from maas_gateway.client.gateway import GatewayClient

_ASK_EVERY_S: Final = 0.5


def follow(gateway: GatewayClient, operation: dict[str, Any], what: str, *, as_json: bool) -> dict[str, Any]:
    """Return an operation once it has ended; show how far it is meanwhile.

    Args:
        gateway: where it runs.
        operation: as the gateway answered it.
        what: said before the bar.
        as_json: whether no bar is wanted.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, disable=as_json) as bar:
        task = bar.add_task(what, total=operation["total"])
        while operation["state"] == "running":
            bar.update(task, completed=operation["done"], total=operation["total"])
            time.sleep(_ASK_EVERY_S)
            operation = gateway.operation(operation["id"])
        bar.update(task, completed=operation["done"], total=operation["total"])
    return operation


@contextmanager
def sending(name: str, n_bytes: int, *, is_silent: bool) -> Iterator[Callable[[int], None]]:
    """Show how far an upload is; yields what is told of each piece's bytes.

    Args:
        name: what is sent.
        n_bytes: how much it is.
        is_silent: whether no bar is wanted.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, disable=is_silent) as bar:
        task = bar.add_task(f"Pushing {name}", total=n_bytes)

        def tell(n_sent: int) -> None:
            bar.advance(task, n_sent)
            if bar.finished:
                bar.update(task, description="Scanning, converting, sealing")

        yield tell
