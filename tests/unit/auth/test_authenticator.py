"""What is remembered of tokens when keyrings change: most changes are not of the keys that verify."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from builders.gateways import World, running_gateway
from maas_gateway.auth.authenticator import Authenticator
from maas_gateway.auth.jwks import JWKSet
from maas_gateway.auth.tokens import Tokens
from maas_gateway.errors import TokenInvalid
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.key import KeyState, Purpose

pytestmark = pytest.mark.anyio


class UnreachableJWKSet(JWKSet):
    """A JWK Set that never tells which keys may verify now."""

    async def key_ids(self) -> frozenset[str]:
        await asyncio.Event().wait()
        raise AssertionError


@asynccontextmanager
async def _calm(folder: Path) -> AsyncIterator[tuple[World, Authenticator, str]]:
    """Open a gateway that has verified a token and has no doubts left."""
    async with running_gateway(folder) as world:
        account = await world.tenant("acme")
        token, authenticator = await world.token(account), world.gateway.authenticator
        authenticator._in_doubt_s = 30  # however loaded the machine is
        await world.gateway.reconciler._changes.look()  # later, the new tenant would be news and all be forgotten
        await _settled(authenticator)
        await authenticator.principal(token)
        yield world, authenticator, token


async def _settled(authenticator: Authenticator) -> None:
    authenticator.doubt_keys()
    async with asyncio.timeout(40):
        while authenticator._n_doubts:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.01)


async def test_a_change_of_another_ring_leaves_verified_tokens_alone(tmp_path: Path) -> None:
    async with _calm(tmp_path) as (world, authenticator, token):
        known = authenticator._known.get(token)
        assert known is not None
        await world.gateway.erase._stores.keyring.add_version(await world.tenant_id("acme"), Purpose.ARTIFACTS)
        await _settled(authenticator)
        assert authenticator._known.get(token) is known


async def test_a_token_whose_key_was_retired_is_refused_once_the_doubt_is_settled(tmp_path: Path) -> None:
    async with _calm(tmp_path) as (world, authenticator, token):
        keyring = world.gateway.erase._stores.keyring
        number = await keyring.add_version(PLATFORM, Purpose.TOKEN_SIGNING)
        await keyring.move(PLATFORM, Purpose.TOKEN_SIGNING, number, state=KeyState.PRIMARY)
        await keyring.move(PLATFORM, Purpose.TOKEN_SIGNING, 1, state=KeyState.DISABLED)
        await _settled(authenticator)
        with pytest.raises(TokenInvalid):
            await authenticator.principal(token)


async def test_every_token_is_verified_anew_when_the_keys_cannot_be_asked_for(tmp_path: Path) -> None:
    async with _calm(tmp_path) as (world, authenticator, token):
        tokens = authenticator._tokens
        jwks = UnreachableJWKSet(world.gateway.erase._stores.keyring, authenticator._clock)
        authenticator._in_doubt_s = 0.1
        authenticator._tokens = Tokens(world.gateway.erase._stores.keyring, jwks, tokens.rules, authenticator._clock)
        await _settled(authenticator)
        assert authenticator._known.get(token) is None
