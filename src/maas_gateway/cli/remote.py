"""Which gateway a command speaks to, and as whom."""

import json
from pathlib import Path

from maas_gateway.cli import session
from maas_gateway.cli.remote_options import HERE
from maas_gateway.client.failure import GatewayRefused
from maas_gateway.client.gateway import GatewayClient


def connect(url: str | None, token: str | None, folder: Path, *, role: str | None, default: str) -> GatewayClient:
    """Return a client of the gateway that the options name: by a token, else as who is signed in, else by `first-run.json`.

    Args:
        url: the gateway's address.
        token: an access token or API key.
        folder: where `first-run.json` lies.
        role: whose credential of that file; anything but None passes over who is signed in.
        default: whose, where nothing is said.

    Raises:
        GatewayRefused: nothing says enough.
    """
    if url is not None and token is not None:
        return GatewayClient(url, {"token": token})
    kept_url = session.known_url() if role is None and token is None and folder == HERE else None
    if kept_url is not None and url in {None, kept_url}:
        return session.client()
    role = role or default
    path = folder / "first-run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise GatewayRefused(
            0,
            f"sign in with `maas-gateway login`, give --url and --token, or the folder of first-run.json by --data-dir ({path} cannot be read)",
        ) from cause
    if token is not None:
        return GatewayClient(url or record["base_url"], {"token": token})
    if role not in {"operator", "owner", "publisher", "invoker"}:
        raise GatewayRefused(0, f"--as {role}: operator, owner, publisher or invoker")
    grant = "password" if role in {"operator", "owner"} else "client_credentials"
    return GatewayClient(url or record["base_url"], {"grant_type": grant, **record[role]})
