"""Every protected operation of the OpenAPI document, with an example that succeeds, and the things that it names.

The list comes from the document; what is written here is only what the document cannot say. An operation without
an example fails the tests that walk it, so that no route is left out.
"""

import itertools
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from builders.gateways import World
from builders.models import DemoModel, convert_as_before, published_model, quarantined_model, uploaded_model
from builders.publishers import Pen
from maas_gateway.app import GatewayApp
from maas_gateway.auth.identity_provider import ClaimRule
from maas_gateway.identifiers import PLATFORM, ModelRef
from maas_gateway.operations import store as operations
from maas_gateway.permissions import Permission
from maas_gateway.principal import Principal
from maas_gateway.quotas.quota import Quota
from maas_gateway.registry.model import Stage

A = "/admin/v1"
ISSUER = "https://login.example.com"
"""An identity provider's address; a world must list its host to take one."""
OIDC = {"allowed_hosts": ["login.example.com"]}
US = "acme"
"""The tenant whose things are made."""

_PARAMETER = re.compile(r"\{(\w+)\}")
_SHARED_NAMES = frozenset({"purpose", "version"})
"""Parameters by which every tenant names its own things, so that nobody can name another's."""
NOBODYS = {
    "subject": "11111111-1111-4111-8111-111111111111",
    "binding_id": "11111111-1111-4111-8111-111111111111",
    "operation_id": "11111111-1111-4111-8111-111111111111",
    "provider_id": "11111111-1111-4111-8111-111111111111",
    "quota_id": "11111111-1111-4111-8111-111111111111",
    "share_id": "11111111-1111-4111-8111-111111111111",
    "consumer": "11111111-1111-4111-8111-111111111111",
    "key_id": "1111111111111111",
    "name": "nobodys-model",
    "model": "nobodys-model",
    "slug": "nobodys",
    "version": "1",
    "label": "nobodys",
    "purpose": "artifacts",
}
"""Names of the kinds that the document's parameters have, which nobody has given."""


@dataclass(frozen=True)
class Operation:
    """One operation of the document that needs a credential.

    Attributes:
        method: the HTTP method.
        path: with its parameters in braces.
        need: a permission's text, or "any".
    """

    method: str
    path: str
    need: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        return _PARAMETER.findall(self.path)

    @property
    def names_a_thing(self) -> bool:
        return bool(self.parameters)

    @property
    def can_name_anothers(self) -> bool:
        """Whether a caller can name what is another tenant's."""
        return bool(set(self.parameters) - _SHARED_NAMES)

    @property
    def is_door(self) -> bool:
        """Whether it is one of the prediction doors'."""
        return self.path.startswith(("/v1", "/v2"))

    @property
    def reads(self) -> str:
        """The permission without which the thing that is named does not exist."""
        return f"{Permission(self.need).resource}:read"

    def address(self, names: Mapping[str, str] = NOBODYS) -> str:
        return self.path.format(**names) + EXAMPLES[str(self)].query


@dataclass(frozen=True)
class Example:
    """How an operation is called so that it does what it is for.

    Attributes:
        done: the status for whoever may.
        body: what is sent: JSON whose texts may hold parameters in braces, or bytes; a text names a body of `Things`.
        also: permissions that this body needs besides the operation's own.
        query: what follows the path.
        is_operators: whether it is the platform's operator who may.
    """

    done: int = 200
    body: Any = None
    also: str = ""
    is_operators: bool = False
    query: str = ""


_PUBLISHER = "model:read model:write model:promote model:predict"
EXAMPLES: dict[str, Example] = {
    f"GET {A}/tenants": Example(is_operators=True),
    f"POST {A}/tenants": Example(201, {"slug": "{new}"}, is_operators=True, also="tenant:read"),
    f"GET {A}/tenants/{{slug}}": Example(is_operators=True),
    f"PATCH {A}/tenants/{{slug}}": Example(200, {"quota": {"weight": 2}}, is_operators=True),
    f"GET {A}/tenants/{{slug}}/quota": Example(is_operators=True),
    f"POST {A}/tenants/{{slug}}:suspend": Example(is_operators=True),
    f"POST {A}/tenants/{{slug}}:resume": Example(is_operators=True),
    f"POST {A}/tenants/{{slug}}:erase": Example(is_operators=True),
    f"GET {A}/users": Example(),
    f"POST {A}/users": Example(201, {"name": "{new}"}),
    f"GET {A}/users/{{subject}}": Example(),
    f"PATCH {A}/users/{{subject}}": Example(204, {"enabled": True}),
    f"DELETE {A}/users/{{subject}}": Example(204),
    f"POST {A}/users/{{subject}}:reset-password": Example(),
    f"POST {A}/password": Example(
        400, {"current": "not mine", "new": "twelve bytes or more"}
    ),  # `test_secrets` has 204
    f"GET {A}/service-accounts": Example(),
    f"POST {A}/service-accounts": Example(201, {"name": "{new}"}),
    f"GET {A}/service-accounts/{{subject}}": Example(),
    f"PATCH {A}/service-accounts/{{subject}}": Example(204, {"enabled": True}),
    f"DELETE {A}/service-accounts/{{subject}}": Example(204),
    f"POST {A}/service-accounts/{{subject}}:rotate": Example(),
    f"GET {A}/role-bindings": Example(),
    f"POST {A}/role-bindings": Example(201, {"subject": "{subject}", "role": "invoker"}, "model:read model:predict"),
    f"GET {A}/role-bindings/{{binding_id}}": Example(),
    f"PATCH {A}/role-bindings/{{binding_id}}": Example(200, {"role": "publisher"}, _PUBLISHER),
    f"DELETE {A}/role-bindings/{{binding_id}}": Example(204),
    f"GET {A}/api-keys": Example(),
    f"POST {A}/api-keys": Example(201, {"name": "{new}", "permissions": ["model:read"]}, "model:read"),
    f"GET {A}/api-keys/{{key_id}}": Example(),
    f"PATCH {A}/api-keys/{{key_id}}": Example(200, {"enabled": True}),
    f"POST {A}/api-keys/{{key_id}}:rotate": Example(200, {"grace_s": 60}, "model:read"),
    f"DELETE {A}/api-keys/{{key_id}}": Example(204),
    f"GET {A}/models": Example(),
    f"GET {A}/models/{{name}}": Example(),
    f"GET {A}/models/{{name}}/versions/{{version}}": Example(),
    f"PUT {A}/models/{{name}}/versions/{{version}}": Example(201, "archive"),
    f"POST {A}/models/{{name}}/versions/{{version}}:promote": Example(),
    f"POST {A}/models/{{name}}/versions/{{version}}:retire": Example(),
    f"PUT {A}/models/{{name}}/labels/{{label}}": Example(200, {"version": 1}),
    f"DELETE {A}/models/{{name}}/labels/{{label}}": Example(204),
    f"POST {A}/models/{{name}}:erase": Example(),
    f"POST {A}/models/{{name}}/versions/{{version}}:release": Example(200, {"reason": "looked at it"}),
    f"DELETE {A}/models/{{name}}/versions/{{version}}": Example(204),
    f"DELETE {A}/models/{{name}}": Example(204),
    f"POST {A}/models:rescan": Example(),
    f"POST {A}/tenants:rescan": Example(is_operators=True),
    f"GET {A}/keyrings": Example(),
    f"GET {A}/keyrings/{{purpose}}": Example(),
    f"POST {A}/keyrings/{{purpose}}:rotate": Example(),
    f"POST {A}/keyrings/{{purpose}}:reseal": Example(query="?dry_run=true"),
    f"POST {A}/keyrings/{{purpose}}/versions/{{version}}:retire": Example(),
    f"POST {A}/keyrings/{{purpose}}/versions/{{version}}:destroy": Example(),
    f"GET {A}/operations/{{operation_id}}": Example(),
    f"POST {A}/operations/{{operation_id}}:cancel": Example(409),  # it has ended
    f"GET {A}/audit/events": Example(),
    f"GET {A}/publisher-keys": Example(),
    f"POST {A}/publisher-keys": Example(201, "publisher"),
    f"DELETE {A}/publisher-keys/{{key_id}}": Example(204),
    f"GET {A}/identity-providers": Example(),
    f"POST {A}/identity-providers": Example(201, "provider", "model:read model:predict"),
    f"GET {A}/identity-providers/{{provider_id}}": Example(),
    f"PATCH {A}/identity-providers/{{provider_id}}": Example(200, {"enabled": False}),
    f"DELETE {A}/identity-providers/{{provider_id}}": Example(204),
    f"GET {A}/quotas": Example(),
    f"POST {A}/quotas": Example(201, {"model": "{new}", "quota": {"concurrent": 1_000}}),
    f"GET {A}/quotas/{{quota_id}}": Example(),
    f"PATCH {A}/quotas/{{quota_id}}": Example(200, {"quota": {"concurrent": 2_000}}),
    f"DELETE {A}/quotas/{{quota_id}}": Example(204),
    f"GET {A}/budgets": Example(),
    f"GET {A}/usage": Example(),
    f"GET {A}/usage/shares": Example(),
    f"GET {A}/shares": Example(),
    f"POST {A}/shares": Example(201, {"model": "served", "consumer": "{consumer}"}, "model:read model:predict"),
    f"GET {A}/shares/{{share_id}}": Example(),
    f"PATCH {A}/shares/{{share_id}}": Example(200, {"enabled": True}),
    f"DELETE {A}/shares/{{share_id}}": Example(204),
    f"GET {A}/publishing-rules": Example(),
    f"PUT {A}/publishing-rules": Example(200, {"requires_signature": False}),
    "POST /oauth/revoke": Example(200, b"token=unknown"),
    "POST /oauth/introspect": Example(200, b"token=unknown"),
    "GET /v1/models": Example(),
    "GET /v2": Example(),
    "GET /v2/models": Example(),
    "GET /v2/models/stats": Example(),
    "POST /v2/repository/index": Example(),
    "POST /v2/repository/models/{model}/load": Example(200, {"parameters": {"version": 1}}),
    "POST /v2/repository/models/{model}/unload": Example(200, {"parameters": {"unload_dependents": False}}),
    **{
        f"{method} {start}{which}{rest}": Example(200, body)
        for which in ("", "/versions/{version}", "/labels/{label}")
        for method, start, rest, body in (
            ("POST", "/v1/models/{model}", ":predict", "rows"),
            ("POST", "/v1/models/{model}", ":classify", "examples"),
            ("POST", "/v1/models/{model}", ":regress", "examples"),
            ("GET", "/v1/models/{model}", "", None),
            ("GET", "/v1/models/{model}", "/metadata", None),
            ("POST", "/v2/models/{model}", "/infer", "tensors"),
            ("GET", "/v2/models/{model}", "", None),
            ("GET", "/v2/models/{model}", "/ready", None),
            ("GET", "/v2/models/{model}", "/config", None),
            ("GET", "/v2/models/{model}", "/stats", None),
        )
    },
}


def protected_operations(app: GatewayApp) -> list[Operation]:
    """Return what the document says needs a credential."""
    return [
        Operation(method.upper(), path, operation.get("x-permission", "undeclared"))
        for path, item in app.openapi()["paths"].items()
        for method, operation in item.items()
        if operation["security"]
    ]


@dataclass
class Things:
    """Makes what operations name, anew for each call that uses it up.

    Attributes:
        world: the gateway, with the tenant `US` in it.
        owner: who makes it.
        demo: the model that is made.
        bodies: bodies that examples name.
    """

    world: World
    owner: Principal
    demo: DemoModel
    bodies: dict[str, Callable[[], Any]]
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @classmethod
    async def of(cls, world: World, demo: DemoModel) -> "Things":
        """Make what is looked at only: the model `served` with its label, and the model `cycled` that comes and goes."""
        owner = await world.principal(world.owners[US])
        for name in ("served", "cycled"):
            served = await published_model(world, US, name, demo)
        await world.gateway.promote.label(owner, ModelRef("served", None, "stable"), 1)
        row = list(demo.seed.example)
        tensor = {"name": served.signature.inputs[0].name, "datatype": "FP32", "shape": [1, len(row)], "data": row}
        bodies: dict[str, Callable[[], Any]] = {
            "archive": lambda: demo.seed.archive,
            "publisher": lambda: {"name": f"p-{secrets.token_hex(4)}", "pem": Pen().pem},
            "provider": lambda: {
                "name": f"p-{secrets.token_hex(4)}",
                "issuer": ISSUER,
                "audience": secrets.token_hex(4),
                "claim": "groups",
                "rules": [{"value": "team", "role": "invoker"}],
            },
            "rows": lambda: {"instances": [row]},
            "examples": lambda: {"examples": [{"measurements": row}]},
            "tensors": lambda: {"inputs": [tensor]},
        }
        convert_as_before(world, demo)
        return cls(world, owner, demo, bodies)

    async def names(self, operation: Operation) -> dict[str, str]:
        """Return the names of things that an operation can be done to, once."""
        number = next(self._numbers)
        names = {
            **NOBODYS,
            "new": f"new-{number}",
            "model": "served",
            "name": "served",
            "version": "1",
            "label": "stable",
        }
        for part, make in _MAKERS.items():
            if part in f"{operation} ":
                names |= await make(self, f"made-{number}")
        return names

    def body(self, operation: Operation, names: Mapping[str, str]) -> bytes | None:
        """Return the body of an operation's example, about the things of these names."""
        body = EXAMPLES[str(operation)].body
        if isinstance(body, str):
            body = self.bodies[body]()
        if isinstance(body, dict):
            body = {key: value.format(**names) if isinstance(value, str) else value for key, value in body.items()}
        return body if isinstance(body, bytes | None) else json.dumps(body).encode()

    async def ask(
        self, operation: Operation, names: Mapping[str, str], headers: Mapping[str, str], *, body: bytes | None = None
    ) -> httpx.Response:
        """Send an operation's example about the things of these names, perhaps with another body."""
        content = self.body(operation, names) if body is None else body
        return await self.world.http.request(
            operation.method, operation.address(names), headers=dict(headers), content=content
        )

    async def user(self, name: str) -> dict[str, str]:
        made, _ = await self.world.gateway.credentials.add_user(self.owner, name)
        return {"subject": str(made.subject)}

    async def service_account(self, name: str) -> dict[str, str]:
        made, _ = await self.world.gateway.credentials.add_service_account(self.owner, name)
        return {"subject": str(made.subject)}

    async def binding(self, name: str) -> dict[str, str]:
        subject = (await self.service_account(name))["subject"]
        bound = await self.world.gateway.credentials.bind(self.owner, UUID(subject), "invoker", None)
        return {"binding_id": str(bound.binding_id)}

    async def api_key(self, name: str) -> dict[str, str]:
        key, _ = await self.world.gateway.api_keys.add(self.owner, name, frozenset({Permission.MODEL_READ}))
        return {"key_id": key.key_id}

    async def publisher_key(self, name: str) -> dict[str, str]:
        key = await self.world.gateway.publishing.add_key(self.owner, name, jwk=Pen().jwk, pem=None)
        return {"key_id": key.key_id}

    async def provider(self, name: str) -> dict[str, str]:
        providers = self.world.gateway.identity_providers
        for known in await providers.every(self.owner):  # a tenant may have a few only
            await providers.remove(self.owner, known.provider_id)
        rules = (ClaimRule("team", "invoker", None),)
        made = await providers.add(self.owner, name, issuer=ISSUER, audience=name, claim="groups", rules=rules)
        return {"provider_id": str(made.provider_id)}

    async def quota(self, name: str) -> dict[str, str]:
        made = await self.world.gateway.quotas.add(self.owner, Quota(concurrent=1_000), subject=None, model=name)
        return {"quota_id": str(made.rule_id)}

    async def consumer(self, name: str) -> dict[str, str]:
        await self.tenant(name)
        operator = await self.world.principal(self.world.operator)
        return {"consumer": str((await self.world.gateway.onboard.tenant(operator, name)).tenant_id)}

    async def share(self, name: str) -> dict[str, str]:
        consumer = UUID((await self.consumer(name))["consumer"])
        made = await self.world.gateway.shares.add(self.owner, "served", consumer, Quota())
        return {"share_id": str(made.share.share_id)}

    async def model(self, name: str) -> dict[str, str]:
        await uploaded_model(self.world, US, name, self.demo)
        return {"name": name}

    async def quarantined(self, name: str) -> dict[str, str]:
        await quarantined_model(self.world, US, name, self.demo)
        return {"name": name}

    async def empty_model(self, name: str) -> dict[str, str]:
        await uploaded_model(self.world, US, name, self.demo)
        await self.world.gateway.admission.delete.version(self.owner, ModelRef(name, 1))
        return {"name": name}

    async def no_rescan(self, _: str) -> dict[str, str]:
        for tenant in (self.owner.tenant, PLATFORM):
            while True:
                async with self.world.gateway.upload._acting.database.read(tenant) as session:
                    if await operations.running(session, "models") is None:
                        break
        return {}

    async def new_name(self, name: str) -> dict[str, str]:
        return {"name": name}

    async def retired(self, _: str) -> dict[str, str]:
        if await self._stage() is Stage.SERVING:
            await self.world.gateway.promote.retire(self.owner, ModelRef("cycled", 1))
        return {"name": "cycled"}

    async def serving(self, _: str) -> dict[str, str]:
        if await self._stage() is not Stage.SERVING:
            await self.world.gateway.promote.promote(self.owner, ModelRef("cycled", 1))
        return {"name": "cycled"}

    async def unloaded(self, name: str) -> dict[str, str]:
        return {"model": (await self.retired(name))["name"]}

    async def loaded(self, name: str) -> dict[str, str]:
        return {"model": (await self.serving(name))["name"]}

    async def label(self, name: str) -> dict[str, str]:
        label = name.replace("-", "_")
        await self.world.gateway.promote.label(self.owner, ModelRef("served", None, label), 1)
        return {"label": label}

    async def old_key(self, _: str) -> dict[str, str]:
        await self.world.gateway.rotate.rotate(self.owner, "artifacts")
        ring = await self.world.gateway.rotate.describe_one(self.owner, "artifacts")
        old = [version["version"] for version in ring["versions"] if version["state"] == "enabled"]  # type: ignore[attr-defined]
        return {"version": str(old[-1])}

    async def retired_key(self, name: str) -> dict[str, str]:
        names = await self.old_key(name)
        await self.world.gateway.rotate.retire(self.owner, "artifacts", int(names["version"]))
        return names

    async def operation(self, _: str) -> dict[str, str]:
        done = await self.world.gateway.rotate.rotate(self.owner, "artifacts")
        return {"operation_id": str(done.operation_id)}

    async def tenant(self, name: str) -> dict[str, str]:
        assert await self.world.gateway.provision.tenant(name, "owner", "a password of theirs")
        return {"slug": name}

    async def _stage(self) -> Stage:
        return (await self.world.gateway.browse.version(self.owner, ModelRef("cycled", 1))).stage


_MAKERS: Mapping[str, Callable[[Things, str], Awaitable[dict[str, str]]]] = {
    "/users/": Things.user,
    f"POST {A}/role-bindings": Things.user,
    "/service-accounts/": Things.service_account,
    "/role-bindings/": Things.binding,
    "/api-keys/": Things.api_key,
    "/identity-providers/": Things.provider,
    "/quotas/": Things.quota,
    f"POST {A}/identity-providers": Things.provider,
    f"POST {A}/shares": Things.consumer,
    f"{A}/shares/": Things.share,
    f"DELETE {A}/publisher-keys/": Things.publisher_key,
    f"PUT {A}/models/{{name}}/versions": Things.new_name,
    ":promote": Things.retired,
    f"{A}/models/{{name}}/versions/{{version}}:retire": Things.serving,
    "/load ": Things.unloaded,
    "/unload ": Things.loaded,
    f"DELETE {A}/models/{{name}}/labels": Things.label,
    f"{A}/models/{{name}}:erase": Things.model,
    f"{A}/models/{{name}}/versions/{{version}}:release": Things.quarantined,
    f"DELETE {A}/models/{{name}}/versions": Things.model,
    f"DELETE {A}/models/{{name}} ": Things.empty_model,
    ":rescan": Things.no_rescan,
    "/keyrings/{purpose}/versions/{version}:retire": Things.old_key,
    "/keyrings/{purpose}/versions/{version}:destroy": Things.retired_key,
    "/operations/": Things.operation,
    f"{A}/tenants/{{slug}}": Things.tenant,
}
"""What makes the names of an operation, by a part of its text, behind which a blank stands."""
