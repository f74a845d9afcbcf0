"""A client of the gateway's HTTP interface; it imports no other room, so it can be taken elsewhere.

`from maas_gateway.client import Client, AsyncClient, APIKey`. Names are loaded when they are asked for, so that the command
line, which needs no arrays, starts without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maas_gateway.client.credentials import APIKey, ClientCredentials, Password, Token
    from maas_gateway.client.failure import GatewayRefused
    from maas_gateway.client.inference import AsyncClient, Client
    from maas_gateway.client.retries import Retries
    from maas_gateway.client.tensors import Answer

__all__ = [
    "APIKey",
    "Answer",
    "AsyncClient",
    "Client",
    "ClientCredentials",
    "GatewayRefused",
    "Password",
    "Retries",
    "Token",
]

_PLACES = {
    "APIKey": "credentials",
    "Answer": "tensors",
    "AsyncClient": "inference",
    "Client": "inference",
    "ClientCredentials": "credentials",
    "GatewayRefused": "failure",
    "Password": "credentials",
    "Retries": "retries",
    "Token": "credentials",
}


def __getattr__(name: str) -> Any:
    """Return a public name, loaded now (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
