"""What a model has computed, as the statistics extension tells it.

Rules: counts are this process's, since it loaded the version; a request's time is cut into waiting and computing;
reading and writing bodies is in neither, so that input and output take no time of their own, as often as was computed:
`perf_analyzer` ends where the three counts differ; times are nanoseconds; there is no response cache, so its counts
are 0.

Source: NVIDIA Triton, "Statistics Extension", "Statistics Response JSON Object".
"""

from collections.abc import Iterable

import orjson

from maas_gateway.clock import SystemClock
from maas_gateway.inference.statistics import Statistics, Tally

_NS_PER_S = 1e9
_MS_PER_S = 1e3
_NONE = Tally()


def write_statistics(models: Iterable[tuple[str, int, Statistics]]) -> bytes:
    """Return the body that tells the statistics of model versions.

    Args:
        models: name, version and counts of each.
    """
    clock = SystemClock()
    epoch_s = clock.unix_s() - clock.monotonic_s()
    return orjson.dumps(
        {
            "model_stats": [
                {
                    "name": name,
                    "version": str(version),
                    "last_inference": 0
                    if counts.last_at_s is None
                    else round((epoch_s + counts.last_at_s) * _MS_PER_S),
                    "inference_count": counts.rows_answered,
                    "execution_count": counts.computed.n,
                    "inference_stats": {
                        "success": _told(counts.answered),
                        "fail": _told(counts.failed),
                        "queue": _told(counts.waited),
                        **_computing(counts.ran),
                        "cache_hit": _told(_NONE),
                        "cache_miss": _told(_NONE),
                    },
                    "response_stats": {},
                    "batch_stats": [
                        {"batch_size": rows, **_computing(tally)} for rows, tally in sorted(counts.by_rows.items())
                    ],
                    "memory_usage": [],
                }
                for name, version, counts in models
            ]
        }
    )


def _computing(tally: Tally) -> dict[str, dict[str, int]]:
    no_time = Tally(tally.n)
    return {
        "compute_input": _told(no_time),
        "compute_infer": _told(tally),
        "compute_output": _told(no_time),
    }


def _told(tally: Tally) -> dict[str, int]:
    return {"count": tally.n, "ns": max(0, round(tally.s * _NS_PER_S))}
