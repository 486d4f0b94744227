"""One engine of the voice as the tiers see it: how it is, when it is asked again, what it has done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from appliance.core.backoff import backoff
from appliance.core.model import Health
from appliance.core.voice.model import EngineStatus, Place
from appliance.errors import AbsentError, ApplianceError, VoiceError

AFTER = 3
"""Failures in a row after which an engine of this machine rests; others rest after the first."""


class Tier:
    """One engine, live.

    Args:
        engine: It.
        kind: "stt", "tts" or "wake".
        host: Where it is; empty for this machine.
        seconds: It is given up after so long.
        barred: Why it must not be asked now, not even how it is; empty where it may.
        rest: Seconds until it is looked at again after a failure: at first, and at most.
    """

    def __init__(
        self, engine: Any, kind: str, host: str, seconds: float, barred: Callable[[], str], rest: tuple[float, float]
    ) -> None:
        self.engine = engine
        self.name: str = engine.name
        self.place: Place = engine.place
        self.kind = kind
        self.host = host
        self.seconds = seconds
        self.barred = barred
        self.absent = False
        """It is not installed here."""
        self._rest = rest
        self._status = EngineStatus(self.name, kind, self.place, Health.degraded, "it was not asked yet")
        self._trouble: ApplianceError | None = None
        self._in_a_row = 0
        self._used = self._failed = 0
        self._last_ms: float | None = None
        self._looks: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str:
        """Why it rests; empty where it is asked."""
        rests = self._in_a_row >= (AFTER if self.place is Place.local else 1)
        return self._trouble.message.rstrip(".") if self._trouble is not None and (rests or self.absent) else ""

    def answered(self, seconds: float | None) -> None:
        """It did its work, in so many seconds; None where it knew the answer from before."""
        self._used += 1
        if seconds is not None:
            self._last_ms = round(1000 * seconds, 1)
        self._in_a_row, self._trouble, self.absent = 0, None, False
        self._note(Health.healthy, "answers", "")

    def failed(self, error: ApplianceError) -> None:
        """It did not. It is looked at again by and by, and asked again once it is well."""
        self._used += 1
        self._failed += 1
        self._down(error)
        self._watch()

    async def check(self) -> None:
        """Look how it is, now, where it may be asked that at all. Never raises for what the engine does."""
        if self.barred():
            return
        try:
            async with asyncio.timeout(self.seconds):
                status: EngineStatus = await self.engine.check()
        except (ApplianceError, TimeoutError) as error:
            told = VoiceError(f"It did not answer within {self.seconds:g} s.", "see how busy it is.")
            self._down(error if isinstance(error, ApplianceError) else told)
        else:
            self._take(status)
        if self._trouble is not None:
            self._watch()

    def status(self) -> EngineStatus:
        """For screens."""
        why = self.barred()
        found = self._status
        if why:
            found = msgspec.structs.replace(found, health=Health.absent, reason=f"not asked: {why}", next_step="")
        return msgspec.structs.replace(found, used=self._used, failed=self._failed, last_ms=self._last_ms)

    async def close(self) -> None:
        """Look no more, and let go of the engine."""
        if self._looks is not None:
            self._looks.cancel()
            await asyncio.gather(self._looks, return_exceptions=True)
        await self.engine.close()

    def _take(self, status: EngineStatus) -> None:
        self._status = status
        if status.health is Health.absent:
            self.absent = True
            self._trouble = AbsentError(status.reason, status.next_step)
        elif status.health is Health.unhealthy:
            self._down(VoiceError(status.reason, status.next_step))
        else:
            # That it answers says little of the work itself: only work done ends the count by which the next rest is longer.
            self.absent, self._trouble = False, None

    def _down(self, error: ApplianceError) -> None:
        self._in_a_row += 1
        self._trouble = error
        self.absent = isinstance(error, AbsentError)
        self._note(Health.absent if self.absent else Health.unhealthy, error.message, error.next_step)

    def _note(self, health: Health, reason: str, step: str) -> None:
        self._status = msgspec.structs.replace(self._status, health=health, reason=reason, next_step=step, checked=time.time())

    def _watch(self) -> None:
        if self._looks is None or self._looks.done():
            self._looks = asyncio.get_running_loop().create_task(self._look(), name=f"voice: {self.kind} of {self.name}")

    async def _look(self) -> None:
        """Look at it, seldomer and seldomer, until it is well. One that must not be asked gets its chance once it may."""
        row = self._in_a_row
        while self._trouble is not None:
            await asyncio.sleep(backoff(row, *self._rest))
            row += 1
            if self.barred():
                self._trouble = None
                return
            try:
                async with asyncio.timeout(self.seconds):
                    self._take(await self.engine.check())
            except (ApplianceError, TimeoutError) as error:
                told = VoiceError(f"It did not answer within {self.seconds:g} s.", "see how busy it is.")
                self._down(error if isinstance(error, ApplianceError) else told)
