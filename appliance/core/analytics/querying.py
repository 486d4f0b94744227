"""Answers questions about the past: checks them, asks the cache, then the store, and counts."""

from __future__ import annotations

import asyncio
import statistics
from collections import deque

import msgspec

from appliance.core.analytics import buckets, plan, shape
from appliance.core.analytics.asking import DEVICE, TAG, Asked, check
from appliance.core.analytics.cache import AnswerCache, key_of
from appliance.core.analytics.model import Answer, Query, QueryStats
from appliance.core.analytics.names import Names, unknown
from appliance.core.analytics.plan import Level, Part
from appliance.core.analytics.reading import AnalyticsStore, Span
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, ApplianceError, QueryError

TIMES = 500
"""Latest queries whose times are told."""
AT_ONCE = 1000
"""Points that are shaped on the loop: less work than to change threads."""


class Analytics:
    """Questions to one store.

    Args:
        store: Is asked.
        cache: Keeps answers.
        clock: Says what is past.
        state: Shows the counters.
    """

    def __init__(self, store: AnalyticsStore, cache: AnswerCache, clock: Clock, state: LiveState) -> None:
        self.store = store
        self._cache = cache
        self._clock = clock
        self._state = state
        self._metrics = Names("metric", store.metrics, clock, "list them with `prime-spark analytics metrics`.")
        self._devices = Names("device", lambda: store.devices(None), clock, "list them with `prime-spark analytics devices`.")
        self._times: deque[float] = deque(maxlen=TIMES)
        self._stats = QueryStats()
        self.failure: ApplianceError | None = None
        """Why the store gave the last question that reached it no answer; None where it did."""

    async def ask(self, query: Query, *, fresh: bool = False) -> Answer:
        """The answer to a query.

        Args:
            query: The question.
            fresh: Do not take it from the cache.

        Raises:
            QueryError: It cannot be answered as it was asked.
            StoreError: The store fails, or is not there.
        """
        began = self._clock.monotonic()
        try:
            answer = await self._ask(query, began, fresh)
        except ApplianceError as error:
            if not isinstance(error, QueryError | AbsentError):
                self.failure = error
            self._count(None, errors=1)
            raise
        self._count(answer.elapsed_ms, cached=int(answer.cached))
        return answer

    async def _ask(self, query: Query, began: float, fresh: bool) -> Answer:
        asked = check(query)
        await self.store.open()
        key = key_of(asked, self.store.name)
        found = None if fresh else await self._cache.get(key)
        if found is not None and found.as_of <= self._clock.wall():  # else the clock was set back: who knows how old it is
            return msgspec.structs.replace(found, cached=True, elapsed_ms=self._since(began))
        await self._metrics.check([query.metric])
        await self._devices.check(query.devices)
        answer = await self._read(asked, began)
        await self._cache.set(key, asked, answer)
        return answer

    def _since(self, began: float) -> float:
        return round((self._clock.monotonic() - began) * 1000, 3)

    async def _read(self, asked: Asked, began: float) -> Answer:
        as_of = self._clock.wall()
        whole = plan.first_whole(asked, self.store.levels, as_of)
        if whole <= asked.since:
            return await self._read_whole(asked, began, as_of)
        if whole >= asked.until:
            answer = Answer(
                query=asked.query, series=(), store=self.store.name, source=self.store.levels[-1].table, cached=False,
                elapsed_ms=self._since(began), as_of=as_of,
            )  # fmt: skip
        else:
            answer = await self._read_whole(_since(asked, whole), began, as_of)
        return msgspec.structs.replace(answer, kept_since=whole / plan.SECOND)

    async def _read_whole(self, asked: Asked, began: float, as_of: float) -> Answer:
        found = plan.parts(asked, self.store.levels, await self.store.reach(), as_of)
        for part, wider in plan.doubtful(found, self.store.levels, as_of):
            if await self._lacks(asked, part, wider):
                found = plan.rounded(asked, self.store.levels, part.level)
                if not found:
                    raise self._gone(asked, part.level, wider, as_of)
                asked = _until(asked, found[0].until)
                break
        rows = await self.store.rows(asked, found)
        self.failure = None
        span = (asked.until - asked.since) / plan.SECOND / asked.bucket.least  # buckets, which a fill makes points of
        few = max(span, 1.0) * max(1, len(rows)) <= AT_ONCE
        series, cut = shape.shape(asked, rows) if few else await asyncio.to_thread(shape.shape, asked, rows)
        await self._check_tags(asked, rows)
        return Answer(
            query=asked.query, series=series, store=self.store.name, source=plan.source(found), cached=False,
            elapsed_ms=self._since(began), as_of=as_of, cut=cut,
        )  # fmt: skip

    async def _lacks(self, asked: Asked, part: Part, wider: Level) -> bool:
        """Whether readings of a piece are deleted already: a roll-up counted more than there are now."""
        step = wider.width * plan.SECOND
        since = part.since // step * step
        until = -(-min(part.until, round((self._clock.wall() - part.level.keep * 86400) * plan.SECOND)) // step) * step
        metric = asked.query.metric
        had = await self.store.count(wider, metric, since, until)
        return had > 0 and had > await self.store.count(part.level, metric, since, until)

    def _gone(self, asked: Asked, level: Level, wider: Level, now: float) -> QueryError:
        kept = buckets.moment(buckets.micros(now - level.keep * 86400)).strftime("%Y-%m-%dT%H:%M:%SZ")
        what = "single readings" if not level.width else f"spans of {level.width} s"
        step = f"ask for a range that begins after {kept}"
        if asked.merges:
            step += f", or for buckets of whole spans of {wider.width // 60} minutes"
        elif not asked.tagged:
            step += ", or for sum, avg, min, max or count in buckets of whole hours"
        return QueryError(f"That needs {what}, which are kept for {level.keep:g} days; older ones are rolled up.", f"{step}.")

    async def _check_tags(self, asked: Asked, rows: list[shape.Row]) -> None:
        """A tag that no reading carries is one that somebody misspelt."""
        query = asked.query
        unseen = {
            by.removeprefix(TAG)
            for index, by in enumerate(query.group_by)
            if by != DEVICE and not any(row.labels[index] for row in rows)
        }
        if not rows or not any(row.starts for row in rows):
            unseen |= set(query.tags)
        if not unseen:
            return
        known = await self.store.tags(query.metric)
        if missing := sorted(unseen - set(known)):
            raise unknown("tag", missing[0], known, f"list them with `prime-spark analytics tags {query.metric}`.")

    async def close(self) -> None:
        """Let go of the store's connections."""
        await self.store.close()

    async def metrics(self) -> list[str]:
        """Names of all metrics."""
        await self.store.open()
        return await self._metrics.all()

    async def devices(self, metric: str | None) -> list[str]:
        """All devices, or those that have a metric. Raises QueryError."""
        await self.store.open()
        if metric is None:
            return await self._devices.all()
        await self._metrics.check([metric])
        return await self.store.devices(metric)

    async def tags(self, metric: str) -> dict[str, list[str]]:
        """Values by the name of their tag. Raises QueryError."""
        await self.store.open()
        await self._metrics.check([metric])
        return await self.store.tags(metric)

    async def span(self, metric: str) -> Span | None:
        """What is kept of a metric. Raises QueryError."""
        await self.store.open()
        await self._metrics.check([metric])
        return await self.store.span(metric)

    def _count(self, took: float | None, cached: int = 0, errors: int = 0) -> None:
        if took is not None:
            self._times.append(took)
        times = sorted(self._times)
        self._stats = msgspec.structs.replace(
            self._stats,
            store=self.store.name,
            total=self._stats.total + 1,
            cached=self._stats.cached + cached,
            errors=self._stats.errors + errors,
            p50_ms=statistics.median(times) if times else None,
            p95_ms=times[min(len(times) - 1, int(len(times) * 0.95))] if times else None,
            cache_failures=self._cache.failures,
        )
        self._state.put(Section.analytics, self._stats)


def _since(asked: Asked, since: int) -> Asked:
    """The query from another moment, in microseconds."""
    query = msgspec.structs.replace(asked.query, since=since / plan.SECOND)
    return asked._replace(query=query, since=since)


def _until(asked: Asked, until: int) -> Asked:
    """The query up to another moment, in microseconds."""
    query = msgspec.structs.replace(asked.query, until=until / plan.SECOND)
    return asked._replace(query=query, until=until)
