"""One example of each answer of the management API, for the OpenAPI document.

Rules: no member is null, because the framework drops those from the document. The constants are
read only: whoever needs to change one copies it.
"""

from typing import Final, TypeAlias, cast

from pydantic import ConfigDict, JsonValue

Example: TypeAlias = dict[str, object]

_AT: Final = "2026-01-05T09:30:00Z"
_SUBJECT: Final = "3f0c8f5e-0a53-4b52-9f0e-6a3f8f1f6a11"
_KID: Final = "AMLLhwtD6uPTp6wTBp7Y46N173UynqAOUadgGx-7EJM"
_CURSOR: Final = "bGFzdC1vbmU"
_DIGEST: Final = "1d85653dd32547c55cfc1a6a857cf4bff08f3fa2564e70a3ab40dde343cb19bd"


def like(example: Example) -> ConfigDict:
    """Return the configuration that gives a body's schema its example."""
    return ConfigDict(json_schema_extra={"examples": [cast("JsonValue", example)]})


TENANT: Final[Example] = {
    "id": "ce0cd86e-c78e-486f-a6ff-629471855fa9",
    "slug": "acme",
    "state": "active",
    "created_at": _AT,
}
OWNER: Final[Example] = {"username": "owner@acme", "password": "(told this once)"}
ONBOARDED: Final[Example] = {**TENANT, "owner": OWNER}
TENANTS: Final[Example] = {"tenants": [TENANT], "next_cursor": _CURSOR}

NEW_PASSWORD: Final[Example] = {"password": "(told this once)"}
ACCOUNT: Final[Example] = {
    "id": _SUBJECT,
    "name": "ci",
    "enabled": True,
    "created_at": _AT,
    "client_id": "sa-347ed83d556b9af80ceb",
}
NEW_ACCOUNT: Final[Example] = {**ACCOUNT, "client_secret": "(told this once)"}
ACCOUNTS: Final[Example] = {"accounts": [ACCOUNT], "next_cursor": _CURSOR}

API_KEY: Final[Example] = {
    "id": "3c1f0e5d9a7b2468",
    "name": "ci",
    "subject": _SUBJECT,
    "permissions": ["model:predict", "model:read"],
    "enabled": True,
    "created_at": _AT,
    "expires_at": None,
    "former_secret_until": None,
}
NEW_API_KEY: Final[Example] = {**API_KEY, "api_key": "maas_3c1f0e5d9a7b2468_(told this once)"}
API_KEYS: Final[Example] = {"api_keys": [API_KEY], "next_cursor": _CURSOR}

RATE: Final[Example] = {"amount": 600, "window_s": 60}
QUOTA: Final[Example] = {"requests": RATE, "concurrent": 16, "lifetime_rows": 100_000}
QUOTA_RULE: Final[Example] = {
    "id": "5b0f64d4-31b2-4b53-9cf7-7a8c3f0d2c19",
    "subject": _SUBJECT,
    "model": "breast-cancer",
    "quota": QUOTA,
}
QUOTAS: Final[Example] = {"quotas": [QUOTA_RULE]}
SHARE: Final[Example] = {
    "id": "0a8a3c2e-5d60-4d9c-a2a8-9d5bb1f7b4f2",
    "model": "breast-cancer",
    "consumer": "ce0cd86e-c78e-486f-a6ff-629471855fa9",
    "enabled": True,
    "quota": QUOTA,
    "created_at": _AT,
}
NEW_SHARE: Final[Example] = {
    "model": "breast-cancer",
    "consumer": "00000000-0000-4000-8000-000000000000",
    "quota": {"requests": RATE, "lifetime_rows": 100_000},
}
SHARES: Final[Example] = {"shares": [SHARE]}
_USED: Final[Example] = {
    "day": "2026-11-22",
    "model": "breast-cancer",
    "requests": 120,
    "rows": 480,
    "compute_ms": 61.2,
}
USAGE_LINE: Final[Example] = {**_USED, "subject": _SUBJECT}
USAGE: Final[Example] = {"usage": [USAGE_LINE]}
SHARED_USAGE_LINE: Final[Example] = {**_USED, "consumer": "ce0cd86e-c78e-486f-a6ff-629471855fa9"}
SHARED_USAGE: Final[Example] = {"usage": [SHARED_USAGE_LINE]}
BUDGET_LINE: Final[Example] = {"holder": _SUBJECT, "model": "breast-cancer", "spent_rows": 480}
BUDGETS: Final[Example] = {"budgets": [BUDGET_LINE]}

BINDING: Final[Example] = {
    "id": "94cf40ff-24eb-4cb7-9eb1-3858f3459d83",
    "subject": _SUBJECT,
    "role": "invoker",
    "model": "breast-cancer",
}
BINDINGS: Final[Example] = {"bindings": [BINDING], "next_cursor": _CURSOR}

RULE: Final[Example] = {"value": "ml-team", "role": "invoker", "model": "breast-cancer"}
NEW_IDENTITY_PROVIDER: Final[Example] = {
    "name": "sso",
    "issuer": "https://login.example.org",
    "audience": "maas-gateway",
    "claim": "groups",
    "rules": [RULE],
}
IDENTITY_PROVIDER: Final[Example] = {
    "id": "0d3f7f8e-93a5-4cf1-9d64-2f1d3a0b7c55",
    **NEW_IDENTITY_PROVIDER,
    "enabled": True,
    "created_at": _AT,
}
IDENTITY_PROVIDERS: Final[Example] = {"identity_providers": [IDENTITY_PROVIDER]}

PUBLISHER: Final[Example] = {
    "key_id": "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",
    "name": "release",
    "form": "es256",
}
PUBLIC_JWK: Final[Example] = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
PUBLISHER_KEY: Final[Example] = {
    "key_id": PUBLISHER["key_id"],
    "name": "release",
    "jwk": PUBLIC_JWK,
    "created_at": _AT,
}
PUBLISHER_KEYS: Final[Example] = {"publisher_keys": [PUBLISHER_KEY]}
PUBLISHING_RULES: Final[Example] = {"requires_signature": True, "requires_second_person": True}

RELEASED: Final[Example] = {
    "by": "ada@acme",
    "at": _AT,
    "reason": "looked at the preprocessing",
    "is_by_person": True,
}
PLAN: Final[Example] = {
    "runtime": "litert",
    "placement": "threads",
    "size_bytes": 52_480,
    "max_relative_error": 1.5e-07,
    "tolerance": 1e-05,
    "took_us": 6,
}
VERSION: Final[Example] = {
    "model": "breast-cancer",
    "version": 1,
    "stage": "serving",
    "format": "keras",
    "digest": _DIGEST,
    "size_bytes": 176_746,
    "signature": {
        "inputs": [{"name": "measurements", "datatype": "FP32", "shape": [-1, 30]}],
        "outputs": [{"name": "benign", "datatype": "FP32", "shape": [-1, 1]}],
    },
    "plan": {"runtime": "litert", "max_relative_error": 1.5e-07},
    "plans": [PLAN],
    "findings": [],
    "created_by": "sa-347ed83d556b9af80ceb",
    "created_at": _AT,
    "publisher": PUBLISHER,
    "released": RELEASED,
}
MODEL: Final[Example] = {"name": "breast-cancer", "created_at": _AT, "versions": [VERSION], "labels": {"stable": 1}}
MODELS: Final[Example] = {"models": [MODEL], "next_cursor": _CURSOR}

KEY_VERSION: Final[Example] = {"version": 2, "state": "primary", "created_at": _AT, "uses": 0, "kid": _KID}
KEYRING: Final[Example] = {
    "purpose": "token-signing",
    "versions": [KEY_VERSION],
}
KEYRINGS: Final[Example] = {"keyrings": [KEYRING]}
OPERATION: Final[Example] = {
    "id": "d5bed22a-68a8-44dc-b3f7-b0bc21eff1bb",
    "kind": "rotate",
    "subject": {"purpose": "artifacts", "dry_run": False},
    "state": "failed",
    "done": 1,
    "total": 2,
    "error": "the root-key file cannot be read now",
    "created_at": _AT,
}

EVENT: Final[Example] = {
    "number": 7,
    "at": _AT,
    "kind": "request.refused",
    "actor": "sa-347ed83d556b9af80ceb",
    "thing": "POST /admin/v1/models/breast-cancer/versions/1:promote",
    "outcome": "refused",
    "reason": "permission-denied",
    "detail": {},
    "n_times": 1,
    "digest": _DIGEST,
}
EVENTS: Final[Example] = {"events": [EVENT], "next_cursor": 7}

TOKEN: Final[Example] = {
    "access_token": "eyJhbGciOiJFUzI1NiIs…",
    "token_type": "Bearer",
    "expires_in": 900,
    "scope": "model:predict model:read",
    "refresh_token": "mgr_…",
}
INTROSPECTION: Final[Example] = {
    "active": True,
    "token_type": "Bearer",
    "scope": "model:predict model:read",
    "sub": _SUBJECT,
    "username": "ada@acme",
    "exp": 1_767_606_300,
    "jti": "5f1c7e0a9b8d4c2f8e6a1b3c5d7f9e0a.0fJ2v1",
    "iss": "https://models.example.com",
    "aud": "maas-gateway",
}
JWKS: Final[Example] = {
    "keys": [
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "HxVD5qogEH_DW00LnwvHxxrls_qoclJmeYHk90FaeEU",
            "y": "UYn1J1gm7V75cPNCZ0PiVMyWxaqAjjsUwQ4_dbeWfVw",
            "kid": _KID,
            "alg": "ES256",
            "use": "sig",
        }
    ]
}
AUTHORIZATION_SERVER: Final[Example] = {
    "issuer": "https://models.example.org",
    "token_endpoint": "https://models.example.org/oauth/token",
    "jwks_uri": "https://models.example.org/.well-known/jwks.json",
    "grant_types_supported": ["password", "client_credentials"],
    "response_types_supported": [],
    "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    "scopes_supported": ["model:predict", "model:read"],
    "service_documentation": "https://models.example.org/docs",
}
