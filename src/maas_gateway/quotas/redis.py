"""Buckets in Valkey or Redis: one script, one round trip, whatever the number of limits.

Rules: times are the server's own, so that processes whose clocks differ agree; a place that a process died holding is
given back after `PLACE_LIFE_S`. While the server does not answer, every process goes on with its own part of each
limit, tries again after a pause, and says so once: limits that smooth a load must not stop it. What must never be
exceeded, lifetime budgets, is in the database.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog

from maas_gateway.clock import Clock
from maas_gateway.errors import Misconfigured
from maas_gateway.quotas.buckets import PLACE_WAIT_S, ROUNDING_S, Buckets, Shortage
from maas_gateway.quotas.limits import Cost, Measure

PLACE_LIFE_S: Final = 600
DEADLINE_S: Final = 0.25
PAUSE_S: Final = 1.0
_MAX_CONNECTIONS: Final = 32
_PREFIX: Final = "maas:quota:"

_TAKE: Final = (
    f"local ROUNDING = {ROUNDING_S}"
    """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local worst, worst_wait, worst_left = 0, 0, 0
for i, key in ipairs(KEYS) do
  local window, amount, n = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  local wait, left = 0, 0
  if window == 0 then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    local taken = redis.call('ZCARD', key)
    if taken + n > amount then wait, left = -1, math.max(0, amount - taken) end
  elseif amount == 0 then
    wait = window
  else
    local each = window / amount
    local owed = math.max(0, tonumber(redis.call('GET', key) or '0') - now)
    wait = owed - math.max(0, window - n * each)
    left = math.max(0, math.floor(amount - owed / each))
  end
  if wait > ROUNDING or wait == -1 then
    if worst == 0 or wait > worst_wait then worst, worst_wait, worst_left = i, wait, left end
  end
end
if worst > 0 then return {worst, tostring(worst_wait), worst_left} end
for i, key in ipairs(KEYS) do
  local window, amount, n = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  if window == 0 then
    redis.call('ZADD', key, now + ARGV[2], ARGV[1])
    redis.call('EXPIRE', key, ARGV[2])
  else
    local at = math.max(now, tonumber(redis.call('GET', key) or '0')) + n * window / amount
    redis.call('SET', key, string.format('%.6f', at), 'EX', math.max(1, math.ceil(at - now)))
  end
end
return {0, '0', 0}
"""
)
_GIVE_BACK: Final = """
for i, key in ipairs(KEYS) do
  local window, amount, n = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  if window == 0 then
    redis.call('ZREM', key, ARGV[1])
  elseif amount > 0 then
    local at = redis.call('GET', key)
    if at then redis.call('SET', key, string.format('%.6f', at - n * window / amount), 'KEEPTTL') end
  end
end
"""


class RedisBuckets:
    """Buckets that every process shares.

    Args:
        url: `redis://…`, `rediss://…` or `unix://…`.
        own: what counts while the server does not answer.
        clock: what time it is.
        deadline_s: seconds after which the server counts as away.
    """

    def __init__(self, url: str, own: Buckets, clock: Clock, *, deadline_s: float = DEADLINE_S) -> None:
        try:
            from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415  of the extra "redis"
        except ImportError as cause:
            raise Misconfigured("quotas.url needs a client; run: pip install 'maas-gateway[redis]'") from cause
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=deadline_s,
            socket_timeout=deadline_s,
            socket_connect_timeout=deadline_s,
            decode_responses=True,
        )
        self._client: Any = Redis.from_pool(pool)
        self._deadline_s = deadline_s
        self._take = self._client.register_script(_TAKE)
        self._give_back = self._client.register_script(_GIVE_BACK)
        self._own = own
        self._clock = clock
        self._own_places: set[str] = set()  # taken while the server was away, to be given back here
        self._away_until_s = 0.0
        self._is_away = False
        self._log = structlog.get_logger()

    async def take(self, costs: Sequence[Cost], *, place: str) -> Shortage | None:
        """Take every cost, or none."""
        answer = await self._call(self._take, costs, place)
        if answer is None:
            shortage = await self._own.take(costs, place=place)
            if shortage is None and any(cost.limit.measure is Measure.CONCURRENT for cost in costs):
                self._own_places.add(place)
            return shortage
        worst, wait, left = answer
        if not worst:
            return None
        limit = costs[int(worst) - 1].limit
        is_place = limit.measure is Measure.CONCURRENT
        return Shortage(limit, PLACE_WAIT_S if is_place else float(wait), int(left))

    async def give_back(self, costs: Sequence[Cost], *, place: str) -> None:
        """Put back what was taken and not used; what the server cannot be told comes back by itself."""
        is_own = place in self._own_places
        self._own_places.discard(place)
        if is_own or await self._call(self._give_back, costs, place) is None:
            await self._own.give_back(costs, place=place)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _call(self, script: Any, costs: Sequence[Cost], place: str) -> Any:
        """Return what a script answers, an empty text where it answers nothing, or None while there is no server."""
        if self._clock.monotonic_s() < self._away_until_s:
            return None
        arguments: list[str | int] = [place, PLACE_LIFE_S]
        for cost in costs:
            arguments += [cost.limit.window_s, cost.limit.amount, cost.n]
        from redis.exceptions import RedisError  # noqa: PLC0415  see the constructor

        try:
            keys = [_PREFIX + cost.limit.key for cost in costs]
            async with asyncio.timeout(self._deadline_s):
                answer = await script(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as cause:
            self._away_until_s = self._clock.monotonic_s() + PAUSE_S
            if not self._is_away:
                self._log.error("quota_server_away", cause=type(cause).__name__)
            self._is_away = True
            return None
        if self._is_away:
            self._log.info("quota_server_back")
            self._is_away = False
        return answer or ""
