"""One prediction, start to end: the conductor that every door calls.

Order: may the caller (nothing is read before that is known), which version, is it in memory, what
was sent, what the model says.
"""

from collections.abc import Awaitable, Callable

from maas_gateway.clock import Deadline
from maas_gateway.dataplane.reconcile import Reconciler
from maas_gateway.dataplane.servables import Servable, Servables
from maas_gateway.errors import ModelNotReady
from maas_gateway.identifiers import ModelRef
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize_model
from maas_gateway.principal import Principal
from maas_gateway.tensors.inference import InferenceRequest, InferenceResponse
from maas_gateway.tensors.signature import ModelSignature

Reader = Callable[[ModelSignature], Awaitable[InferenceRequest]]


class Predict:
    """Answers predictions."""

    def __init__(self, reconciler: Reconciler, servables: Servables) -> None:
        self._reconciler = reconciler
        self._servables = servables

    async def predict(self, principal: Principal, ref: ModelRef, read: Reader, deadline: Deadline) -> InferenceResponse:
        """Answer one prediction.

        Args:
            principal: who asks.
            ref: for which model, perhaps a version or label of it.
            read: reads the body once the signature is known; called at most once.
            deadline: when an answer is of no use any more.

        Raises:
            ModelNotFound: there is no such model, version or label for this caller.
            PermissionDenied: the caller may read the model and not predict.
            ModelNotReady: the version could not be loaded.
            InvalidRequest: what was sent does not fit the model.
            Overloaded: too many requests wait for this model.
            DeadlineExceeded: time ran out.
        """
        authorize_model(principal, Permission.MODEL_PREDICT, ref)
        version = None if self._reconciler.is_stale else self._reconciler.find(principal.tenant, ref)
        if version is None:
            version = await self._reconciler.resolve(principal.tenant, ref, deadline)
        servable = self._servables.ready(version) or await self._servables.get(version, deadline)
        request = await read(servable.signature)
        try:
            outputs = await servable.batcher.submit(request, principal.tenant, deadline)
        except ModelNotReady:
            servable = await self._successor(servable, principal, ref, deadline)
            outputs = await servable.batcher.submit(request, principal.tenant, deadline)
        return InferenceResponse(ref.name, servable.version.version, outputs)

    async def _successor(self, drained: Servable, principal: Principal, ref: ModelRef, deadline: Deadline) -> Servable:
        """Return what took the place of a version that was unloaded while the body was being read.

        Raises:
            ModelNotReady: its signature is another one, so what was read does not fit it.
        """
        version = await self._reconciler.resolve(principal.tenant, ref, deadline)
        servable = await self._servables.get(version, deadline)
        if servable.signature != drained.signature:
            raise ModelNotReady(f"model '{ref}' changed while the request was read; send it again", retry_after_s=1)
        return servable
