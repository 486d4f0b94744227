"""Looks at one UPS at its interval, in a task of its own: one that hangs or fails holds up no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from appliance.core.backoff import backoff
from appliance.core.model import Health
from appliance.core.ports import Clock
from appliance.core.power.belief import Belief
from appliance.core.power.combine import Look
from appliance.core.power.model import Supply, Ups, UpsReading, UpsStatus
from appliance.core.power.trend import Trend
from appliance.errors import AbsentError, ApplianceError, DeviceError

log = logging.getLogger(__name__)

LIMIT = 3.0
"""Seconds for one look."""
SOON = 0.2
"""Seconds until the second look, after one that said another thing of mains or did not answer."""
LONGEST = 10.0
"""Seconds between two looks at one that does not answer, at most."""
STALE = 3.0
"""A reading that is older than so many intervals, and 2 s, does not count any more."""


class Watch:
    """One UPS with what is believed of it.

    Args:
        ups: It.
        clock: Both clocks.
        looked: Called after every look.
    """

    def __init__(self, ups: Ups, clock: Clock, looked: Callable[[], None]) -> None:
        self.ups = ups
        self.reading: UpsReading | None = None
        """The newest that can be believed."""
        self.trend = Trend()
        self.refused = self.failed = self.looks = 0
        self.gone = False
        """It said that it is not there any more."""
        self.doubt = ""
        """What of the newest look was refused."""
        self._belief = Belief()
        self._clock, self._looked = clock, looked
        self._error: ApplianceError | None = None
        self._failures = 0

    @property
    def name(self) -> str:
        """Of the UPS."""
        return self.ups.name

    @property
    def ghost(self) -> bool:
        """It never told anything, and says that it is not there: a stand-in for others."""
        return self.gone and self.reading is None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            before = self.reading.supply if self.reading is not None and self._error is None else None
            await self.look()
            changed = (self.reading.supply if self.reading is not None and self._error is None else None) is not before
            await asyncio.sleep(min(SOON, self.ups.interval) if changed else self._pause())

    def _pause(self) -> float:
        if not self._failures:
            return self.ups.interval
        return min(LONGEST, max(self.ups.interval, backoff(self._failures, self.ups.interval, LONGEST)))

    async def look(self) -> None:
        """One look; what it says is believed, refused, or an error."""
        self.looks += 1
        try:
            async with asyncio.timeout(LIMIT):
                self._believe(await self.ups.read())
        except TimeoutError:
            self._fail(DeviceError(f"{self.name} did not answer within {LIMIT:g} s.", "see `prime-spark doctor`."))
        except ApplianceError as error:
            self._fail(error)
        except Exception as error:
            log.exception("the driver of %s failed", self.name)
            self._fail(DeviceError(f"its driver failed: {type(error).__name__}: {error}", "see the log, and report it."))
        self._looked()

    def _believe(self, reading: UpsReading) -> None:
        """Stamped with the clocks that ages are reckoned by here."""
        stamped = msgspec.structs.replace(reading, time=self._clock.wall(), monotonic=self._clock.monotonic())
        judged = self._belief.judge(stamped)
        self.doubt = "; ".join(judged.refused)
        self.refused += bool(judged.refused)
        self.reading = judged.reading
        self.trend.add(judged.reading)
        if self._error is not None:
            log.info("%s answers again", self.name)
        self._error, self._failures, self.gone = None, 0, False

    def _fail(self, error: ApplianceError) -> None:
        self.failed += 1
        self._failures += 1
        self.gone = isinstance(error, AbsentError)
        if self._error is None or self._error.message != error.message:
            log.warning("%s: %s", self.name, error)
        self._error = error

    def newest(self) -> Look:
        """What it says now; nothing where it does not answer, or only long ago."""
        reading = self.reading
        if reading is None or self._error is not None or self._age(reading) > STALE * self.ups.interval + 2.0:
            return Look(self.name)
        return Look(self.name, reading, *self.runtime())

    def _age(self, reading: UpsReading) -> float:
        return self._clock.monotonic() - reading.monotonic

    def runtime(self) -> tuple[float | None, str]:
        """Seconds left and who says so: the UPS, else the trend."""
        if self.reading is None:
            return None, ""
        if self.reading.runtime is not None:
            return self.reading.runtime, "ups"
        left = self.trend.runtime(self.reading.percent) if self.reading.supply is Supply.battery else None
        return left, "trend" if left is not None else ""

    def slope(self) -> float | None:
        """Percent points that its charge falls by in a second: by the trend, else by what the UPS says is left."""
        reading = self.reading
        if reading is None or reading.supply is not Supply.battery:
            return None
        if (slope := self.trend.slope()) is not None or not reading.runtime or reading.percent is None:
            return slope
        return reading.percent / reading.runtime

    def take_over(self, other: Watch) -> None:
        """Go on with what another one knew of the same UPS."""
        self.reading, self.trend, self._belief = other.reading, other.trend, other._belief
        self.refused, self.failed, self.looks = other.refused, other.failed, other.looks
        self._error = other._error

    def status(self, *, feeds_us: bool) -> UpsStatus:
        """For screens. One that does not answer says nothing of now: not what feeds, and not how long."""
        health, reason, step = self._health()
        reading, (runtime, by) = self.reading, self.runtime()
        if self._error is not None and reading is not None:
            reading = msgspec.structs.replace(reading, supply=Supply.unknown, charging=None)
            runtime, by = None, ""
        return UpsStatus(
            name=self.name, kind=self.ups.kind, health=health, reason=reason, next_step=step, reading=reading,
            feeds_us=feeds_us, refused=self.refused, failed=self.failed, runtime=runtime, runtime_by=by,
            simulated=self.ups.simulated,
        )  # fmt: skip

    def _health(self) -> tuple[Health, str, str]:
        if self._error is not None:
            return Health.unhealthy, self._error.message, self._error.next_step
        if self.reading is None:
            return Health.degraded, "not read yet", ""
        if self.doubt:
            return Health.degraded, f"cannot be believed: {self.doubt}", "look at its cable and its battery."
        told = self.reading.status or self.reading.supply.value
        return Health.healthy, told, ""
