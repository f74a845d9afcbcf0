"""The ASGI application: prediction doors first, then FastAPI; opened and closed by its lifespan.

Rules: a request for a prediction door never enters the framework; everything else does. The
application object is a FastAPI app, so that its document, its routes and its tools work as usual.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from maas_gateway import __version__
from maas_gateway.admin import (
    accounts,
    admission,
    api_keys,
    audit,
    identity_providers,
    keys,
    models,
    publishing,
    quotas,
    shares,
    tenants,
    tokens,
)
from maas_gateway.admin.callers import handle_errors
from maas_gateway.background import background, every
from maas_gateway.clock import SystemClock
from maas_gateway.confinement.limits import harden_process
from maas_gateway.dataplane.servables import BatchLimits
from maas_gateway.gateway import Gateway, open_gateway
from maas_gateway.protocols.open_inference.description import OPEN_INFERENCE_PATHS
from maas_gateway.protocols.open_inference.grpc.calls import Calls
from maas_gateway.protocols.open_inference.grpc.methods import Methods
from maas_gateway.protocols.open_inference.grpc.server import GRPCBounds, serving
from maas_gateway.protocols.open_inference.repository import Repository
from maas_gateway.protocols.open_inference.routes import OpenInferenceDialect, OpenInferenceRoutes
from maas_gateway.protocols.tf_serving.description import TF_SERVING_PATHS
from maas_gateway.protocols.tf_serving.routes import TFServingDialect, TFServingRoutes
from maas_gateway.settings import Settings, load_settings
from maas_gateway.telemetry import logs
from maas_gateway.telemetry.metrics import Metrics
from maas_gateway.web import pages
from maas_gateway.web.door import Door, PredictionLimits
from maas_gateway.web.exchange import Receive, Scope, Send
from maas_gateway.web.middleware import Frame
from maas_gateway.web.readiness import Readiness, last_of_connection
from maas_gateway.web.tls import LOOK_EVERY_S, ServerTLS, TLSFiles

DESCRIPTION = """Serve models that must not leak, to clients who are not fully trusted.

Get a token at `POST /oauth/token`, or press *Authorize*: a user signs in with a username of the form
`<name>@<tenant>` and a password, a service account with its client id and secret.
"""


class GatewayApp(FastAPI):
    """FastAPI with the prediction doors in front of it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            title="maas-gateway",
            version=__version__,
            description=DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,  # a redirect would be built from the Host header, which anybody can set
            lifespan=self._lifespan,
        )
        self.settings = settings
        self.state.issuer = settings.base_url
        self._tf_serving: TFServingRoutes | None = None
        self._open_inference: OpenInferenceRoutes | None = None
        self._batches = BatchLimits(settings.inference.max_batch_rows, settings.inference.max_queue)
        self.metrics = Metrics()
        self.readiness = Readiness()
        self.tls = _tls(settings, self.metrics)
        for router in (pages.router, tokens.router, models.router, keys.router, tenants.router, accounts.router):
            self.include_router(router)
        self.include_router(audit.router)
        self.include_router(api_keys.router)
        self.include_router(identity_providers.router)
        self.include_router(admission.router)
        self.include_router(publishing.router)
        self.include_router(quotas.router)
        self.include_router(shares.router)
        handle_errors(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: at a prediction door if the path is one's, else through the framework."""
        if scope["type"] == "http":
            if not self.readiness.is_ready:
                send = last_of_connection(send)
            path = scope["path"]
            if self._tf_serving is not None and TFServingRoutes.takes(path):
                await self._tf_serving(scope, receive, send)
                return
            if self._open_inference is not None and OpenInferenceRoutes.takes(path):
                await self._open_inference(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Put the frame around everything that the framework answers, its own error page included."""
        return Frame(super().build_middleware_stack(), self.metrics)

    def openapi(self) -> dict[str, Any]:
        """Return the document of every route, the prediction doors' included."""
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title, version=self.version, description=self.description, routes=self.routes
            )
            self.openapi_schema = pages.completed(document, {**TF_SERVING_PATHS, **OPEN_INFERENCE_PATHS})
        return self.openapi_schema

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        async with open_gateway(self.settings, self.metrics) as gateway:
            self.state.gateway = gateway
            http = self.settings.http
            limits = PredictionLimits(http.max_body_bytes, http.deadline_s)
            self._tf_serving = TFServingRoutes(
                _door("tf_serving", TFServingDialect(), gateway), gateway.predict, gateway.describe, limits
            )
            self._open_inference = OpenInferenceRoutes(
                _door("open_inference", OpenInferenceDialect(), gateway),
                gateway.predict,
                gateway.describe,
                _repository(gateway),
                limits=limits,
                batches=self._batches,
                readiness=self.readiness,
            )
            async with self._grpc(gateway), background() as tasks:
                if self.tls is not None:
                    tasks.loop("certificate", every(LOOK_EVERY_S, self.tls.look))
                yield

    @asynccontextmanager
    async def _grpc(self, gateway: Gateway) -> AsyncIterator[None]:
        settings, grpc = self.settings, self.settings.grpc
        if not grpc.is_enabled:
            yield
            return
        calls = Calls(
            gateway.authenticator,
            audit=gateway.audit,
            metrics=gateway.metrics,
            deadline_s=settings.http.deadline_s,
            max_streams=grpc.max_streams,
        )
        methods = Methods(gateway.predict, gateway.describe, _repository(gateway), batches=self._batches)
        knobs = grpc.model_dump(include={field.name for field in fields(GRPCBounds)})
        async with serving(
            calls,
            methods,
            GRPCBounds(**knobs),
            host=settings.grpc_host,
            port=settings.grpc_port,
            readiness=self.readiness,
            tls=None if self.tls is None else self.tls.http2_context,
            is_port_shared=settings.http.workers > 1,
        ) as port:
            self.state.grpc_port = port
            yield


def create_app(settings: Settings | None = None) -> GatewayApp:
    """Return the application; without settings, of the configuration that the environment names.

    Raises:
        Misconfigured: the configuration is wrong.
    """
    if settings is None:  # a worker process of its own, which inherits limits and not the rest
        harden_process()
    found = settings or load_settings()
    logs.configure(form=found.logs.form, level=found.logs.level)
    return GatewayApp(found)


def _repository(gateway: Gateway) -> Repository:
    return Repository(gateway.describe, gateway.promote, gateway.reconciler)


def tls_files(settings: Settings) -> TLSFiles | None:
    """Return the files that TLS is made of; None without TLS."""
    tls = settings.tls
    if tls.certificate_file is None or tls.key_file is None:
        return None
    return TLSFiles(tls.certificate_file, tls.key_file, tls.client_ca_file, tls.requires_client_certificate)


def _tls(settings: Settings, metrics: Metrics) -> ServerTLS | None:
    files = tls_files(settings)
    return None if files is None else ServerTLS(files, SystemClock(), metrics)


def _door(name: str, dialect: TFServingDialect | OpenInferenceDialect, gateway: Gateway) -> Door:
    return Door(name, dialect, gateway.authenticator, audit=gateway.audit, metrics=gateway.metrics)
