"""Whatever administrators do in whatever order: no credential permits what its bindings do not state.

A few accounts of one tenant act on each other, through the management API, with credentials of every kind, good and
bad; beside them runs a small model of who may what, written from the table of `api.md` section 1 and from nothing in
`policy`. After each act every credential ever given is looked at through the gateway's own authentication, and each
act is done or refused as the model says.
"""

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from builders.gateways import World, bearer, running_gateway
from maas_gateway.errors import Unauthenticated

pytestmark = pytest.mark.anyio

A = "/admin/v1"
MODELS = ("m", "n")
_MODEL = {"model:read", "model:write", "model:promote", "model:predict"}
_THINGS = ("user", "service-account", "api-key", "binding", "share", "policy")
ROLES: Mapping[str, frozenset[str]] = {
    "owner": frozenset(
        {
            *("tenant:read", "tenant:erase", "usage:read", "audit:read", "audit:export", "model:erase"),
            *("keyring:read", "keyring:rotate", "keyring:retire", "keyring:destroy"),
            *("operation:read", "operation:cancel"),
            *(f"{thing}:{verb}" for thing in _THINGS for verb in ("read", "write")),
            *_MODEL,
        }
    ),
    "publisher": frozenset(_MODEL),
    "invoker": frozenset({"model:read", "model:predict"}),
    "auditor": frozenset({"audit:read", "model:read"}),
    # `api.md` gives it keyrings only; it follows its rotations, which are operations.
    "key-custodian": frozenset({"keyring:read", "keyring:rotate", "keyring:retire", "operation:read"}),
}
ASKED_ROLES = (*ROLES, "operator", "king")
ON_ONE_MODEL = {"publisher", "invoker"}
SCOPES = (
    "",
    "user:read user:write service-account:read service-account:write",
    "user:read user:write audit:read model:read model:predict",
    "binding:read binding:write",
    "binding:read binding:write model:read model:predict",
    "api-key:read api-key:write model:read audit:read",
    "model:read model:write model:promote model:predict",
    "audit:read keyring:read",
)
"""What tokens and API keys are asked for; the first means all."""

T = TypeVar("T")
Permits = tuple[frozenset[str], Mapping[str, frozenset[str]]]
"""What is permitted on the whole tenant, and on single models."""


@dataclass
class Subject:
    """An account, as the model knows it."""

    subject: str
    name: str
    is_user: bool
    secret: str
    is_enabled: bool = True
    is_there: bool = True
    bindings: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def stated(self) -> Permits:
        """Return what its bindings state."""
        everywhere = frozenset(p for role, model in self.bindings.values() if model is None for p in ROLES[role])
        on_models = {
            model: frozenset(p for role, other in self.bindings.values() if other == model for p in ROLES[role])
            for _, model in self.bindings.values()
            if model is not None
        }
        return everywhere, on_models


@dataclass
class Credential:
    """An access token or an API key, as the model knows it."""

    text: str
    subject: Subject
    scope: frozenset[str]
    is_good: bool = True
    key_id: str = ""
    family: "Family | None" = None

    @property
    def counts(self) -> bool:
        is_alive = self.subject.is_there and self.subject.is_enabled
        return is_alive and self.is_good and (self.family is None or self.family.is_good)

    def permits(self) -> Permits:
        if not self.counts:
            return frozenset(), {}
        everywhere, on_models = self.subject.stated()
        return everywhere & self.scope, {model: permits & self.scope for model, permits in on_models.items()}

    @property
    def everywhere(self) -> frozenset[str]:
        return self.permits()[0]

    @property
    def anywhere(self) -> frozenset[str]:
        everywhere, on_models = self.permits()
        return everywhere.union(*on_models.values())


@dataclass
class Family:
    """A sign-in and its refresh tokens, the last of which is good."""

    subject: Subject
    scope: frozenset[str]
    texts: list[str]
    is_good: bool = True


def union(permits: Permits) -> frozenset[str]:
    everywhere, on_models = permits
    return everywhere.union(*on_models.values())


class Play:
    """One tenant, its accounts, and what they do to each other."""

    def __init__(self, world: World, owner: Subject, address: str) -> None:
        self._world = world
        self._address = address
        self.subjects = [owner]
        self.credentials: list[Credential] = []
        self.families: list[Family] = []
        self._numbers = itertools.count(1)
        self.story: list[str] = []

    # --- what is drawn ---------------------------------------------------------------------------

    def caller(self, number: int, need: str) -> Credential:
        """Return a caller: mostly one that has what the act needs first of all, else anyone at all."""
        fit = [one for one in self.credentials if need in one.everywhere]
        return _pick(fit if fit and number % 5 else self.credentials, number)

    def there(self, number: int) -> Subject:
        return _pick([subject for subject in self.subjects if subject.is_there], number)

    def keys(self) -> list[Credential]:
        """Return the API keys that there are, each once."""
        return [one for one in self.credentials if one.key_id and one.is_good and one.subject.is_there]

    # --- acts, each with what the model says of it -------------------------------------------------

    async def sign_in(self, a: int, b: int, _: int) -> None:
        subject, scope = _pick(self.subjects, a), _pick(SCOPES, b)
        form = {"scope": scope, **self._form(subject)}
        async with self._world.at(self._address) as http:
            answer = await http.post("/oauth/token", data={name: text for name, text in form.items() if text})
        is_alive = subject.is_there and subject.is_enabled
        self._expect(answer, "signs in", is_alive)
        if is_alive:
            held = union(subject.stated())
            granted = held & set(scope.split()) if scope else held
            self._take(answer.json(), subject, granted, None)

    async def refresh(self, a: int, b: int, _: int) -> None:
        if not self.families:
            return
        family, subject = _pick(self.families, a), _pick(self.families, a).subject
        is_last = b % 4 != 0
        text = family.texts[-1] if is_last else family.texts[0]
        is_last = text == family.texts[-1]
        form = {"grant_type": "refresh_token", "refresh_token": text}
        answer = await self._world.http.post("/oauth/token", data=form)
        is_alive = subject.is_there and subject.is_enabled
        self._expect(
            answer, f"refreshes with the {'last' if is_last else 'first'}", family.is_good and is_last and is_alive
        )
        if not family.is_good:
            return
        if not is_last or not is_alive:
            family.is_good = is_last  # spent twice: stolen. Spent by one who may not act: gone with its answer
            family.texts.append("lost") if is_last else None
            return
        self._take(answer.json(), subject, union(subject.stated()) & family.scope, family)

    async def add_account(self, a: int, b: int, _: int) -> None:
        is_user = b % 2 == 0
        path, name = ("users" if is_user else "service-accounts"), f"n{next(self._numbers)}"
        need = "user:write" if is_user else "service-account:write"
        caller = self.caller(a, need)
        answer = await self._call(caller, "POST", path, {"name": name})
        self._expect(answer, f"adds to {path}", need in caller.everywhere, caller)
        if answer.is_success:
            told = answer.json()
            secret = told["password"] if is_user else told["client_secret"]
            made = Subject(told["id"], name if is_user else told["client_id"], is_user, secret)
            self.subjects.append(made)

    async def enable(self, a: int, b: int, c: int) -> None:
        subject, is_enabled = self.there(b), c % 2 == 0
        caller = self.caller(a, _need(subject))
        may = self._may_on(caller, subject) and (is_enabled or not subject.is_user or self._leaves_an_owner(subject))
        answer = await self._call(caller, "PATCH", self._path(subject), {"enabled": is_enabled})
        self._expect(answer, f"{'enables' if is_enabled else 'disables'} {subject.name}", may, caller)
        if answer.is_success:
            subject.is_enabled = is_enabled
            if not is_enabled:
                self._end_tokens(subject)

    async def remove(self, a: int, b: int, c: int) -> None:
        subject = self.there(b)
        caller = self.caller(a, _need(subject))
        if c % 4:
            return  # so that they are not all gone soon
        may = self._may_on(caller, subject) and (not subject.is_user or self._leaves_an_owner(subject))
        answer = await self._call(caller, "DELETE", self._path(subject))
        self._expect(answer, f"removes {subject.name}", may, caller)
        if answer.is_success:
            subject.is_there, subject.bindings = False, {}

    async def bind(self, a: int, b: int, c: int) -> None:
        caller, subject = self.caller(a, "binding:write"), self.there(b)
        await self.bind_this(caller, subject, _pick(ASKED_ROLES, c), _pick((None, None, *MODELS), b + c))

    async def bind_this(self, caller: Credential, subject: Subject, role: str, model: str | None) -> None:
        is_new = (role, model) not in subject.bindings.values()
        may = "binding:write" in caller.everywhere and self._may_give(caller, role, model) and is_new
        body = {"subject": subject.subject, "role": role, "model": model}
        answer = await self._call(caller, "POST", "role-bindings", body)
        self._expect(answer, f"binds {role} on {model} to {subject.name}", may, caller)
        if answer.is_success:
            subject.bindings[answer.json()["id"]] = (role, model)

    async def rebind(self, a: int, b: int, c: int) -> None:
        caller, (subject, binding), role = self.caller(a, "binding:write"), self._binding(b), _pick(ASKED_ROLES, c)
        before, model = subject.bindings.get(binding, ("", None))
        others = [bound for other, bound in subject.bindings.items() if other != binding]
        may = (
            {"binding:read", "binding:write"} <= caller.everywhere
            and self._may_give(caller, role, model)
            and (role, model) not in others
            and (before != "owner" or role == "owner" or self._leaves_an_owner(subject))
        )
        answer = await self._call(caller, "PATCH", f"role-bindings/{binding}", {"role": role})
        self._expect(answer, f"makes {before} of {subject.name} {role}", may, caller)
        if answer.is_success:
            subject.bindings[binding] = (role, model)

    async def unbind(self, a: int, b: int, _: int) -> None:
        caller, (subject, binding) = self.caller(a, "binding:write"), self._binding(b)
        is_owners = subject.bindings[binding][0] == "owner"
        may = {"binding:read", "binding:write"} <= caller.everywhere
        may = may and (not is_owners or self._leaves_an_owner(subject))
        answer = await self._call(caller, "DELETE", f"role-bindings/{binding}")
        self._expect(answer, f"unbinds {subject.bindings[binding]} of {subject.name}", may, caller)
        if answer.is_success:
            del subject.bindings[binding]

    async def add_key(self, a: int, b: int, c: int) -> None:
        caller, scope = self.caller(a, "api-key:write"), frozenset((_pick(SCOPES, b) or SCOPES[-1]).split())
        subject = caller.subject if c % 2 else self.there(c)
        is_own = subject is caller.subject
        may = "api-key:write" in caller.everywhere and scope <= (caller.anywhere if is_own else caller.everywhere)
        may = may and (is_own or (not subject.is_user and scope <= union(subject.stated())))
        body = {"name": "k", "permissions": sorted(scope), "subject": None if is_own else subject.subject}
        answer = await self._call(caller, "POST", "api-keys", body)
        self._expect(answer, f"makes {subject.name} a key for {sorted(scope)}", may, caller)
        if answer.is_success:
            told = answer.json()
            self.credentials.append(Credential(told["api_key"], subject, scope, key_id=told["id"]))

    async def change_key(self, a: int, b: int, c: int) -> None:
        caller, keys = self.caller(a, "api-key:write"), self.keys()
        if not keys:
            return
        key, way = _pick(keys, b), c % 3
        may = {"api-key:read", "api-key:write"} <= caller.everywhere
        path = f"api-keys/{key.key_id}"
        if way == 0:
            answer = await self._call(caller, "DELETE", path)
        elif way == 1:
            answer = await self._call(caller, "PATCH", path, {"enabled": True})
        else:
            is_own = key.subject is caller.subject
            may = may and key.scope <= (caller.anywhere if is_own else caller.everywhere)
            may = may and (is_own or not key.subject.is_user)
            answer = await self._call(caller, "POST", f"{path}:rotate", {"grace_s": 0})
        self._expect(answer, f"{('removes', 'enables', 'rotates')[way]} a key of {key.subject.name}", may, caller)
        if answer.is_success and way != 1:
            key.is_good = False
        if answer.is_success and way == 2:
            self.credentials.append(Credential(answer.json()["api_key"], key.subject, key.scope, key_id=key.key_id))

    async def new_secret(self, a: int, b: int, _: int) -> None:
        subject = self.there(b)
        caller = self.caller(a, _need(subject))
        may = self._may_on(caller, subject) and union(subject.stated()) <= caller.everywhere
        verb = "reset-password" if subject.is_user else "rotate"
        answer = await self._call(caller, "POST", f"{self._path(subject)}:{verb}")
        self._expect(answer, f"is told a new secret of {subject.name}", may, caller)
        if answer.is_success:
            subject.secret = answer.json()["password" if subject.is_user else "client_secret"]
            self._end_tokens(subject)

    async def revoke(self, a: int, b: int, _: int) -> None:
        caller, credential = self.caller(a, "user:write"), _pick(self.credentials, b)
        if credential.key_id or credential is self.credentials[0]:
            return
        answer = await self._world.http.post(
            "/oauth/revoke", data={"token": credential.text}, headers=bearer(caller.text)
        )
        self._expect(answer, f"revokes a token of {credential.subject.name}", caller.counts, caller)
        is_own = credential.subject is caller.subject
        if caller.counts and (is_own or {"user:write", "service-account:write"} <= caller.everywhere):
            credential.is_good = False

    # --- what must hold ------------------------------------------------------------------------------

    async def check(self) -> None:
        """See that each credential permits what the model says, and nothing that no binding states."""
        for credential in self.credentials:
            try:
                principal = await self._world.gateway.authenticator.principal(credential.text)
            except Unauthenticated:
                assert not credential.counts, self._told(f"a credential of {credential.subject.name} is refused")
                continue
            everywhere, on_models = credential.subject.stated()
            found = {str(permission) for permission in principal.everywhere}
            on_found = {model: {*map(str, permits)} for model, permits in principal.on_models.items()}
            assert credential.counts, self._told(f"a credential of {credential.subject.name} counts")
            assert found <= everywhere, self._told(f"{credential.subject.name} may {found - everywhere}")
            for model, permits in on_found.items():
                assert permits <= on_models.get(model, set()), self._told(f"{credential.subject.name} on {model}")
            assert (frozenset(found), on_found) == credential.permits(), self._told(credential.subject.name)

    # --- parts ---------------------------------------------------------------------------------------

    def _may_on(self, caller: Credential, subject: Subject) -> bool:
        need = _need(subject)
        return {need, need.replace("write", "read")} <= caller.everywhere

    def _may_give(self, caller: Credential, role: str, model: str | None) -> bool:
        return role in ROLES and (model is None or role in ON_ONE_MODEL) and ROLES[role] <= caller.everywhere

    def _leaves_an_owner(self, subject: Subject) -> bool:
        """Whether the tenant has an owner who can act without this one, or this one is none."""

        def owns(one: Subject) -> bool:
            return ("owner", None) in one.bindings.values()

        others = [one for one in self.subjects if one is not subject and one.is_user and one.is_there]
        return not owns(subject) or any(one.is_enabled and owns(one) for one in others)

    def _binding(self, number: int) -> tuple[Subject, str]:
        return _pick([(subject, one) for subject in self.subjects for one in subject.bindings], number)

    def _path(self, subject: Subject) -> str:
        return f"{'users' if subject.is_user else 'service-accounts'}/{subject.subject}"

    def _form(self, subject: Subject) -> dict[str, str]:
        if subject.is_user:
            slug = self.subjects[0].name.partition("@")[2]
            name = subject.name if "@" in subject.name else f"{subject.name}@{slug}"
            return {"grant_type": "password", "username": name, "password": subject.secret}
        return {"grant_type": "client_credentials", "client_id": subject.name, "client_secret": subject.secret}

    def _end_tokens(self, subject: Subject) -> None:
        """An account that is disabled, or given a new secret, signs in anew; its API keys stay."""
        for held in (*self.credentials, *self.families):
            if held.subject is subject and not (isinstance(held, Credential) and held.key_id):
                held.is_good = False

    def _take(self, told: Any, subject: Subject, granted: frozenset[str], family: Family | None) -> None:
        assert frozenset(told["scope"].split()) == granted, self._told("the scope is another")
        if family is not None:
            family.texts.append(told["refresh_token"])
        elif subject.is_user:
            family = Family(subject, granted, [told["refresh_token"]])
            self.families.append(family)
        self.credentials.append(Credential(told["access_token"], subject, granted, family=family))

    async def _call(self, caller: Credential, method: str, path: str, body: Any = None) -> Any:
        return await self._world.http.request(method, f"{A}/{path}", json=body, headers=bearer(caller.text))

    def _expect(self, answer: Any, what: str, may: bool, caller: Credential | None = None) -> None:  # noqa: FBT001
        who = "" if caller is None else f"{caller.subject.name} ({'key' if caller.key_id else 'token'}) "
        self.story.append(f"{who}{what}: {answer.status_code}")
        assert answer.status_code < 500, self._told(answer.text)
        assert answer.is_success == may, self._told(f"{'it may' if may else 'it may not'}: {answer.text}")
        if caller is not None and not caller.counts:
            assert answer.status_code == 401, self._told(answer.text)

    def _told(self, what: str) -> str:
        return "\n".join([*self.story, what])


def _need(subject: Subject) -> str:
    """Return the permission that changes an account of that kind."""
    return "user:write" if subject.is_user else "service-account:write"


def _pick(among: Sequence[T], number: int) -> T:
    return among[number % len(among)]


Act = Callable[[Play, int, int, int], Awaitable[None]]
ACTS: tuple[Act, ...] = (
    *(Play.sign_in, Play.add_account, Play.bind, Play.bind, Play.bind, Play.add_key, Play.sign_in),
    *(Play.refresh, Play.enable, Play.remove, Play.rebind, Play.unbind, Play.change_key, Play.new_secret, Play.revoke),
)
"""Some twice, so that there is something to take away."""
N_ACTS = 45
_SLUGS = itertools.count(1)


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_gateway(tmp_path_factory.mktemp("bindings")) as world:
        yield world


async def _play(world: World, seed: int) -> None:
    """Let one tenant's accounts do what a seed says; a failure tells the seed and the whole story."""
    chance = random.Random(seed)
    owner = await world.tenant(f"tenant-{next(_SLUGS)}")
    principal = await world.principal(owner)
    (bound,) = await world.gateway.credentials.bindings(principal)
    bindings: dict[str, tuple[str, str | None]] = {str(bound.binding_id): ("owner", None)}
    address = f"{11 + chance.randrange(200)}.{chance.randrange(256)}.0.1"  # who fails is made to wait, by address too
    play = Play(world, Subject(owner.subject, owner.name, True, owner.secret, bindings=bindings), address)
    for scope in range(len(SCOPES)):
        await play.sign_in(0, scope, 0)
    for number, role in enumerate(("owner", "publisher", "auditor")):  # a user, a service account, a user
        await play.add_account(0, number, 0)
        await play.bind_this(play.credentials[0], play.subjects[-1], role, None)
        await play.sign_in(number + 1, 0, 0)
    for _ in range(N_ACTS):
        await chance.choice(ACTS)(play, *(chance.randrange(1_000) for _ in range(3)))
        await play.check()


# No shrinking: a play takes a second, and what failed tells its whole story.
_PLAYED = {"deadline": None, "phases": (Phase.explicit, Phase.generate), "suppress_health_check": list(HealthCheck)}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=6, **_PLAYED)
async def test_no_sequence_of_acts_gives_what_the_bindings_do_not_state(world: World, seed: int) -> None:
    await _play(world, seed)


@pytest.mark.slow
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, **_PLAYED)
async def test_no_sequence_of_very_many_gives_what_the_bindings_do_not_state(world: World, seed: int) -> None:
    await _play(world, seed)
