"""A long act followed with a progress bar until it ends."""

import time
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

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
