"""Builds what computes: this process's threads, and the confined processes beside it.

Rules: what is opened here is closed with the gateway, versions in memory first, so that running requests finish.
"""

from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from maas_gateway.controlplane.acting import Acting
from maas_gateway.dataplane.processes import Processes, ProcessLimits
from maas_gateway.dataplane.servables import BatchLimits, Servables
from maas_gateway.inference.fairness import FairTime
from maas_gateway.inference.threads import ThreadExecutor
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.settings import groups
from maas_gateway.telemetry.metrics import Metrics


def open_servables(
    inference: groups.Inference,
    processes: groups.Processes,
    artifacts: Artifacts,
    *,
    fair_time: FairTime,
    acting: Acting,
    metrics: Metrics,
    spawn: Callable[[Coroutine[Any, Any, None]], None],
    stack: AsyncExitStack,
) -> Servables:
    """Return an empty set of servables, with everything that they will be computed on.

    Args:
        inference: how predictions run.
        processes: what confined processes may take.
        artifacts: where sealed plans are.
        fair_time: says whose turn it is.
        acting: clock and audit log.
        metrics: where it counts.
        spawn: runs background work.
        stack: closes it.
    """
    executor = ThreadExecutor(inference.n_threads, fair_time=fair_time)
    stack.callback(executor.close)
    limits = ProcessLimits(
        per_tenant=processes.per_tenant,
        in_all=processes.in_all,
        memory_bytes=processes.memory_bytes,
        n_threads=processes.n_threads,
        call_s=processes.call_s,
        load_s=processes.load_s,
    )
    confined = Processes(limits, fair_time, metrics)
    stack.callback(confined.close)
    servables = Servables(
        artifacts,
        executor,
        processes=confined,
        limits=BatchLimits(inference.max_batch_rows, inference.max_queue),
        fair_time=fair_time,
        audit=acting.audit,
        metrics=metrics,
        clock=acting.clock,
        spawn=spawn,
    )
    stack.push_async_callback(servables.close)
    return servables
