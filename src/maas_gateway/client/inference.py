"""Clients of the prediction doors, for programs: `Client` and, for asyncio, `AsyncClient`.

    with Client("https://models.example", APIKey("…")) as gateway:
        answer = gateway.infer("breast-cancer", {"measurements": rows})
        print(answer.outputs["benign"])

Rules: both send and read the same; tensors go and come as raw bytes; what is refused is one of `failure`'s classes; a
client may be used by several threads (or tasks) at once, and keeps its connections until it is closed.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, Self
from urllib.parse import quote

import httpx
import numpy as np

from maas_gateway.client.credentials import Credential, GatewayAuth
from maas_gateway.client.failure import GatewayRefused, NoAnswer, refusal
from maas_gateway.client.retries import Retries
from maas_gateway.client.tensors import Answer, read_answer, write_request

Arrays = Mapping[str, np.ndarray | Iterable[Any]]
"""By input: an array, or what NumPy makes one of."""

_OK = 200


class _Requests:
    """What both clients send; neither sends it here."""

    def __init__(self, http: httpx.Client | httpx.AsyncClient, retries: Retries) -> None:
        self._made_by = http
        self.retries = retries

    def infer(
        self,
        model: str,
        inputs: Arrays,
        *,
        version: int | None,
        label: str | None,
        outputs: Iterable[str] | None,
        classes: int,
        timeout_s: float | None,
        priority: int,
    ) -> httpx.Request:
        parameters: dict[str, int] = {}
        if timeout_s is not None:
            parameters["timeout"] = max(1, round(timeout_s * 1e6))
        if priority:
            parameters["priority"] = priority
        headers, body = write_request(inputs, outputs=outputs, classes=classes, parameters=parameters)
        path = f"/v2/models/{_which(model, version, label)}/infer"
        return self._made_by.build_request("POST", path, headers=headers, content=body)

    def get(self, path: str) -> httpx.Request:
        return self._made_by.build_request("GET", path)


class Client:
    """One gateway, as one caller.

    Args:
        base_url: its address.
        credential: whose requests they are.
        scope: permissions to ask for, separated by spaces; None for all that the caller has.
        timeout_s: how long one request may take, pauses not counted.
        retries: when a request is sent again.
        **http: whatever `httpx.Client` takes, such as `verify` or `cert`.

    Raises (every method):
        GatewayRefused: one of its classes.
    """

    def __init__(
        self,
        base_url: str,
        credential: Credential,
        *,
        scope: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        **http: Any,
    ) -> None:
        auth = GatewayAuth(credential, scope=scope)
        self._http = httpx.Client(base_url=base_url, auth=auth, timeout=timeout_s, **http)
        self._requests = _Requests(self._http, retries or Retries())

    def infer(
        self,
        model: str,
        inputs: Arrays,
        *,
        version: int | None = None,
        label: str | None = None,
        outputs: Iterable[str] | None = None,
        classes: int = 0,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> Answer:
        """Run a model.

        Args:
            model: its name, `<owner>.<model>` for one that another tenant shares.
            inputs: arrays by the inputs' names; the first dimension is rows.
            version: which version; the newest that serves if neither it nor a label is given.
            label: which version, by its label.
            outputs: names of the outputs wanted; None for all.
            classes: of each output wanted, its best classes in the place of its values.
            timeout_s: after which the gateway gives the request up.
            priority: 1 goes first among this tenant's waiting requests, 0 last.
        """
        return _answer(
            self._send(
                self._requests.infer(
                    model,
                    inputs,
                    version=version,
                    label=label,
                    outputs=outputs,
                    classes=classes,
                    timeout_s=timeout_s,
                    priority=priority,
                )
            )
        )

    def models(self) -> list[str]:
        """Return the names of the models that the caller may use."""
        return list(self._send(self._requests.get("/v2/models")).json()["models"])

    def metadata(self, model: str, *, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """Return a model's serving versions, inputs and outputs."""
        return dict(self._send(self._requests.get(f"/v2/models/{_which(model, version, label)}")).json())

    def is_ready(self, model: str | None = None, *, version: int | None = None, label: str | None = None) -> bool:
        """Tell whether the gateway, or a model of it, takes requests now."""
        path = "/v2/health/ready" if model is None else f"/v2/models/{_which(model, version, label)}/ready"
        try:
            return self._http.send(self._requests.get(path)).status_code == _OK
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: httpx.Request) -> httpx.Response:
        retries, n_sent = self._requests.retries, 0
        while True:
            n_sent += 1
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                pause_s = retries.after_failure(error, n_sent)
                if pause_s is None:
                    raise _unanswered(request, error) from error
            else:
                pause_s = retries.after_answer(request, response, n_sent)
                if pause_s is None:
                    return _checked(response)
            time.sleep(pause_s)


class AsyncClient:
    """The same as `Client`, for asyncio."""

    def __init__(
        self,
        base_url: str,
        credential: Credential,
        *,
        scope: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        **http: Any,
    ) -> None:
        auth = GatewayAuth(credential, scope=scope)
        self._http = httpx.AsyncClient(base_url=base_url, auth=auth, timeout=timeout_s, **http)
        self._requests = _Requests(self._http, retries or Retries())

    async def infer(
        self,
        model: str,
        inputs: Arrays,
        *,
        version: int | None = None,
        label: str | None = None,
        outputs: Iterable[str] | None = None,
        classes: int = 0,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> Answer:
        """Run a model; see `Client.infer`."""
        return _answer(
            await self._send(
                self._requests.infer(
                    model,
                    inputs,
                    version=version,
                    label=label,
                    outputs=outputs,
                    classes=classes,
                    timeout_s=timeout_s,
                    priority=priority,
                )
            )
        )

    async def models(self) -> list[str]:
        """Return the names of the models that the caller may use."""
        return list((await self._send(self._requests.get("/v2/models"))).json()["models"])

    async def metadata(self, model: str, *, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """Return a model's serving versions, inputs and outputs."""
        return dict((await self._send(self._requests.get(f"/v2/models/{_which(model, version, label)}"))).json())

    async def is_ready(self, model: str | None = None, *, version: int | None = None, label: str | None = None) -> bool:
        """Tell whether the gateway, or a model of it, takes requests now."""
        path = "/v2/health/ready" if model is None else f"/v2/models/{_which(model, version, label)}/ready"
        try:
            return (await self._http.send(self._requests.get(path))).status_code == _OK
        except httpx.TransportError:
            return False

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        retries, n_sent = self._requests.retries, 0
        while True:
            n_sent += 1
            try:
                response = await self._http.send(request)
            except httpx.TransportError as error:
                pause_s = retries.after_failure(error, n_sent)
                if pause_s is None:
                    raise _unanswered(request, error) from error
            else:
                pause_s = retries.after_answer(request, response, n_sent)
                if pause_s is None:
                    return _checked(response)
            await asyncio.sleep(pause_s)


def _which(model: str, version: int | None, label: str | None) -> str:
    if version is not None and label is not None:
        raise ValueError("name a version or a label, not both")
    name = quote(model, safe="")
    if version is not None:
        return f"{name}/versions/{version}"
    return name if label is None else f"{name}/labels/{quote(label, safe='')}"


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        body = response.json()
    except ValueError:
        body = {}
    said = body if isinstance(body, dict) else {}
    raise refusal(response.status_code, said, response.headers, reason=response.reason_phrase)


def _answer(response: httpx.Response) -> Answer:
    try:
        return read_answer(response.headers, response.content)
    except (KeyError, TypeError, ValueError) as cause:
        raise GatewayRefused(response.status_code, "the gateway's answer is none of this protocol") from cause


def _unanswered(request: httpx.Request, error: httpx.TransportError) -> NoAnswer:
    return NoAnswer(0, f"no answer from {request.url.host}: {str(error) or type(error).__name__}")
