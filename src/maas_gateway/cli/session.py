"""What `login` keeps: the gateway's address and a refresh token, in a file that nobody else may read.

Rules: a refresh token is spent by its use, so commands that run at once take turns and each keeps what it got before
it goes on; a password is never kept.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import typer

from maas_gateway.client.failure import GatewayRefused
from maas_gateway.client.gateway import GatewayClient

_EARLY_S: Final = 30


def session_file() -> Path:
    """Return where the session is kept."""
    return Path(typer.get_app_dir("maas-gateway")) / "session.json"


def keep(url: str, answer: dict[str, Any]) -> None:
    """Keep what `POST /oauth/token` answered."""
    path = session_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = {
        "url": url,
        "access_token": answer["access_token"],
        "expires_at": time.time() + answer["expires_in"],  # noqa: TID251  compared with this machine's clock only
        "refresh_token": answer["refresh_token"],
    }
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file)
    fresh.replace(path)


def known_url() -> str | None:
    """Return the gateway that someone is signed in at, or None."""
    return None if (kept := _kept()) is None else str(kept["url"])


def client() -> GatewayClient:
    """Return a client of the gateway that someone is signed in at, as that one.

    Raises:
        GatewayRefused: nobody is signed in, or the sign-in has ended.
    """
    with _alone():
        kept = _kept()
        if kept is None:
            raise GatewayRefused(401, "nobody is signed in; run: maas-gateway login --url URL USERNAME")
        url = str(kept["url"])
        if kept["expires_at"] - _EARLY_S > time.time():  # noqa: TID251  see above
            return GatewayClient(url, {"token": str(kept["access_token"])})
        form = {"grant_type": "refresh_token", "refresh_token": str(kept["refresh_token"])}
        with GatewayClient(url, form) as old:
            try:
                answer = old.sign_in()
            except GatewayRefused as refused:
                if refused.status in {400, 401}:
                    raise GatewayRefused(401, "the sign-in has ended; run: maas-gateway login") from refused
                raise
        keep(url, answer)
        return GatewayClient(url, {"token": str(answer["access_token"])})


def end() -> bool:
    """End the sign-in at the gateway and forget it; return whether there was one.

    Raises:
        GatewayRefused: the gateway does not answer; the sign-in is kept.
    """
    kept = _kept()
    if kept is None:
        return False
    try:
        with client() as signed_in:
            signed_in.revoke(str((_kept() or kept)["refresh_token"]))
    except GatewayRefused as refused:
        if refused.status != 401:  # noqa: PLR2004  it has ended already
            raise
    session_file().unlink(missing_ok=True)
    return True


def _kept() -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(session_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if {"url", "access_token", "expires_at", "refresh_token"} <= found.keys() else None


@contextmanager
def _alone() -> Iterator[None]:
    path = session_file().with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
