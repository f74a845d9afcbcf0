"""Which root-key holders the configuration names."""

from collections.abc import Mapping

from maas_gateway.clock import Clock
from maas_gateway.errors import Misconfigured
from maas_gateway.keyring.file import FileHolder
from maas_gateway.keyring.holder import RootKeyHolder
from maas_gateway.settings import Settings


def configured_holders(settings: Settings, clock: Clock) -> Mapping[str, RootKeyHolder]:
    """Return every configured holder by its kind; the one that makes new root keys is among them.

    Raises:
        Misconfigured: a holder's file is missing, unreadable, or readable by others.
    """
    if not settings.root_file.exists():
        raise Misconfigured(f"there is no root key at {settings.root_file}; run: maas-gateway init")
    return {FileHolder.kind: FileHolder(settings.root_file, clock)}
