"""Which addresses of identity providers this platform speaks to.

Rules: https only, http on this machine's own loopback alone; a host, and its port where that is not the scheme's
own, must be on the operator's list; no credentials, no fragment, none but plain characters, a host in small
letters, so that two readers of one address cannot differ on where it leads.

Protects against a tenant that has the platform fetch from where only the platform can reach. Does not protect
against what a listed host itself answers with, or against whoever answers for its name: https checks that.

Source: OpenID Connect Discovery 1.0 sections 3, 4.1 and 7.1; RFC 3986 sections 3.2 to 3.4.
"""

import re
from collections.abc import Iterable
from typing import Final

MAX_ADDRESS: Final = 2_048
MAX_HOST: Final = 259
HOST_PATTERN: Final = r"(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::[1-9][0-9]{0,4})?"
"""A host as the operator lists it: a name, an IPv4 address or an IPv6 address in brackets, and perhaps a port."""

_CHARACTERS: Final = r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*"
_ADDRESS: Final = re.compile(rf"(https?)://({HOST_PATTERN})(?:/{_CHARACTERS})?(?:\?{_CHARACTERS})?", re.ASCII)
_LOOPBACK: Final = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]+)?", re.ASCII)
_OWN_PORT: Final = {"https": ":443", "http": ":80"}


class AllowedHosts:
    """The hosts that the operator has listed.

    Args:
        hosts: each `host`, for the scheme's own port, or `host:port`.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset(hosts)

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self._hosts)

    def has(self, address: str) -> bool:
        """Tell whether `address` may be asked."""
        try:
            self.check(address)
        except ValueError:
            return False
        return True

    def check(self, address: str) -> None:
        """Return only if `address` may be asked.

        Raises:
            ValueError: it is malformed, not https, or its host is not listed.
        """
        shape = _ADDRESS.fullmatch(address) if len(address) <= MAX_ADDRESS else None
        if shape is None:
            raise ValueError("an address such as https://login.example.org, with a host in small letters")
        scheme, host = shape.groups()
        if scheme == "http" and not _LOOPBACK.fullmatch(host):
            raise ValueError("https only; http is for an identity provider on the gateway's own machine")
        own_port = _OWN_PORT[scheme]
        has_port = ":" in host.rpartition("]")[2]
        if not {host, host.removesuffix(own_port) if has_port else host + own_port} & self._hosts:
            raise ValueError(
                f"the host {host} is not one that this platform asks for keys; its operator lists those that are "
                "in MAAS_OIDC__ALLOWED_HOSTS"
            )
