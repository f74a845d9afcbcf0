"""One prediction, start to end: the conductor that every door calls.

Order: may the caller, whose model is it and is the caller within its limits (nothing is read before that is known),
which version, is it in memory, what was sent, are its rows within the limits, what the model says.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from maas_gateway.clock import Deadline
from maas_gateway.dataplane.models import Models
from maas_gateway.dataplane.servables import Servable, Servables
from maas_gateway.dataplane.terms import Terms, TermsBook
from maas_gateway.dataplane.turnstile import Turnstile
from maas_gateway.errors import ModelNotReady, NeverBegun, NotFound, SignatureMismatch, Unavailable
from maas_gateway.identifiers import ModelRef
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize_model
from maas_gateway.principal import Principal
from maas_gateway.quotas.limiter import Admission, Limiter
from maas_gateway.quotas.limits import Limits
from maas_gateway.registry.model import ModelVersion
from maas_gateway.tensors.inference import InferenceRequest, InferenceResponse
from maas_gateway.tensors.signature import ModelSignature

Reader = Callable[[ModelSignature], Awaitable[InferenceRequest]]


class Arriving(Protocol):
    """A request's body, which may not have arrived yet."""

    @property
    def n_body_bytes(self) -> int:
        """Its size as sent: as declared, or 0, until it has been read."""
        ...


class Predict:
    """Answers predictions."""

    def __init__(
        self, models: Models, servables: Servables, terms: TermsBook, limiter: Limiter, *, turnstile: Turnstile
    ) -> None:
        self._turnstile = turnstile
        self._models = models
        self._servables = servables
        self._terms = terms
        self._limiter = limiter

    async def predict(
        self, principal: Principal, ref: ModelRef, read: Reader, deadline: Deadline, *, arriving: Arriving
    ) -> InferenceResponse:
        """Answer one prediction.

        Args:
            principal: who asks.
            ref: for which model, perhaps a version or label of it.
            read: reads the body once the signature is known; called at most once.
            deadline: when an answer is of no use any more.
            arriving: the body, to be counted.

        Raises:
            ModelNotFound: there is no such model, version or label for this caller.
            PermissionDenied: the caller may read the model and not predict.
            QuotaExceeded: a limit is reached.
            ModelNotReady: the version could not be loaded.
            InvalidRequest: what was sent does not fit the model.
            Overloaded: too many requests wait for this model.
            DeadlineExceeded: time ran out.
        """
        authorize_model(principal, Permission.MODEL_PREDICT, ref)
        version = self._models.find(principal.tenant, ref) or await self._models.resolve(
            principal.tenant, ref, deadline
        )
        terms = self._terms.kept(principal, ref.name) or await self._terms.find(principal, ref.name)
        asking = _Asking(principal, ref, read, deadline)
        await self._turnstile.enter(principal.tenant, deadline)
        try:
            if terms.limits is None:
                return await self._answer(asking, version, terms)
            return await self._answer_within(terms.limits, asking, version, terms, arriving=arriving)
        finally:
            self._turnstile.leave(principal.tenant)

    async def _answer_within(
        self, limits: Limits, asking: "_Asking", version: ModelVersion, terms: Terms, *, arriving: Arriving
    ) -> InferenceResponse:
        admission = await self._limiter.enter(limits, arriving.n_body_bytes)
        try:
            return await self._answer(asking, version, terms, _Counted(self._limiter, admission, arriving))
        finally:
            await self._limiter.leave(admission)

    async def _answer(
        self, asking: "_Asking", version: ModelVersion, terms: Terms, counted: "_Counted | None" = None
    ) -> InferenceResponse:
        servable = self._servables.ready(version) or await self._servables.get(version, asking.deadline)
        request = await asking.read(servable.signature)
        if counted is not None:
            await counted.spend(request.n_rows)
        tenant, deadline, charge = asking.principal.tenant, asking.deadline, terms.meter.count
        if request.timeout_s is not None:
            deadline = deadline.sooner(request.timeout_s)
        try:
            try:
                outputs = await servable.batcher.submit(request, tenant, deadline, charge)
            except ModelNotReady:
                servable = await self._successor(servable, asking)
                outputs = await servable.batcher.submit(request, tenant, deadline, charge)
        except (Unavailable, SignatureMismatch, NotFound, NeverBegun):
            if counted is not None:
                await counted.refund()  # nothing was computed
            raise
        return InferenceResponse(asking.ref.name, servable.version.version, outputs)

    async def _successor(self, drained: Servable, asking: "_Asking") -> Servable:
        """Return what took the place of a version that was unloaded while the body was being read.

        Raises:
            ModelNotReady: its signature is another one, so what was read does not fit it.
        """
        ref = asking.ref
        version = await self._models.resolve(asking.principal.tenant, ref, asking.deadline)
        servable = await self._servables.get(version, asking.deadline)
        if servable.signature != drained.signature:
            raise ModelNotReady(f"model '{ref}' changed while the request was read; send it again", retry_after_s=1)
        return servable


@dataclass(slots=True)  # not frozen: made for each request, in a third of the time
class _Asking:
    principal: Principal
    ref: ModelRef
    read: Reader
    deadline: Deadline


@dataclass(slots=True)
class _Counted:
    limiter: Limiter
    admission: Admission
    arriving: Arriving

    async def spend(self, n_rows: int) -> None:
        await self.limiter.spend(self.admission, n_rows, self.arriving.n_body_bytes)

    async def refund(self) -> None:
        await self.limiter.refund(self.admission)
