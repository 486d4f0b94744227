"""Finds UPSes, again and again, and has each of them watched."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from appliance.core.model import Health
from appliance.core.ports import Clock
from appliance.core.power.model import Ups, UpsDriver
from appliance.core.power.watch import Watch

log = logging.getLogger(__name__)

LIMIT = 5.0
"""Seconds for one driver's search."""
MOST = 16
"""UPSes that are watched; further ones are left out, which is told."""
QUIET = 60.0
"""Seconds between two events about the same UPS's silence."""
CLOSING = 1.0
"""Seconds that a driver may take to let go."""


class Finder:
    """All UPSes of this machine.

    Args:
        drivers: Makes the drivers; called when they are first needed.
        clock: Both clocks.
        looked: Called after every look at any of them.
        tell: Told (kind, text, severity) of what came, fell silent, and answers again.
        patience: Seconds of silence until it is told.
    """

    def __init__(
        self, drivers: Callable[[], Sequence[UpsDriver]], clock: Clock, looked: Callable[[], None],
        tell: Callable[[str, str, str], None], patience: float,
    ) -> None:  # fmt: skip
        self.watches: dict[str, Watch] = {}
        self.searches = 0
        self._make, self._clock, self._looked, self._tell, self._patience = drivers, clock, looked, tell, patience
        self._drivers: Sequence[UpsDriver] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._silent: dict[str, float] = {}
        """Name → since when."""
        self._told: dict[str, float] = {}
        """Name → when its silence was last told."""
        self._lost: set[str] = set()
        """Those whose silence was told, and that did not answer since."""
        self._left_out = 0

    async def run(self, seconds: float) -> None:
        """Search until cancelled."""
        while True:
            await self.search()
            await asyncio.sleep(seconds)

    async def search(self) -> None:
        """Ask every driver once; each in a task of its own."""
        if self._drivers is None:
            self._drivers = self._make()
        for found in await asyncio.gather(*(self._probe(driver) for driver in self._drivers)):
            for ups in found:
                await self._take(ups)
        self.searches += 1
        await self._drop_ghosts()
        self._looked()

    async def _probe(self, driver: UpsDriver) -> Sequence[Ups]:
        try:
            async with asyncio.timeout(LIMIT):
                return await driver.probe()
        except TimeoutError:
            log.warning("the search for a UPS of the kind %s took longer than %g s", driver.kind, LIMIT)
        except Exception:
            log.exception("the search for a UPS of the kind %s failed", driver.kind)
        return ()

    async def _take(self, ups: Ups) -> None:
        """Watch a UPS; one that is watched already stays with its driver, unless that says that it is gone."""
        known = self.watches.get(ups.name)
        if known is not None and not known.gone:
            await _close(ups)
            return
        if known is None and len(self.watches) >= MOST:
            self._left_out += 1
            log.warning("%s is not watched: there are %d UPSes already", ups.name, MOST)
            await _close(ups)
            return
        if known is not None:
            await self._end(known)
        else:
            self._tell("ups", f"{ups.name} is found" + (" (simulated)" if ups.simulated else ""), "info")
        watch = self.watches[ups.name] = Watch(ups, self._clock, self._looked)
        if known is not None:  # the same one again: what was believed of it and counted goes on
            watch.take_over(known)
        self._tasks[ups.name] = asyncio.create_task(watch.run(), name=f"ups {ups.name}")

    async def _drop_ghosts(self) -> None:
        """A stand-in that never told anything, and says that it is not there: its like has come."""
        for name, watch in list(self.watches.items()):
            if watch.ghost:
                del self.watches[name]
                self._silent.pop(name, None)
                self._lost.discard(name)
                await self._end(watch)

    def note(self, now: float) -> None:
        """Tell of those that fell silent for long enough, or answer again."""
        for name, watch in self.watches.items():
            if watch.status(feeds_us=False).health is not Health.unhealthy:
                self._silent.pop(name, None)
                if name in self._lost and watch.reading is not None:
                    self._lost.discard(name)
                    self._tell("ups", f"{name} answers again", "info")
                continue
            since = self._silent.setdefault(name, now)
            if name not in self._lost and now - since >= self._patience and now - self._told.get(name, -QUIET) >= QUIET:
                self._lost.add(name)
                self._told[name] = now
                self._tell("ups", f"{name} does not answer: {watch.status(feeds_us=False).reason}", "warning")

    def slope(self, names: Sequence[str]) -> float | None:
        """Percent points that the charge falls by in a second, by whichever falls fastest; None where none is known."""
        found = [self.watches[name].slope() for name in names if name in self.watches]
        return max((each for each in found if each is not None), default=None)

    async def close(self) -> None:
        """Stop watching; what is known of each stays."""
        for watch in self.watches.values():
            await self._end(watch)
        self.watches = {}
        self._drivers = None

    async def _end(self, watch: Watch) -> None:
        task = self._tasks.pop(watch.name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=CLOSING)
        await _close(watch.ups)


async def _close(ups: Ups) -> None:
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await ups.close()
    except Exception:
        log.exception("%s was not let go of", ups.name)
