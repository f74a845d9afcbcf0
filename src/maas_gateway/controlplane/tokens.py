"""Ending tokens before their time, and telling what one is good for.

Rules: who bears a refresh or an access token may end it; so may who administers accounts of its tenant; to
everybody else it is a token that does not exist. Ending a refresh token ends its sign-in: every refresh token
and every access token that came from it. In force in every process within a second.

Source: RFC 7009 sections 2.1 and 2.2; RFC 7662 sections 2.1 and 2.2.
"""

from datetime import UTC, datetime
from typing import Final

from maas_gateway.accounts.store import TOPIC
from maas_gateway.auth import api_keys, refresh, store
from maas_gateway.auth.authenticator import Authenticator
from maas_gateway.auth.client_secrets import digest_of
from maas_gateway.auth.refresh import RefreshTokens
from maas_gateway.auth.tokens import Tokens
from maas_gateway.controlplane.acting import Acting
from maas_gateway.errors import InvalidRequest, Unauthenticated
from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.permissions import Permission
from maas_gateway.principal import Principal

_ENDING: Final = frozenset({Permission.USER_WRITE, Permission.SERVICE_ACCOUNT_WRITE})
_DEAD: Final[dict[str, object]] = {"active": False}


class ManageTokens:
    """The acts on tokens.

    Args:
        acting: what every act needs.
        tokens: verifies access tokens.
        refresh: ends sign-ins.
        authenticator: tells who a bearer is now.
    """

    def __init__(self, acting: Acting, tokens: Tokens, refresh: RefreshTokens, authenticator: Authenticator) -> None:
        self._acting = acting
        self._refresh = refresh
        self._tokens = tokens
        self._authenticator = authenticator

    async def revoke(self, principal: Principal, text: str) -> None:
        """End a token; one that is unknown, or not the caller's to end, is passed over (RFC 7009 section 2.2).

        Raises:
            InvalidRequest: it is an API key, which has routes of its own, or one of an identity provider, which ends
                its tokens itself.
        """
        if text.startswith(api_keys.PREFIX):
            raise InvalidRequest("an API key is ended by DELETE /admin/v1/api-keys/{id}")
        if text.startswith(refresh.PREFIX):
            found = await store.refresh_token(self._acting.database, digest_of(text))
            if found is None or not _may_end(principal, found.tenant, found.subject):
                return
            async with self._acting.database.write(found.tenant) as session:
                await self._refresh.end(session, found.family)
                await self._acting.record(session, principal, "sign-in.ended", f"account {found.subject}")
        else:
            try:
                token = await self._tokens.verify(text)
            except Unauthenticated:
                await self._refuse_federated(principal, text)
                return
            if not _may_end(principal, token.tenant, token.subject):
                return
            until = datetime.fromtimestamp(token.expires_at + self._tokens.rules.skew_s, UTC)
            async with self._acting.database.write(token.tenant) as session:
                await store.revoke(session, token.token_id, until=until)
                await self._acting.record(session, principal, "token.revoked", f"account {token.subject}")
        self._acting.announce(TOPIC)

    async def introspect(self, principal: Principal, text: str) -> dict[str, object]:
        """Tell what a token of the caller's own tenant is good for now; of any other, that it is not active."""
        if text.startswith(refresh.PREFIX):
            return await self._refresh_token(principal, text)
        try:
            bearer = await self._authenticator.principal(text)
        except Unauthenticated:
            return _DEAD
        if bearer.tenant != principal.tenant:
            return _DEAD
        told: dict[str, object] = {
            "active": True,
            "token_type": "Bearer",
            "scope": " ".join(sorted(bearer.anywhere)),
            "sub": str(bearer.subject),
            "username": bearer.name,
        }
        if not text.startswith(api_keys.PREFIX) and bearer.kind != "federated":
            token, rules = await self._tokens.verify(text), self._tokens.rules
            told |= {"exp": token.expires_at, "jti": token.token_id, "iss": rules.issuer, "aud": rules.audience}
        return told

    async def _refuse_federated(self, principal: Principal, text: str) -> None:
        try:
            bearer = await self._authenticator.principal(text)
        except Unauthenticated:
            return
        if bearer.kind == "federated" and bearer.tenant == principal.tenant:
            raise InvalidRequest("an identity provider issued this token and ends it; here, disable that provider")

    async def _refresh_token(self, principal: Principal, text: str) -> dict[str, object]:
        found = await store.refresh_token(self._acting.database, digest_of(text))
        is_alive = found is not None and not found.is_spent and found.expires_at > self._acting.clock.now()
        if found is None or not is_alive or found.tenant != principal.tenant:
            return _DEAD
        return {
            "active": True,
            "token_type": "refresh_token",
            "scope": " ".join(sorted(found.scope)),
            "sub": str(found.subject),
            "exp": int(found.expires_at.timestamp()),
        }


def _may_end(principal: Principal, tenant: TenantId, subject: SubjectId) -> bool:
    is_own = principal.subject == subject
    return principal.tenant == tenant and (is_own or principal.everywhere >= _ENDING)
