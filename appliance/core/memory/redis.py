"""Tier 1 on Redis 7 or later, over a UNIX socket or TCP.

What Redis holds must never be older than what lies below it. Two guards see to that. Names carry an epoch, which
changes whenever a write may not have arrived, and whenever a new connection meets another server process: older names
are never asked for again. And every read fetches markers in the same request, which a probe renews: a server that was
given another data set does not have them, and all that it says is left out. There are several, because Redis evicts them
as it does values: a reader that misses one beside a good one puts it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from appliance.core.lean import hidden, without_front
from appliance.core.memory.tier import Usage
from appliance.core.model import Health, HealthReport
from appliance.errors import TierFullError, TierUnavailableError

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

TIMEOUT = 2.0
"""Seconds that Redis may take."""
SET_WITH_TTL = """
for i, name in ipairs(KEYS) do redis.call('SET', name, ARGV[i + 1], 'PX', ARGV[1]) end
"""
"""One request for many values with a time to live, which MSET cannot give."""
RENEW = """
local known = #ARGV == 1
for _, held in ipairs(redis.call('MGET', unpack(KEYS))) do
    for i = 2, #ARGV do known = known or held == ARGV[i] end
end
if known then for _, name in ipairs(KEYS) do redis.call('SET', name, ARGV[1]) end end
return known and 1 or 0
"""
"""Sets the markers, in one step with the proof that the server has one that was good before (where there was any)."""
MARKERS = 4
"""What is there is left out only where all of them were evicted between two reads."""
FULL = 0.95
"""Share of its memory from which on a server that evicts nothing counts as full."""
BATCH = 2000
"""Values in one request: a longer one would hold the others up."""


class RedisTier:
    """A cache on a Redis server (implements hot.HotTier).

    Args:
        url: redis://, rediss:// or unix:// address.
        password: Of the server; empty for none.
        device_id: Names of this appliance begin with it, so that several can share a server.
    """

    name = "redis"

    def __init__(self, url: str, password: str, device_id: str) -> None:
        self._url = url
        self._password = password
        self._home = f"ps:{device_id}:"
        self._client: Redis | None = None
        self._marks: tuple[bytes, ...] = ()
        self._process = ""
        self._evicted = 0
        self._evicted_before: int | None = None
        self._script: Any = None
        self._mark: Any = None
        self.policy = "unknown"
        self._cleaning: asyncio.Task[None] | None = None
        self._old = False
        """Whether the server may have something of older epochs."""
        self._new_epoch()

    def _new_epoch(self) -> None:
        self._old = True
        self._epoch = f"{self._home}{secrets.token_hex(4)}:"
        self._markers = [f"{self._epoch}\0{number}" for number in range(MARKERS)]
        self._marks = ()

    async def open(self) -> None:
        """Connect, and mark the data set as ours. Raises TierUnavailableError."""
        for package in ("redis", "redis.asyncio"):
            without_front(package)  # clusters and sentinels
        with hidden("opentelemetry"):  # redis-py would load its whole SDK for metrics that we do not have it make: 6 MB
            from appliance.core.memory.redis_wire import connect

        await self._let_go()  # of a try before that went wrong
        self._client = connect(self._url, self._password, TIMEOUT, self._met)
        self._script = self._client.register_script(SET_WITH_TTL)
        self._mark = self._client.register_script(RENEW)
        await self._renew()
        await self._drop_old_epochs()
        self._old = False

    def _met(self, process: str) -> None:
        """A connection was made: another process than before may have older data with a marker that is still good."""
        if self._process not in {"", process}:
            log.warning("Redis is another process than before: what it holds is left out")
            self._new_epoch()
        self._process = process

    async def close(self) -> None:
        """Close the connections."""
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.wait({self._cleaning})
            self._cleaning = None
        await self._let_go()

    async def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        import redis.exceptions as errors

        try:
            await client.aclose()
        except (errors.RedisError, OSError, TimeoutError) as error:
            log.info("a connection to Redis was not closed cleanly: %s", error or type(error).__name__)

    async def get(self, name: str) -> bytes | None:
        """See hot.HotTier."""
        epoch, marks = self._epoch, self._marks
        async with self._translated() as client:
            *held, value = cast(list[bytes | None], await client.mget(*self._markers, epoch + name))
            return value if await self._trusted(held, epoch, marks) else None

    async def get_many(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """See hot.HotTier."""
        epoch = self._epoch
        found: list[bytes | None] = []
        for start in range(0, len(names), BATCH):
            wanted, marks = [epoch + name for name in names[start : start + BATCH]], self._marks
            async with self._translated() as client:
                values = cast(list[bytes | None], await client.mget(*self._markers, *wanted))
                trusted = await self._trusted(values[:MARKERS], epoch, marks)
            found += values[MARKERS:] if trusted else [None] * len(wanted)
        return found

    async def holds(self, names: Sequence[str]) -> Sequence[bool]:
        """See hot.HotTier."""
        epoch, marks = self._epoch, self._marks
        async with self._translated() as client, client.pipeline(transaction=False) as pipe:
            pipe.mget(self._markers)
            for name in names:
                pipe.exists(epoch + name)
            held, *found = await pipe.execute()
            trusted = await self._trusted(held, epoch, marks)
        return [bool(each) for each in found] if trusted else [False] * len(names)

    async def _trusted(self, held: Sequence[bytes | None], epoch: str, marks: tuple[bytes, ...]) -> bool:
        """Whether an answer with these markers counts, whose request went out in that epoch, with those markers good."""
        if epoch != self._epoch:
            return False
        there = [mark for mark in held if mark is not None]
        if there and all(mark in marks or mark in self._marks for mark in there):
            if len(there) < MARKERS and self._marks:
                await self._mark(keys=self._markers, args=[self._marks[-1], *self._marks])
            return True
        if self._marks:
            log.warning("Redis does not have our marker: it was restarted or given other data; its values are left out")
            self._new_epoch()
        return False

    async def set_many(self, values: Mapping[str, bytes], ttl: float | None) -> None:
        """See hot.HotTier."""
        epoch = self._epoch
        names, framed = [epoch + name for name in values], list(values.values())
        for start in range(0, len(names), BATCH):
            keys, args = names[start : start + BATCH], framed[start : start + BATCH]
            async with self._translated() as client:
                if ttl is None:
                    send: Any = client.execute_command  # its mset() wants a dict, to take it apart again
                    await send("MSET", *chain.from_iterable(zip(keys, args, strict=True)))
                else:
                    await self._script(keys=keys, args=[max(1, int(ttl * 1000)), *args], client=client)

    async def remove(self, names: Iterable[str]) -> None:
        """See hot.HotTier."""
        wanted = [self._epoch + name for name in names]
        if wanted:
            async with self._translated() as client:
                await client.unlink(*wanted)

    def forget_all(self) -> None:
        """A new epoch: what was kept before is never asked for again."""
        self._new_epoch()

    async def health(self) -> HealthReport:
        """From a write and a read; renews the marker."""
        try:
            async with self._translated() as client, asyncio.timeout(TIMEOUT):
                info: dict[str, Any] = await client.info()
                await self._renew()
        except (TierUnavailableError, TierFullError) as error:
            return HealthReport(Health.unhealthy, error.message, error.next_step)
        self._clean()
        self._count_evictions(int(info.get("evicted_keys", 0)))
        self.policy = str(info.get("maxmemory_policy", "unknown"))
        used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
        details = {"used_memory": used, "maxmemory": limit, "version": info.get("redis_version", "")}
        if not limit:
            return HealthReport(
                Health.degraded, "Redis has no memory limit", "set maxmemory and maxmemory-policy allkeys-lru on it.", details
            )
        if self.policy == "noeviction":
            return _filling(used, limit, details)
        return HealthReport(
            Health.healthy, f"Redis {details['version']}, {100 * used // limit} % of {limit // 1048576} MiB", details=details
        )

    def _count_evictions(self, now: int) -> None:
        if self._evicted_before is not None:
            self._evicted += max(0, now - self._evicted_before)
        self._evicted_before = now

    async def usage(self) -> Usage | None:
        """Of the whole server: Redis does not count by name."""
        async with self._translated() as client:
            info: dict[str, Any] = await client.info("memory")
            size = int(await client.dbsize())
        return Usage(size, int(info["used_memory"]))

    def evictions(self) -> int:
        """See hot.HotTier."""
        return self._evicted

    async def _renew(self) -> None:
        """Other markers; those before stay good for reads under way, and for no later ones."""
        fresh, known, epoch = secrets.token_bytes(8), self._marks, self._epoch
        self._marks = (*known[-1:], fresh)
        async with self._translated():
            if not await self._mark(keys=self._markers, args=[fresh, *known]):
                log.warning("Redis lost our markers: its values are left out")
                self._new_epoch()
                self._marks, epoch = (fresh,), self._epoch
                await self._mark(keys=self._markers, args=[fresh])
            if epoch == self._epoch:
                self._marks = (fresh,)

    def _clean(self) -> None:
        """After a change of epoch: give back what the old one holds, in the background."""
        if self._old and (self._cleaning is None or self._cleaning.done()):
            self._old = False
            self._cleaning = asyncio.create_task(self._clean_up(), name="redis clean-up")

    async def _clean_up(self) -> None:
        try:
            await self._drop_old_epochs()
        except (TierUnavailableError, TierFullError) as error:
            log.info("Redis keeps what is not asked for any more: %s", error.message)
            self._old = True  # the next probe that goes well tries again

    async def _drop_old_epochs(self) -> None:
        """Remove what earlier epochs of this appliance left; the server's own limit bounds what is missed."""
        async with self._translated() as client:
            old: list[bytes] = []
            async for name in client.scan_iter(match=f"{self._home}*", count=1000):
                if not name.startswith(self._epoch.encode()):
                    old.append(name)
                if len(old) >= BATCH:
                    await client.unlink(*old)
                    old.clear()
            if old:
                await client.unlink(*old)

    @contextlib.asynccontextmanager
    async def _translated(self) -> AsyncIterator[Redis]:
        """The client, with its errors as ours."""
        import redis.exceptions as errors

        if self._client is None:
            raise TierUnavailableError("Redis is not connected.", "see Services for why.")
        try:
            yield self._client
        except errors.OutOfMemoryError as error:
            raise TierFullError(
                f"Redis takes no more: {error}.", "set maxmemory-policy allkeys-lru on it, or give it more memory."
            ) from error
        except (errors.RedisError, OSError, TimeoutError) as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # redis-py may take a cancellation for a failure to connect
                raise asyncio.CancelledError from error
            if isinstance(error, errors.AuthenticationError) or isinstance(error.__cause__, errors.AuthenticationError):
                raise TierUnavailableError(f"Redis refuses us: {error}.", "check REDIS_PASSWORD.") from error
            raise TierUnavailableError(
                f"Redis does not answer: {error or type(error).__name__}.", "check that redis-server runs."
            ) from error


def _filling(used: int, limit: int, details: dict[str, Any]) -> HealthReport:
    """A server that lets go of nothing: of no use any more once it is full, though the smallest writes still fit."""
    full = used > FULL * limit
    said = "Redis takes no more" if full else "Redis lets go of nothing when it is full"
    return HealthReport(
        Health.unhealthy if full else Health.degraded, f"{said}: noeviction, {100 * used // limit} % of {limit // 1048576} MiB",
        "set maxmemory-policy allkeys-lru on it, or give it more memory.", details,
    )  # fmt: skip
