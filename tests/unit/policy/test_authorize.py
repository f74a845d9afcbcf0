"""Decisions from values alone: every role, every permission, every place; and nothing beyond the bindings."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.errors import ModelNotFound, NotFound, PermissionDenied
from maas_gateway.identifiers import PLATFORM, ModelRef, SubjectId, TenantId
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_model, authorize_thing, is_permitted
from maas_gateway.policy.roles import ROLES, may_be_bound
from maas_gateway.principal import Principal

OWN, OTHER = TenantId(uuid.uuid4()), TenantId(uuid.uuid4())
ABSENT = NotFound("thing 'x' not found")

# By role, from api.md section 1: what it says, spelt out.
_MODEL = {"model:read", "model:write", "model:promote", "model:predict", "model:erase"}
_TENANTS_OWN = {
    "tenant:read",
    "tenant:erase",
    *(
        f"{thing}:{verb}"
        for thing in ("user", "service-account", "api-key", "binding", "share")
        for verb in ("read", "write")
    ),
    *_MODEL,
    "policy:read",
    "policy:write",
    "keyring:read",
    "keyring:rotate",
    "keyring:retire",
    "keyring:destroy",
    "operation:read",
    "operation:cancel",
    "usage:read",
    "audit:read",
    "audit:export",
}
EXPECTED = {
    "operator": {
        "tenant:read",
        "tenant:write",
        "tenant:suspend",
        "tenant:erase",
        "keyring:read",
        "keyring:rotate",
        "keyring:retire",
        "keyring:destroy",
        "operation:read",
        "operation:cancel",
        "audit:read",
        "audit:export",
    },
    "owner": _TENANTS_OWN,
    "publisher": {"model:read", "model:write", "model:promote", "model:predict"},
    "invoker": {"model:read", "model:predict"},
    "auditor": {"audit:read", "model:read"},
    "key-custodian": {"keyring:read", "keyring:rotate", "keyring:retire", "operation:read"},
}
MATRIX = [
    pytest.param(role, permission, permission.value in permits, id=f"{role} {permission}")
    for role, permits in EXPECTED.items()
    for permission in Permission
]
MODEL_PERMISSIONS = [permission for permission in Permission if permission.resource == "model"]


def principal(
    everywhere: frozenset[Permission] = frozenset(), on_models: dict[str, frozenset[Permission]] | None = None
) -> Principal:
    return Principal(OWN, SubjectId(uuid.uuid4()), "user", "ada@acme", everywhere, on_models or {})


def test_table_names_every_role() -> None:
    assert set(EXPECTED) == set(ROLES)


@pytest.mark.parametrize(("role", "permission", "is_allowed"), MATRIX)
def test_role_permits_an_act_that_names_no_thing(*, role: str, permission: Permission, is_allowed: bool) -> None:
    who = principal(ROLES[role])
    if is_allowed:
        authorize(who, permission)
    else:
        with pytest.raises(PermissionDenied):
            authorize(who, permission)


@pytest.mark.parametrize(("role", "permission", "is_allowed"), MATRIX)
def test_role_permits_an_act_on_a_thing_of_ones_own(*, role: str, permission: Permission, is_allowed: bool) -> None:
    who = principal(ROLES[role])
    may_read = f"{permission.resource}:read" in EXPECTED[role]
    if is_allowed:
        authorize_thing(who, permission, OWN, absent=ABSENT)
    else:
        with pytest.raises(PermissionDenied if may_read else NotFound):
            authorize_thing(who, permission, OWN, absent=ABSENT)


@pytest.mark.parametrize(("role", "permission", "is_allowed"), MATRIX)
def test_no_role_reaches_another_tenants_thing(*, role: str, permission: Permission, is_allowed: bool) -> None:
    with pytest.raises(NotFound) as caught:
        authorize_thing(principal(ROLES[role]), permission, OTHER, absent=ABSENT)
    assert caught.value is ABSENT


@pytest.mark.parametrize("permission", MODEL_PERMISSIONS)
@pytest.mark.parametrize("role", EXPECTED)
@pytest.mark.parametrize("place", ["the tenant", "the model", "another model"])
def test_role_permits_an_act_on_a_model(place: str, role: str, permission: Permission) -> None:
    bound = {"the tenant": principal(ROLES[role]), "the model": principal(on_models={"m": ROLES[role]})}
    who = bound.get(place, principal(on_models={"n": ROLES[role]}))
    permits = EXPECTED[role] if place != "another model" else set()
    for ref in (ModelRef("m"), ModelRef("m", 3), ModelRef("m", None, "stable")):
        if permission.value in permits and "model:read" in permits:
            authorize_model(who, permission, ref)
        else:
            with pytest.raises(PermissionDenied if "model:read" in permits else ModelNotFound):
                authorize_model(who, permission, ref)


def test_unreadable_model_is_refused_with_the_text_of_an_absent_one() -> None:
    with pytest.raises(ModelNotFound) as caught:
        authorize_model(principal(), Permission.MODEL_PREDICT, ModelRef("m", 3))
    assert caught.value.detail == "model 'm/versions/3' not found"


def test_role_on_one_model_gives_nothing_on_the_tenant() -> None:
    with pytest.raises(PermissionDenied):
        authorize(principal(on_models={"m": frozenset(Permission)}), Permission.MODEL_READ)


@pytest.mark.parametrize("role", EXPECTED)
@pytest.mark.parametrize("tenant", [pytest.param(OWN, id="a tenant"), pytest.param(PLATFORM, id="the platform")])
@pytest.mark.parametrize("to_model", [False, True], ids=["everywhere", "one model"])
def test_role_is_bound_only_where_it_exists(*, role: str, tenant: TenantId, to_model: bool) -> None:
    if tenant == PLATFORM:
        expected = role in {"operator", "auditor"} and not to_model
    else:
        expected = role in {"publisher", "invoker"} if to_model else role != "operator"
    assert may_be_bound(role, tenant, to_model=to_model) is expected


@pytest.mark.parametrize("role", ["", "root", "Owner", "owner ", "operator\x00", "own"])
def test_unknown_role_is_bound_nowhere(role: str) -> None:
    assert not may_be_bound(role, OWN, to_model=False)
    assert not may_be_bound(role, PLATFORM, to_model=False)


def test_roles_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ROLES["invoker"] = frozenset(Permission)  # type: ignore[index]


permissions = st.frozensets(st.sampled_from(Permission))
names = st.sampled_from(["m", "n", "o"])


@given(
    everywhere=permissions,
    on_models=st.dictionaries(names, permissions),
    asked=st.sampled_from(Permission),
    model=names,
)
def test_nobody_gets_what_no_binding_states(
    everywhere: frozenset[Permission], on_models: dict[str, frozenset[Permission]], asked: Permission, model: str
) -> None:
    who = principal(everywhere, on_models)
    stated = everywhere | on_models.get(model, frozenset())
    assert is_permitted(who, asked, model) == (asked in stated)
    assert is_permitted(who, asked) == (asked in everywhere)
    for decide, needed in (
        (lambda: authorize(who, asked), {asked} <= everywhere),
        (lambda: authorize_model(who, asked, ModelRef(model)), {asked, Permission.MODEL_READ} <= stated),
        (
            lambda: authorize_thing(who, asked, OWN, absent=ABSENT),
            {asked, Permission(f"{asked.resource}:read")} <= everywhere,
        ),
    ):
        try:
            decide()
        except (PermissionDenied, NotFound):
            assert not needed
        else:
            assert needed


@given(everywhere=permissions, on_models=st.dictionaries(names, permissions), asked=st.sampled_from(Permission))
def test_nobody_reaches_another_tenants_thing(
    everywhere: frozenset[Permission], on_models: dict[str, frozenset[Permission]], asked: Permission
) -> None:
    with pytest.raises(NotFound):
        authorize_thing(principal(everywhere, on_models), asked, OTHER, absent=ABSENT)
