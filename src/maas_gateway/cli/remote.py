"""Which gateway a command speaks to, and as whom."""

import json
from pathlib import Path

from maas_gateway.client.failure import GatewayRefused
from maas_gateway.client.gateway import GatewayClient


def connect(url: str | None, token: str | None, folder: Path, *, role: str) -> GatewayClient:
    """Return a client of the gateway that the options name.

    Raises:
        GatewayRefused: neither options nor `first-run.json` say enough.
    """
    if url is not None and token is not None:
        return GatewayClient(url, {"token": token})
    path = folder / "first-run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise GatewayRefused(
            0, f"give --url and --token, or the folder of first-run.json by --data-dir ({path} cannot be read)"
        ) from cause
    if token is not None:
        return GatewayClient(url or record["base_url"], {"token": token})
    if role not in {"operator", "owner", "publisher", "invoker"}:
        raise GatewayRefused(0, f"--as {role}: operator, owner, publisher or invoker")
    grant = "password" if role in {"operator", "owner"} else "client_credentials"
    return GatewayClient(url or record["base_url"], {"grant_type": grant, **record[role]})
