"""Proving who one is: a user by password, a service account by its secret; the answer is a token.

Rules: an unknown name and a wrong secret take the same time and give the same text; the scope is
what was asked for, never more than the bindings give, and all of that if nothing was asked.

Source: RFC 6749 sections 4.3, 4.4 and 5.2.
"""

from dataclasses import dataclass

from maas_gateway.auth import client_secrets, store
from maas_gateway.auth.passwords import Passwords
from maas_gateway.auth.standing import Standings
from maas_gateway.auth.tokens import PASSWORD_CLIENT, Tokens
from maas_gateway.database.engine import Database
from maas_gateway.errors import InvalidRequest, Unauthenticated
from maas_gateway.permissions import Permission
from maas_gateway.principal import Principal


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and what it is for.

    Attributes:
        token: the signed access token.
        life_s: how many seconds it lives.
        scope: the permissions it carries, separated by spaces.
        principal: who got it.
    """

    token: str
    life_s: int
    scope: str
    principal: Principal


class SignIn:
    """Turns a credential into a token."""

    def __init__(self, database: Database, passwords: Passwords, tokens: Tokens, standings: Standings) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens
        self._standings = standings

    async def by_password(self, username: str, password: str, scope: str | None = None) -> IssuedToken:
        """Sign a user in.

        Raises:
            Unauthenticated: the name or the password is wrong, or the account may not act.
            InvalidRequest: the scope names what is no permission.
        """
        user = await store.user(self._database, username)
        is_right, stronger = await self._passwords.check(password, None if user is None else user.password_hash)
        if user is None or not is_right:
            raise Unauthenticated("the username or the password is wrong")
        if stronger is not None:
            await store.rehash(self._database, user, stronger)
        return await self._issue(
            await self._standings.principal(user.tenant, user.subject), client_id=PASSWORD_CLIENT, scope=scope
        )

    async def by_secret(self, client_id: str, secret: str, scope: str | None = None) -> IssuedToken:
        """Sign a service account in.

        Raises:
            Unauthenticated: the client id or the secret is wrong, or the account may not act.
            InvalidRequest: the scope names what is no permission.
        """
        account = await store.client(self._database, client_id)
        digest = None if account is None else account.secret_digest
        if not client_secrets.is_right(secret, digest) or account is None:
            raise Unauthenticated("the client id or the client secret is wrong")
        return await self._issue(
            await self._standings.principal(account.tenant, account.subject), client_id=client_id, scope=scope
        )

    async def _issue(self, principal: Principal | None, *, client_id: str, scope: str | None) -> IssuedToken:
        if principal is None:
            raise Unauthenticated("the account may not act any more")
        granted = principal.anywhere if not scope else principal.anywhere & _permissions(scope)
        token = await self._tokens.issue(
            principal.tenant, principal.subject, client_id=client_id, scope=frozenset(granted)
        )
        return IssuedToken(token, self._tokens.rules.life_s, " ".join(sorted(granted)), principal)


def _permissions(scope: str) -> frozenset[Permission]:
    try:
        return frozenset(Permission(text) for text in scope.split())
    except ValueError as cause:
        raise InvalidRequest(f"scope: {cause}") from cause
