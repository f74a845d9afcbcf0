"""Which addresses of identity providers this platform speaks to.

Rules: https only, http on this machine's own loopback alone; a host, and its port where that is not the scheme's
own, must be on the operator's list; one that is listed for some tenants only is no other's to register; no credentials, no fragment, none but plain characters, a host in small
letters, so that two readers of one address cannot differ on where it leads.

Protects against a tenant that has the platform fetch from where only the platform can reach. Does not protect
against what a listed host itself answers with, or against whoever answers for its name: https checks that.

Source: OpenID Connect Discovery 1.0 sections 3, 4.1 and 7.1; RFC 3986 sections 3.2 to 3.4.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from maas_gateway.identifiers import SLUG_PATTERN

MAX_ADDRESS: Final = 2_048
MAX_LISTED: Final = 300
HOST_PATTERN: Final = r"(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::[1-9][0-9]{0,4})?"
"""A host: a name, an IPv4 address or an IPv6 address in brackets, and perhaps a port."""
LISTED_PATTERN: Final = rf"(?:{SLUG_PATTERN}@)?{HOST_PATTERN}"
"""A host as the operator lists it, perhaps for one tenant: `tenant@host`."""

_CHARACTERS: Final = r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*"
_ADDRESS: Final = re.compile(rf"(https?)://({HOST_PATTERN})(?:/{_CHARACTERS})?(?:\?{_CHARACTERS})?", re.ASCII)
_LOOPBACK: Final = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]+)?", re.ASCII)
_OWN_PORT: Final = {"https": ":443", "http": ":80"}


class AllowedHosts:
    """The hosts that the operator has listed.

    Args:
        listed: each `host`, for the scheme's own port, or `host:port`; with `tenant@` before it, for that tenant
            alone, and for others that it is listed for in the same way, also if it stands there without one too.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        tenants: dict[str, set[str]] = {}
        for each in listed:
            slug, _, host = each.rpartition("@")
            tenants.setdefault(host, set()).update({slug} - {""})
        self._tenants: Mapping[str, frozenset[str]] = {host: frozenset(slugs) for host, slugs in tenants.items()}

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self._tenants)

    def has(self, address: str, slug: str | None = None) -> bool:
        """Tell whether `address` may be asked, perhaps for one tenant's issuer."""
        try:
            self.check(address, slug)
        except ValueError:
            return False
        return True

    def is_of_tenants(self, address: str) -> bool:
        """Tell whether an address that may be asked is listed for some tenants only, who may all register it then."""
        return bool(self._listed(address)[1])

    def check(self, address: str, slug: str | None = None) -> None:
        """Return only if `address` may be asked.

        Args:
            address: of an issuer, or of what it says where its keys are.
            slug: the tenant whose issuer it is; None where that is asked elsewhere.

        Raises:
            ValueError: it is malformed, not https, or its host is not listed, or not for that tenant.
        """
        host, slugs = self._listed(address)
        if slug is not None and slugs and slug not in slugs:
            raise ValueError(_not_listed(host))

    def _listed(self, address: str) -> tuple[str, frozenset[str]]:
        """Return an address's host, and the tenants for which it is listed; none of them means all."""
        shape = _ADDRESS.fullmatch(address) if len(address) <= MAX_ADDRESS else None
        if shape is None:
            raise ValueError("an address such as https://login.example.org, with a host in small letters")
        scheme, host = shape.groups()
        if scheme == "http" and not _LOOPBACK.fullmatch(host):
            raise ValueError("https only; http is for an identity provider on the gateway's own machine")
        own_port = _OWN_PORT[scheme]
        has_port = ":" in host.rpartition("]")[2]
        spellings = (host, host.removesuffix(own_port) if has_port else host + own_port)
        found = [self._tenants[spelling] for spelling in spellings if spelling in self._tenants]
        if not found:
            raise ValueError(_not_listed(host))
        return host, frozenset().union(*found)


def _not_listed(host: str) -> str:
    return (
        f"the host {host} is not one that this platform asks for this tenant's keys; its operator lists those that "
        "are, and whose they are, in MAAS_OIDC__ALLOWED_HOSTS"
    )
