"""What is known of one endpoint from moment to moment: load, pace, failures, rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.core.backoff import backoff
from appliance.core.llm.faults import BLAMED, Fault, LlmError
from appliance.core.llm.model import EndpointStatus, Kind, ModelInfo, Place, Usage
from appliance.core.llm.policy import View, same
from appliance.core.llm.upstream import Upstream
from appliance.core.model import Health
from appliance.core.ports import Clock
from appliance.settingllm import LlmEndpoint

WEIGHT = 0.2
"""Of the newest value in a moving mean."""
AFTER = 3
"""Failures in a row after which an endpoint rests."""
FIRST_REST, LONGEST_REST = 2.0, 60.0
"""Seconds."""


class Gauge:
    """One endpoint, live.

    Args:
        name: Its name.
        wanted: As it is configured.
        url: Where it is.
        upstream: Speaks with it.
        clock: For times.
    """

    def __init__(self, name: str, wanted: LlmEndpoint, url: str, upstream: Upstream, clock: Clock) -> None:
        self.name, self.wanted, self.url, self.upstream = name, wanted, url, upstream
        self.place, self.kind = Place(wanted.place), Kind(wanted.kind)
        self.models: tuple[ModelInfo, ...] | None = None
        self.version = ""
        self.switch = self.switched_by = ""
        self.in_flight = self.queue = self.requests = self.failures = 0
        self.first_token_ms: float | None = None
        self.tokens_per_s: float | None = None
        self.probe_ms: float | None = None
        self.error_rate: float | None = None
        self.probed = 0.0
        self._clock = clock
        self._slots = asyncio.Semaphore(wanted.limit)
        self._in_a_row = 0
        self._rests_until = 0.0
        self._error: LlmError | None = None
        self._probe_error: LlmError | None = None
        self._was: tuple[Health, str] | None = None
        self._since = 0.0

    # -- load ----------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for one's turn. Raises LlmError where too many wait already."""
        if self._slots.locked() and self.queue >= self.wanted.queue:
            told = f"{self.name} is full: {self.in_flight} under way, {self.queue} waiting."
            raise LlmError(Fault.full, told, "try again in a moment, or add another endpoint.")
        self.queue += 1
        try:
            await self._slots.acquire()
        finally:
            self.queue -= 1
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._slots.release()

    # -- what it did ---------------------------------------------------------------------------------------------------

    async def probe(self) -> None:
        """Look how it is; never raises for what the endpoint does."""
        began = self._clock.monotonic()
        try:
            self.version, self.models = await self.upstream.probe()
        except LlmError as error:
            self._probe_error = error
            self._down(error)
        else:
            self.probe_ms = _mean(self.probe_ms, 1000 * (self._clock.monotonic() - began))
            self._reached()
        self.probed = self._clock.wall()

    def first_token(self, seconds: float) -> None:
        """It began to answer."""
        self.first_token_ms = _mean(self.first_token_ms, 1000 * seconds)

    def answered(self, usage: Usage, seconds: float) -> None:
        """It answered to the end, `seconds` after its first token."""
        self.requests += 1
        self.error_rate = _mean(self.error_rate, 0.0)
        if usage.tokens_out and usage.tokens_out > 1 and seconds > 0:
            self.tokens_per_s = _mean(self.tokens_per_s, (usage.tokens_out - 1) / seconds)
        self._up()

    def failed(self, error: LlmError, model: str) -> None:
        """It did not; what the request itself is to blame for is not held against it."""
        self.requests += 1
        if error.fault is Fault.no_model and self.models is not None:
            self.models = tuple(each for each in self.models if not same(each.name, model))
        if error.fault not in BLAMED:
            return
        self.failures += 1
        self.error_rate = _mean(self.error_rate, 1.0)
        self._down(error)

    def _up(self) -> None:
        self._in_a_row, self._rests_until, self._error, self._probe_error = 0, 0.0, None, None

    def _reached(self) -> None:
        """A probe did well. Against what a request found it says nothing: one that is busy or broken lists its models too.

        So a rest goes on to its end, and only an answer ends the count by which the next rest is longer.
        """
        by_request = self._error is not None and self._error is not self._probe_error and self._error.fault is not Fault.dead
        self._probe_error = None
        if by_request and self.cooldown:
            return
        row = self._in_a_row if by_request or self._error is None else 0
        self._up()
        self._in_a_row = row

    def _down(self, error: LlmError) -> None:
        self._in_a_row += 1
        self._error = error
        rest = 0.0
        if error.fault is Fault.busy:
            rest = FIRST_REST if error.retry_after is None else error.retry_after
        elif self._in_a_row >= AFTER or error.fault in {Fault.dead, Fault.refused}:
            rest = backoff(self._in_a_row, FIRST_REST, LONGEST_REST)
        self._rests_until = max(self._rests_until, self._clock.monotonic() + rest)

    # -- how it is -----------------------------------------------------------------------------------------------------

    @property
    def cooldown(self) -> float:
        """Seconds until it is asked again; 0 where it does not rest."""
        return max(0.0, self._rests_until - self._clock.monotonic())

    @property
    def trouble(self) -> str:
        """Why it is asked last; empty where it is well. After its rest it gets another chance."""
        if self._error is None:
            return ""
        if self.cooldown:
            return f"it rests for {self.cooldown:.0f} s: {self._error.message}"
        return self._error.message if self._error is self._probe_error and self._in_a_row >= AFTER else ""

    def view(self) -> View:
        """For the policy."""
        trouble = self.trouble
        return View(
            name=self.name, place=self.place, kind=self.kind, models=self.models, well=not trouble, trouble=trouble,
            switch=self.switch, in_flight=self.in_flight, limit=self.wanted.limit, queue=self.queue,
            queue_limit=self.wanted.queue, first_token_ms=self.first_token_ms, tokens_per_s=self.tokens_per_s,
            error_rate=self.error_rate, price_in=self.wanted.price_in, price_out=self.wanted.price_out,
        )  # fmt: skip

    def status(self) -> EndpointStatus:
        """For screens."""
        health, reason, step = self._health()
        if (health, self.switch) != self._was:
            self._was, self._since = (health, self.switch), self._clock.wall()
        return EndpointStatus(
            name=self.name, kind=self.kind, place=self.place, url=self.url, health=health, reason=reason, next_step=step,
            models=self.models, version=self.version, switch=self.switch, switched_by=self.switched_by, since=self._since,
            limit=self.wanted.limit, in_flight=self.in_flight, queue=self.queue, queue_limit=self.wanted.queue,
            first_token_ms=_round(self.first_token_ms), tokens_per_s=_round(self.tokens_per_s),
            probe_ms=_round(self.probe_ms), error_rate=_round(self.error_rate, 3),
            cooldown_s=round(self.cooldown, 1) or None, probed=self.probed, requests=self.requests,
            failures=self.failures, price_in=self.wanted.price_in, price_out=self.wanted.price_out,
        )  # fmt: skip

    def _health(self) -> tuple[Health, str, str]:
        if self.switch:
            return Health.degraded, f"{self.switch}, by {self.switched_by}", f"prime-spark llm resume {self.name}"
        if self._error is not None and self._error.fault is Fault.absent:
            return Health.absent, self._error.message, self._error.next_step
        if self._error is not None:
            worst = Health.unhealthy if self._in_a_row >= AFTER or self.cooldown else Health.degraded
            return worst, self._error.message, self._error.next_step
        if not self.probed and not self.requests:
            return Health.degraded, "it was not asked yet", ""
        if self.models is not None and not self.models:
            how = f"put a *.gguf file into {self.url}." if self.kind is Kind.gguf else f"`ollama pull llama3.2` on {self.url}."
            return Health.degraded, "it has no model", f"get one there: {how}"
        return Health.healthy, "answers", ""


def _mean(before: float | None, value: float) -> float:
    return value if before is None else before + WEIGHT * (value - before)


def _round(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)
