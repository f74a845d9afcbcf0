"""Which root-key holders the configuration names, each behind a deadline and a circuit breaker."""

from collections.abc import Callable, Mapping
from pathlib import Path

from maas_gateway.clock import Clock
from maas_gateway.errors import Misconfigured
from maas_gateway.keyring.breaker import GuardedHolder
from maas_gateway.keyring.file import FileHolder
from maas_gateway.keyring.holder import RootKeyHolder
from maas_gateway.keyring.kms import KMSHolder
from maas_gateway.keyring.passphrase import PassphraseHolder
from maas_gateway.keyring.pkcs11 import PKCS11Holder
from maas_gateway.keyring.transit import TransitHolder
from maas_gateway.settings import Settings


def configured_holders(settings: Settings, clock: Clock) -> Mapping[str, RootKeyHolder]:
    """Return every configured holder by its kind; the one that makes new root keys is among them.

    Raises:
        Misconfigured: a holder's file is missing, unreadable, or readable by others.
    """
    deadline_s = settings.keys.deadline_s
    found = [GuardedHolder(holder, clock, deadline_s=deadline_s) for holder in _holders(settings, clock)]
    return {holder.kind: holder for holder in found}


def root_key(settings: Settings) -> str:
    """Return where new root keys are made, and what that asks of an operator, as the end of a sentence."""
    if settings.keys.holder == FileHolder.kind:
        return f"in {settings.root_file}; keep a copy of it apart from every backup"
    if settings.keys.holder == PassphraseHolder.kind:
        return f"under the passphrase in {settings.keys.passphrase_file}; without that passphrase nothing here opens"
    return f"with its holder, {settings.keys.holder}; without that holder nothing here opens"


def _holders(settings: Settings, clock: Clock) -> list[RootKeyHolder]:
    keys = settings.keys
    holders: list[RootKeyHolder] = []
    if keys.holder == "file" or settings.root_file.exists():
        if not settings.root_file.exists():
            raise Misconfigured(f"there is no root key at {settings.root_file}; run: maas-gateway init")
        holders.append(FileHolder(settings.root_file, clock))
    if keys.passphrase_file is not None:
        holders.append(PassphraseHolder(keys.passphrase_file))
    if keys.holder == "kms" or settings.kms.region or settings.kms.endpoint_url or settings.kms.key:
        address = None if settings.kms.endpoint_url is None else str(settings.kms.endpoint_url)
        holders.append(
            KMSHolder(
                region=settings.kms.region, endpoint_url=address, key=settings.kms.key, deadline_s=keys.deadline_s
            )
        )
    transit = settings.transit
    if transit.url is not None and transit.token_file is not None:
        holders.append(
            TransitHolder(
                url=str(transit.url),
                mount=transit.mount,
                key=transit.key,
                token=_read_anew(transit.token_file),
                deadline_s=keys.deadline_s,
                ca_file=transit.ca_file,
                namespace=transit.namespace,
            )
        )
    module = settings.pkcs11
    if module.library is not None and module.pin_file is not None:
        holders.append(
            PKCS11Holder(
                module.library,
                token=module.token,
                pin=_read_anew(module.pin_file),
                deadline_s=keys.deadline_s,
            )
        )
    return holders


def _read_anew(path: Path) -> Callable[[], str]:
    return lambda: path.read_text(encoding="utf-8").strip()
