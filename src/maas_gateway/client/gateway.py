"""Speaks to a running gateway: gets its own token, names what was refused, tells how far an upload is.

Source: `/openapi.json` of the gateway; RFC 6749 section 4; RFC 9457.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, Self
from urllib.parse import quote

import httpx

from maas_gateway.client.failure import GatewayRefused

_UPLOAD_TIMEOUT_S = 600.0
_ERASE_TIMEOUT_S = 60.0


class ModelContent(Protocol):
    """What is uploaded: read twice, once for its digest."""

    @property
    def size_bytes(self) -> int:
        """Return its length."""
        ...

    def digest(self) -> bytes:
        """Return its SHA-256, 32 bytes."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Return it from the start, piece by piece."""
        ...


class GatewayClient:
    """One gateway, as one caller.

    Args:
        base_url: the gateway's address.
        credential: the form of `POST /oauth/token`, or `{"token": …}` with a token that is there already.
    """

    def __init__(self, base_url: str, credential: Mapping[str, str]) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=60)
        self._credential = credential
        self._token = credential.get("token")

    def token(self) -> str:
        """Return an access token, fetched once.

        Raises:
            GatewayRefused: the credential is wrong, or the gateway does not answer.
        """
        if self._token is None:
            self._token = str(self.sign_in()["access_token"])
        return self._token

    def sign_in(self) -> dict[str, Any]:
        """Return what the token endpoint answers to the credential.

        Raises:
            GatewayRefused: the credential is wrong, or the gateway does not answer.
        """
        return self._send("POST", "/oauth/token", data=dict(self._credential))

    def revoke(self, token: str) -> None:
        """Have a token be worth nothing; a refresh token with all that came from its sign-in."""
        self._call("POST", "/oauth/revoke", data={"token": token})

    def users(self) -> list[dict[str, Any]]:
        """Return the tenant's users."""
        return self._listed("/admin/v1/users", "accounts")

    def user_named(self, name: str) -> dict[str, Any]:
        """Return the user of that name, the part after the @ left out.

        Raises:
            GatewayRefused: the tenant has none.
        """
        for user in self.users():
            if user["name"] == name.partition("@")[0]:
                return user
        raise GatewayRefused(404, f"there is no user {name} in your tenant")

    def add_user(self, name: str) -> dict[str, Any]:
        """Make a user, whose password is told this once."""
        return self._call("POST", "/admin/v1/users", json={"name": name})

    def enable_user(self, user_id: str, *, is_enabled: bool) -> None:
        """Enable or disable a user."""
        self._call("PATCH", f"/admin/v1/users/{user_id}", json={"enabled": is_enabled})

    def reset_password(self, user_id: str) -> str:
        """Give a user a new password; return it."""
        return str(self._call("POST", f"/admin/v1/users/{user_id}:reset-password")["password"])

    def remove_user(self, user_id: str) -> None:
        """Delete a user."""
        self._call("DELETE", f"/admin/v1/users/{user_id}")

    def bindings(self) -> list[dict[str, Any]]:
        """Return the tenant's role bindings."""
        return self._listed("/admin/v1/role-bindings", "bindings")

    def bind(self, subject: str, role: str, model: str | None = None) -> dict[str, Any]:
        """Give an account a role, on the whole tenant or on one model."""
        where = {} if model is None else {"model": model}
        return self._call("POST", "/admin/v1/role-bindings", json={"subject": subject, "role": role, **where})

    def models(self) -> list[dict[str, Any]]:
        """Return the caller's models."""
        return self._listed("/admin/v1/models", "models")

    def push(
        self,
        file: ModelContent,
        model: str,
        version: int,
        on_progress: Callable[[int], None] = lambda _: None,
        *,
        form: str = "keras",
        runtime: str | None = None,
        signature: bytes | None = None,
        key_id: str | None = None,
        bundle: bytes | None = None,
        sample: bytes = b"",
    ) -> dict[str, Any]:
        """Upload a model as a version.

        Args:
            file: its content.
            model: the model's name.
            version: the version's number.
            on_progress: told how many bytes were sent since it was last told.
            form: its format, as the parameter `format` takes it.
            runtime: which of its forms is to serve: litert, onnx, openvino, keras or tensorflow; None for the best.
            signature: a publisher's, of the file: DER, as `openssl dgst -sha256 -sign` writes it, or r ‖ s.
            key_id: which registered key made it; without it, every one is tried.
            bundle: in the place of `signature`, what `model_signing sign key` wrote about the file.
            sample: rows as callers will send them, on which the forms are compared, too: a request of the open
                protocol in JSON; empty for none. It is not kept.
        """
        digest = base64.b64encode(_digest_behind(sample, file)).decode()
        asked = {"format": form} | ({} if runtime is None else {"runtime": runtime})
        return self._call(
            "PUT",
            f"/admin/v1/models/{quote(model, safe='')}/versions/{version}",
            params=asked,
            content=_behind(sample, file, on_progress),
            headers={
                "Content-Digest": f"sha-256=:{digest}:",
                "Content-Length": str(len(sample) + file.size_bytes),
                **({"Model-Sample-Length": str(len(sample))} if sample else {}),
                **_signed(signature, key_id, bundle),
            },
            timeout=_UPLOAD_TIMEOUT_S,
        )

    def promote(self, model: str, version: int, *, is_exclusive: bool = False) -> dict[str, Any]:
        """Have a version serve."""
        path = f"/admin/v1/models/{quote(model, safe='')}/versions/{version}:promote"
        return self._call("POST", path, params={"exclusive": is_exclusive})

    def model(self, model: str) -> dict[str, Any]:
        """Return one model with its versions and labels."""
        return self._call("GET", f"/admin/v1/models/{quote(model, safe='')}")

    def release(self, model: str, version: int, reason: str = "") -> dict[str, Any]:
        """Let a version out of quarantine."""
        path = f"/admin/v1/models/{quote(model, safe='')}/versions/{version}:release"
        return self._call("POST", path, json={"reason": reason})

    def retire(self, model: str, version: int) -> dict[str, Any]:
        """Have a version serve no longer."""
        return self._call("POST", f"/admin/v1/models/{quote(model, safe='')}/versions/{version}:retire")

    def delete(self, model: str, version: int | None = None) -> None:
        """Delete a version that does not serve, or a model that has no version."""
        which = "" if version is None else f"/versions/{version}"
        self._call("DELETE", f"/admin/v1/models/{quote(model, safe='')}{which}")

    def rescan(
        self, *, is_strict: bool = False, is_dry_run: bool = False, is_everywhere: bool = False
    ) -> dict[str, Any]:
        """Look at the tenant's versions again, or as an operator at every tenant's; return the operation."""
        path = f"/admin/v1/{'tenants' if is_everywhere else 'models'}:rescan"
        return self._call("POST", path, params={"strict": is_strict, "dry_run": is_dry_run})

    def label(self, model: str, label: str, version: int) -> dict[str, Any]:
        """Point a label at a version."""
        path = f"/admin/v1/models/{quote(model, safe='')}/labels/{quote(label, safe='')}"
        return self._call("PUT", path, json={"version": version})

    def publisher_keys(self) -> list[dict[str, Any]]:
        """Return the public keys whose signatures the caller's tenant takes."""
        return list(self._call("GET", "/admin/v1/publisher-keys")["publisher_keys"])

    def add_publisher_key(self, name: str, key: Mapping[str, Any] | str) -> dict[str, Any]:
        """Register a publisher's public key: a JWK, or PEM."""
        form = {"pem": key} if isinstance(key, str) else {"jwk": dict(key)}
        return self._call("POST", "/admin/v1/publisher-keys", json={"name": name, **form})

    def remove_publisher_key(self, key_id: str) -> None:
        """Have a key verify no upload any more."""
        self._call("DELETE", f"/admin/v1/publisher-keys/{quote(key_id, safe='')}")

    def publishing_rules(self) -> dict[str, bool]:
        """Tell what the caller's tenant demands: `requires_signature`, `requires_second_person`."""
        return self._call("GET", "/admin/v1/publishing-rules")

    def set_publishing_rules(self, **rules: bool) -> dict[str, bool]:
        """Say what the caller's tenant demands; what is left out stays as it is."""
        return self._call("PUT", "/admin/v1/publishing-rules", json=rules)

    def keyrings(self) -> list[dict[str, Any]]:
        """Return the caller's keyrings."""
        return list(self._call("GET", "/admin/v1/keyrings")["keyrings"])

    def rotate(self, purpose: str, *, is_dry_run: bool = False, holder: str | None = None) -> dict[str, Any]:
        """Rotate a keyring, the root's perhaps to another holder; return the operation."""
        path = f"/admin/v1/keyrings/{quote(purpose, safe='')}:rotate"
        moved = {} if holder is None else {"holder": holder}
        return self._call("POST", path, params={"dry_run": is_dry_run, **moved})

    def reseal(self, *, is_dry_run: bool = False) -> dict[str, Any]:
        """Seal every artifact of the caller's tenant anew; return the operation."""
        return self._call("POST", "/admin/v1/keyrings/artifacts:reseal", params={"dry_run": is_dry_run})

    def cancel(self, operation_id: str) -> dict[str, Any]:
        """Have an operation stop at its next step."""
        return self._call("POST", f"/admin/v1/operations/{operation_id}:cancel")

    def tenants(self) -> list[dict[str, Any]]:
        """Return the tenants that the caller may know."""
        return self._listed("/admin/v1/tenants", "tenants")

    def onboard(self, slug: str, owner: str) -> dict[str, Any]:
        """Make a tenant with its first owner, whose password is told this once."""
        return self._call("POST", "/admin/v1/tenants", json={"slug": slug, "owner": owner})

    def tenant_act(self, slug: str, verb: str) -> dict[str, Any]:
        """Suspend, resume or erase a tenant; `verb` is one of these."""
        return self._call("POST", f"/admin/v1/tenants/{quote(slug, safe='')}:{verb}", timeout=_ERASE_TIMEOUT_S)

    def erase_model(self, model: str) -> dict[str, Any]:
        """Erase a model; return the operation, whose result is the certificate."""
        return self._call("POST", f"/admin/v1/models/{quote(model, safe='')}:erase", timeout=_ERASE_TIMEOUT_S)

    def end_key(self, purpose: str, version: int, verb: str) -> dict[str, Any]:
        """Retire or destroy an old key version; `verb` is "retire" or "destroy"."""
        return self._call("POST", f"/admin/v1/keyrings/{quote(purpose, safe='')}/versions/{version}:{verb}")

    def operation(self, operation_id: str) -> dict[str, Any]:
        """Return an operation."""
        return self._call("GET", f"/admin/v1/operations/{operation_id}")

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Call any route of the management API; return what it answers, nothing if it answers nothing."""
        return self._call(method, path, **({} if body is None else {"json": body}))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **rest: Any) -> dict[str, Any]:
        authorization = {"Authorization": f"Bearer {self.token()}"}
        return self._send(method, path, headers={**authorization, **(headers or {})}, **rest)

    def _listed(self, path: str, member: str) -> list[dict[str, Any]]:
        """Return a whole list, page by page."""
        found: list[dict[str, Any]] = []
        asked: dict[str, Any] = {}
        while True:
            page = self._call("GET", path, params=asked)
            found += page[member]
            if page.get("next_cursor") is None:
                return found
            asked["cursor"] = page["next_cursor"]

    def _send(self, method: str, path: str, **rest: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **rest)
        except httpx.HTTPError as cause:
            raise GatewayRefused(0, f"no answer from {self._http.base_url}: {cause}") from cause
        try:
            body: dict[str, Any] = answer.json() if answer.content else {}
        except ValueError:
            body = {}
        if answer.is_error:
            detail = body.get("detail") or body.get("error_description") or body.get("error") or answer.reason_phrase
            raise GatewayRefused(answer.status_code, str(detail))
        return body


def _behind(sample: bytes, file: ModelContent, on_progress: Callable[[int], None]) -> Iterator[bytes]:
    if sample:
        yield sample
    for chunk in file.chunks():
        yield chunk
        on_progress(len(chunk))


def _digest_behind(sample: bytes, file: ModelContent) -> bytes:
    """Return the SHA-256 of all that is sent."""
    if not sample:
        return file.digest()
    digest = hashlib.sha256(sample)
    for chunk in file.chunks():
        digest.update(chunk)
    return digest.digest()


def _signed(signature: bytes | None, key_id: str | None, bundle: bytes | None) -> dict[str, str]:
    """Return the fields that carry a publisher's signature (RFC 9651)."""
    if bundle is not None:
        return {"Model-Signature-Bundle": f":{base64.b64encode(bundle).decode()}:"}
    if signature is None:
        return {}
    named = "" if key_id is None else f', keyid="{key_id}"'
    return {"Model-Signature": f"sig=:{base64.b64encode(signature).decode()}:{named}"}
