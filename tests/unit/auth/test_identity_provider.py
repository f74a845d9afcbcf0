"""What a claim is worth by a provider's rules, and which addresses a provider may have."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from maas_gateway.auth.identity_provider import ClaimRule, IdentityProvider
from maas_gateway.auth.provider_address import AllowedHosts
from maas_gateway.identifiers import TenantId

RULES = (
    ClaimRule("ml-team", "invoker"),
    ClaimRule("ml-team", "publisher", "bc"),
    ClaimRule("audit", "auditor"),
    ClaimRule("1", "owner"),
)


def _bound(claim: str, claims: dict[str, Any]) -> list[tuple[str, str | None]]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    tenant = TenantId(uuid.uuid4())
    provider = IdentityProvider(uuid.uuid4(), tenant, "sso", "https://i", "a", claim, RULES, True, now)
    return list(provider.bound(claims))


TEAM = [("invoker", None), ("publisher", "bc")]
CLAIMS: dict[str, tuple[str, dict[str, Any], list[tuple[str, str | None]]]] = {
    "a list": ("groups", {"groups": ["ml-team", "others"]}, TEAM),
    "two values": ("groups", {"groups": ["audit", "ml-team"]}, [*TEAM, ("auditor", None)]),
    "a value said twice": ("groups", {"groups": ["audit", "audit"]}, [("auditor", None)]),
    "a text": ("groups", {"groups": "audit"}, [("auditor", None)]),
    "a text that holds a value": ("groups", {"groups": "audit ml-team"}, []),
    "a value in capitals": ("groups", {"groups": ["AUDIT"]}, []),
    "no claim": ("groups", {}, []),
    "null": ("groups", {"groups": None}, []),
    "a number": ("groups", {"groups": 1}, []),
    "true": ("groups", {"groups": True}, []),
    "a list of numbers": ("groups", {"groups": [1]}, []),
    "a list of lists": ("groups", {"groups": [["audit"]]}, []),
    "an object": ("groups", {"groups": {"audit": "audit"}}, []),
    "an empty list": ("groups", {"groups": []}, []),
    "a dotted path": ("realm_access.roles", {"realm_access": {"roles": ["audit"]}}, [("auditor", None)]),
    "a longer path": ("a.b.c", {"a": {"b": {"c": "audit"}}}, [("auditor", None)]),
    "a path that ends early": ("a.b.c", {"a": {"b": "audit"}}, []),
    "a path through a list": ("a.b", {"a": [{"b": "audit"}]}, []),
    "a name with dots": ("https://x.example/groups", {"https://x.example/groups": ["audit"]}, [("auditor", None)]),
    "a name with dots before a path": ("a.b", {"a.b": ["audit"], "a": {"b": ["ml-team"]}}, [("auditor", None)]),
    "a name with dots that says nothing": ("a.b", {"a.b": None, "a": {"b": ["ml-team"]}}, []),
}


@pytest.mark.parametrize(("claim", "claims", "expected"), CLAIMS.values(), ids=CLAIMS)
def test_a_rule_counts_where_its_value_stands_in_the_claim(claim: str, claims: Any, expected: Any) -> None:
    assert _bound(claim, claims) == expected


HOSTS = ("login.example.org", "sso.example.org:8443", "127.0.0.1:9000", "[::1]:9000", "localhost", "10.0.0.5")
GOOD = [
    "https://login.example.org",
    "https://login.example.org/",
    "https://login.example.org:443/realms/main",
    "https://login.example.org/certs?p=policy",
    "https://sso.example.org:8443/a/b",
    "https://10.0.0.5/keys",
    "http://127.0.0.1:9000",
    "https://127.0.0.1:9000",
    "http://[::1]:9000/x",
    "http://localhost/x",
    "http://localhost:80/x",
]
BAD = [
    "",
    "login.example.org",
    "//login.example.org",
    "http://login.example.org",
    "http://10.0.0.5",
    "https://login.example.org:8443",
    "https://sso.example.org",
    "https://sso.example.org:443",
    "https://127.0.0.1",
    "http://127.0.0.1:9001",
    "http://127.0.0.1:9000.evil.example",
    "https://evil.example",
    "https://login.example.org.evil.example",
    "https://evil.example/login.example.org",
    "https://evil.example?login.example.org",
    "https://evil.example#login.example.org",
    "https://login.example.org@evil.example",
    "https://evil.example\\@login.example.org",
    "https://login.example.org\\.evil.example",
    "https://user:secret@login.example.org",
    "https://login.example.org#x",
    "https://LOGIN.example.org",
    "HTTPS://login.example.org",
    "https://login.example.org.",
    "https://login.example.org:0443",
    "https://login.example.org:",
    "https://login.example.org /",
    " https://login.example.org",
    "https://login.example.org\n",
    "https://login.example.org/\r\nHost: evil.example",
    "https://login.example.org/é",
    "https://lоgin.example.org",  # noqa: RUF001  the Cyrillic letter is the attack
    "https://127.1:9000",
    "https://2130706433:9000",
    "https://0x7f.0.0.1:9000",
    "http://[::ffff:127.0.0.1]:9000",
    "file:///etc/passwd",
    "ftp://login.example.org",
    "https://login.example.org/" + "a" * 2_048,
]


@pytest.mark.parametrize("address", GOOD, ids=repr)
def test_a_listed_host_may_be_asked(address: str) -> None:
    AllowedHosts(HOSTS).check(address)


@pytest.mark.parametrize("address", BAD, ids=lambda address: repr(address[:60]))
def test_nothing_else_may_be_asked(address: str) -> None:
    with pytest.raises(ValueError, match=r"^\S.+"):
        AllowedHosts(HOSTS).check(address)
    assert not AllowedHosts(HOSTS).has(address)


@pytest.mark.parametrize(
    ("listed", "slugs"),
    [
        pytest.param(["login.example.org"], {"acme", "globex", "acm"}, id="for all"),
        pytest.param(["acme@login.example.org"], {"acme"}, id="for one"),
        pytest.param(["acme@login.example.org:443"], {"acme"}, id="for one, with its port"),
        pytest.param(["acme@login.example.org", "globex@login.example.org"], {"acme", "globex"}, id="for two"),
        pytest.param(["acme@login.example.org", "login.example.org"], {"acme"}, id="for one and for all"),
        pytest.param(["acme@login.example.org", "initech@login.example.org:443"], {"acme"}, id="in two spellings"),
        pytest.param(["acme@login.example.com"], set(), id="another host"),
    ],
)
def test_a_host_is_listed_for_all_tenants_or_for_some(listed: list[str], slugs: set[str]) -> None:
    hosts, issuer = AllowedHosts(listed), "https://login.example.org/realm"
    assert {slug for slug in ("acme", "globex", "acm") if hosts.has(issuer, slug)} == slugs
    assert hosts.has(issuer) == bool(slugs), "keys may lie at any listed host"
    if slugs:
        assert hosts.is_of_tenants(issuer) == any("@" in each for each in listed)


@pytest.mark.parametrize("address", GOOD, ids=repr)
def test_no_list_means_that_nobody_is_asked(address: str) -> None:
    assert not AllowedHosts([])
    assert not AllowedHosts([]).has(address)
