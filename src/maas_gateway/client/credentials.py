"""Who a client is: a token, an API key, or what a token is fetched for.

Rules: a token is fetched when it is first needed, kept, and fetched again a while before it ends; a user's refresh token
is spent for that, the password only where there is none. A request that is refused as 401 is repeated once with a new
token, unless its body was a stream and has gone. Credentials are sent to the gateway's own address only.

Source: RFC 6749 sections 4.3, 4.4 and 6; RFC 6750 section 2.1.
"""

import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from maas_gateway.client.failure import refusal

_RENEW_BEFORE_S = 30.0
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Token:
    """An access token that is there already, of this gateway or of a registered identity provider."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class APIKey:
    """An API key."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Password:
    """A user's.

    Attributes:
        username: `<name>@<tenant>`.
        password: as it was typed.
    """

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """A service account's."""

    client_id: str
    client_secret: str = field(repr=False)


Credential = Token | APIKey | Password | ClientCredentials


class GatewayAuth(httpx.Auth):
    """Puts a credential on requests; for `httpx.Client` and `httpx.AsyncClient`, several threads or tasks at once.

    Args:
        credential: whose requests they are.
        scope: permissions to ask for, separated by spaces; None for all that there are.
    """

    requires_response_body = False

    def __init__(self, credential: Credential, *, scope: str | None = None) -> None:
        self._credential = credential
        self._scope = scope
        self._lock = threading.Lock()
        self._token = credential.text if isinstance(credential, Token | APIKey) else None
        self._refresh_token: str | None = None
        self._ends_at_s = float("inf") if self._token is not None else 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yield the requests that it takes; what httpx calls."""
        token = self._usable()
        if token is None:
            token = yield from self._fetch(request)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != _UNAUTHORIZED or isinstance(self._credential, Token | APIKey):
            return
        if not isinstance(request.stream, httpx.ByteStream):
            return  # a stream can be sent once
        token = yield from self._fetch(request, unlike=token)
        request.headers["Authorization"] = f"Bearer {token}"
        yield request

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """As `auth_flow`, with token answers read."""
        flow = self.auth_flow(request)
        asked = next(flow)
        while True:
            response = yield asked
            if asked is not request:
                response.read()
            try:
                asked = flow.send(response)
            except StopIteration:
                return

    async def async_auth_flow(self, request: httpx.Request) -> Any:
        """As `auth_flow`, with token answers read."""
        flow = self.auth_flow(request)
        asked = next(flow)
        while True:
            response = yield asked
            if asked is not request:
                await response.aread()
            try:
                asked = flow.send(response)
            except StopIteration:
                return

    def _usable(self, *, unlike: str | None = None) -> str | None:
        """Return the token if it lasts for a while, and is not the one that was refused."""
        with self._lock:
            is_fresh = self._token is not None and time.monotonic() < self._ends_at_s - _RENEW_BEFORE_S
            return self._token if is_fresh and self._token != unlike else None

    def _fetch(
        self, request: httpx.Request, *, unlike: str | None = None
    ) -> Generator[httpx.Request, httpx.Response, str]:
        """Fetch a token, by the refresh token if there is one that still counts."""
        found = self._usable(unlike=unlike)  # another thread has fetched one meanwhile
        if found is not None:
            return found
        with self._lock:
            spent, self._refresh_token = self._refresh_token, None
        if spent is not None:
            response = yield self._asking(request, {"grant_type": "refresh_token", "refresh_token": spent})
            if response.is_success:
                return self._take(response.json())
        response = yield self._asking(request, self._form())
        if response.is_success:
            return self._take(response.json())
        raise refusal(response.status_code, _json_of(response), response.headers, reason=response.reason_phrase)

    def _asking(self, request: httpx.Request, form: Mapping[str, str]) -> httpx.Request:
        scoped = form if self._scope is None else {**form, "scope": self._scope}
        return httpx.Request("POST", request.url.copy_with(raw_path=b"/oauth/token"), data=dict(scoped))

    def _form(self) -> dict[str, str]:
        who = self._credential
        if isinstance(who, Password):
            return {"grant_type": "password", "username": who.username, "password": who.password}
        if isinstance(who, ClientCredentials):
            return {
                "grant_type": "client_credentials",
                "client_id": who.client_id,
                "client_secret": who.client_secret,
            }
        raise TypeError("a token or an API key is there already")

    def _take(self, answer: Mapping[str, Any]) -> str:
        with self._lock:
            token = str(answer["access_token"])
            self._token = token
            self._refresh_token = answer.get("refresh_token")
            self._ends_at_s = time.monotonic() + float(answer.get("expires_in", 0))
        return token


def _json_of(response: httpx.Response) -> Mapping[str, object]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
