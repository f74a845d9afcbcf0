"""What is remembered of who may do what, and that nothing old outlives a change."""

import asyncio
from pathlib import Path

import pytest

from builders.gateways import joined_gateway, running_gateway
from maas_gateway.auth.standing import Standings
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.identifiers import SubjectId, new_id
from maas_gateway.permissions import Permission
from maas_gateway.policy.roles import ROLES

pytestmark = pytest.mark.anyio


async def test_bindings_add_up(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        principal = await world.principal(await world.service("acme", "auditor", "invoker", publisher="m", invoker="n"))
        assert principal.everywhere == ROLES["auditor"] | ROLES["invoker"]
        assert principal.on_models == {"m": ROLES["publisher"], "n": ROLES["invoker"]}
        assert principal.kind == "service-account"


async def test_token_carries_no_more_than_its_scope_and_no_more_than_the_bindings_of_now(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.principal(await world.tenant("acme"))
        account = await world.service("acme", "auditor", invoker="m")
        wide, narrow = await world.token(account), await world.token(account, "audit:read model:predict")
        authenticator = world.gateway.authenticator
        assert (await authenticator.principal(narrow)).everywhere == {Permission.AUDIT_READ}
        assert (await authenticator.principal(narrow)).on_models == {"m": {Permission.MODEL_PREDICT}}
        credentials = world.gateway.credentials
        for binding in await credentials.bindings(owner):
            if str(binding.subject) == account.subject:
                await credentials.unbind(owner, binding.binding_id)
        await credentials.bind(owner, SubjectId(owner.subject), "publisher", None)
        for token in (wide, narrow):
            principal = await authenticator.principal(token)
            assert principal.everywhere == frozenset()
            assert all(not permits for permits in principal.on_models.values())


async def test_what_was_looked_up_before_a_change_is_not_kept_after_it(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.principal(await world.tenant("acme"))
        account = await world.service("acme", "auditor")
        database = Database(world.settings.main_url, CHANGES)
        standings = Standings(database)
        looking = [asyncio.create_task(standings.of(owner.tenant, SubjectId(owner.subject))) for _ in range(5)]
        await asyncio.sleep(0)
        standings.forget()
        await asyncio.gather(*looking)
        assert not len(standings._kept)
        subject = (await world.principal(account)).subject
        assert await standings.of(owner.tenant, subject) is await standings.of(owner.tenant, subject)
        standings.forget()
        await world.gateway.credentials.enable_service_account(owner, subject, is_enabled=False)
        assert await standings.of(owner.tenant, subject) is None
        await database.close()


async def test_unknown_subject_has_no_standing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.principal(await world.tenant("acme"))
        standings = Standings(database := Database(world.settings.main_url, CHANGES))
        assert await standings.of(owner.tenant, SubjectId(new_id())) is None
        await database.close()


async def test_new_role_counts_in_another_process_for_new_tokens_at_once(tmp_path: Path, database_url: str) -> None:
    async with running_gateway(tmp_path, database_url) as world, joined_gateway(world) as elsewhere:
        owner = await world.principal(await world.tenant("acme"))
        account = await world.service("acme")
        assert (await elsewhere.principal(account)).everywhere == frozenset()
        subject = (await world.principal(account)).subject
        await world.gateway.credentials.bind(owner, subject, "auditor", None)
        for _ in range(50):
            if (await elsewhere.principal(account)).everywhere == ROLES["auditor"]:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("not noticed within a second")
