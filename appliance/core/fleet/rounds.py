"""The rounds: each node has its own turns, spread over the interval; none waits for another, and none meets its own next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from appliance.core.backoff import backoff
from appliance.core.fleet.asking import Said, ask
from appliance.core.fleet.model import FleetShell, LinkStatus, NodeMetrics, Reach
from appliance.core.fleet.watch import Watch
from appliance.core.ports import Clock
from appliance.errors import ApplianceError, NotFoundError, UnreachableError

log = logging.getLogger(__name__)

AGAIN, RARELY = 10.0, 600.0
"""Shortest and longest pause, seconds, after facts that came to nothing."""
LOOKS_AGAIN = 300.0
"""Longest pause between looks at a node that does not answer them though its link is up: each leaves processes there."""
SOON, GLANCE = 0.2, 5.0
"""Shortest and longest pause, seconds, between two glances whether a node that is not reached may be tried."""


@dataclass(frozen=True)
class Rhythm:
    """How often, and how much at once.

    Attributes:
        metrics: Seconds between looks.
        facts: Seconds between askings for facts.
        parallel: Nodes that are asked at once.
        connecting: Nodes whose link is not up that are tried at once, beside the others.
        slow: Nodes that are up and did not answer the last time that are asked at once, beside the others.
        heavy: Nodes whose package manager is asked at once.
        updates: Whether it is asked at all.
    """

    metrics: float = 10.0
    facts: float = 300.0
    parallel: int = 32
    connecting: int = 64
    slow: int = 16
    heavy: int = 2
    updates: bool = True


@dataclass(frozen=True)
class Hooks:
    """Who hears of what.

    Attributes:
        changed: Something is known anew of a node.
        looked: A look came to numbers.
    """

    changed: Callable[[Watch], None]
    looked: Callable[[Watch, NodeMetrics], None]


class Turns:
    """The turns of one node.

    Args:
        watch: What is known of it.
        rounds: All of them.
    """

    def __init__(self, watch: Watch, rounds: Rounds) -> None:
        self.watch = watch
        self._rounds = rounds
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = {"metrics": asyncio.Event(), "facts": asyncio.Event()}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {"metrics": [], "facts": []}
        self._failed = 0
        self._lost = False
        self._up = asyncio.Event()
        """A look has come to something since the link was up."""
        self._packages = asyncio.Event()
        """Its package manager's state is another one."""

    def start(self) -> None:
        """Begin, at once."""
        name = self.watch.node.name
        turns = {"metrics": self._look_regularly, "facts": self._ask_regularly}
        if self._rounds.rhythm.updates:
            turns["updates"] = self._ask_for_updates
        self._tasks = [asyncio.create_task(self._on_and_on(each), name=f"fleet {kind} {name}") for kind, each in turns.items()]

    async def stop(self) -> None:
        """No more turns; a question that is under way is given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for future in [*self._waiting["metrics"], *self._waiting["facts"]]:
            if not future.done():
                future.cancel()

    def hurry(self, kind: str) -> asyncio.Future[None]:
        """Have its turn now; done when an asking that began after this has ended, however it did."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[kind].append(future)
        self._wake[kind].set()
        return future

    def nudge(self, reach: Reach) -> None:
        """Its link is another one: look soon; where it was lost, ask for facts anew once it is back."""
        if reach not in {Reach.up, Reach.stale, Reach.connecting}:
            self._lost = True
            self._up.clear()
        self._wake["metrics"].set()

    async def _on_and_on(self, turns: Callable[[], Awaitable[None]]) -> None:
        """Turns that an error of our own does not end: it is told, and they begin anew after a pause."""
        while True:
            try:
                await turns()
            except Exception as error:
                self._failed += 1
                log.exception("the turns of %s failed; they begin anew", self.watch.node.name)
                self.watch.complaint = f"an error of the appliance itself, {type(error).__name__}; its log says more"
                self._rounds.hooks.changed(self.watch)
                await asyncio.sleep(backoff(self._failed, self._rounds.rhythm.metrics, LOOKS_AGAIN))

    async def _turn(self, kind: str, work: Callable[[], Awaitable[None]]) -> None:
        self._wake[kind].clear()
        waiting, self._waiting[kind] = self._waiting[kind], []
        try:
            await work()
        finally:
            if not self._waiting[kind]:  # what changed while it was under way needs no turn of its own
                self._wake[kind].clear()
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def _pause(self, kind: str, until: float) -> None:
        """Sleep, until somebody is in a hurry."""
        left = until - self._rounds.clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                await self._wake[kind].wait()
        except TimeoutError:
            return

    # -- looks

    async def _look_regularly(self) -> None:
        while True:
            if self._waiting["metrics"] or self._due():
                await self._turn("metrics", self._look)
            else:
                self._wake["metrics"].clear()
            await self._pause("metrics", self._next_look())

    def _link(self) -> LinkStatus:
        """How it is reached; as never where it was taken out of the inventory just now."""
        try:
            return self._rounds.shell.link(self.watch.node.name)
        except NotFoundError:
            return LinkStatus()

    def _due(self) -> bool:
        try:
            return self._rounds.shell.due(self.watch.node.name)
        except NotFoundError:
            return False

    def _next_look(self) -> float:
        """Its next turn; where it is not reached, when its link may be tried again, so that the first answer counts."""
        rhythm, now, link = self._rounds.rhythm, self._rounds.clock.monotonic(), self._link()
        if link.reach not in {Reach.up, Reach.stale}:
            return now + min(GLANCE, max(SOON, (link.retry_at or now + GLANCE) - now))
        due = self.watch.next_turn(now, rhythm.metrics)
        if self._failed > 1 and self.watch.complaint:
            return max(due, now + backoff(self._failed, rhythm.metrics, LOOKS_AGAIN))
        return due

    async def _look(self) -> None:
        watch, rounds = self.watch, self._rounds
        lane = rounds.connecting if self._link().reach is not Reach.up else rounds.slow if watch.complaint else rounds.fast
        try:
            async with lane:
                said = await ask(rounds.shell, rounds.clock, watch.node.name, "metrics")
        except NotFoundError:  # it was taken out of the inventory just now
            return
        except ApplianceError as error:
            self._missed(error)
            return
        if self._lost:  # it may have been started anew meanwhile
            self._wake["facts"].set()
        self._failed, self._lost = 0, False
        self._up.set()
        metrics = watch.looked(said)
        rounds.hooks.looked(watch, metrics)
        rounds.hooks.changed(watch)

    def _missed(self, error: ApplianceError) -> None:
        self._failed += 1
        self._lost = True
        self._up.clear()
        self.watch.complaint = "" if isinstance(error, UnreachableError) else error.message
        if self._failed == 1:
            log.info("%s was not looked at: %s", self.watch.node.name, error.message)
        self._rounds.hooks.changed(self.watch)

    # -- facts

    async def _ask_regularly(self) -> None:
        rhythm, clock, failed = self._rounds.rhythm, self._rounds.clock, 0
        while True:
            if not self._waiting["facts"]:
                await self._reached()
            before = self.watch.facts
            await self._turn("facts", self._facts)
            now = clock.monotonic()
            failed = 0 if self.watch.facts is not before else failed + 1
            pause = backoff(failed, AGAIN, RARELY) if failed else 0.0
            due = now + pause if failed else self.watch.next_turn(now, rhythm.facts)
            if not failed and self.watch.wants_updates():
                self._packages.set()
            await self._pause("facts", due)

    async def _reached(self) -> None:
        """Until a look came to something, or somebody is in a hurry: who does not answer is not asked for more."""
        if self._up.is_set():
            return
        up, wake = asyncio.ensure_future(self._up.wait()), asyncio.ensure_future(self._wake["facts"].wait())
        try:
            await asyncio.wait({up, wake}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            wake.cancel()

    async def _facts(self) -> None:
        try:
            self.watch.told(await self._say("host", self._rounds.asking))
        except UnreachableError as error:
            log.info("%s could not be asked for its facts: %s", self.watch.node.name, error.message)
        except ApplianceError as error:
            log.info("%s did not tell its facts: %s", self.watch.node.name, error.message)
            self.watch.not_told(error.message)
        self._rounds.hooks.changed(self.watch)

    async def _ask_for_updates(self) -> None:
        """Whenever its facts tell another state of the package manager; they do not wait for this, for it takes long."""
        while True:
            await self._packages.wait()
            self._packages.clear()
            packages = self.watch.packages
            try:
                self.watch.told_updates(await self._say("slow", self._rounds.heavy), packages)
            except ApplianceError as error:  # asked again after the next facts
                log.info("%s did not tell what could be upgraded: %s", self.watch.node.name, error.message)
                self.watch.updates_not_told(error.message)
            self._rounds.hooks.changed(self.watch)

    async def _say(self, kind: str, lane: asyncio.Semaphore) -> Said:
        async with lane:
            return await ask(self._rounds.shell, self._rounds.clock, self.watch.node.name, kind)


class Rounds:
    """The turns of all nodes.

    Args:
        shell: Reaches them.
        clock: For turns, monotonic.
        rhythm: How often.
        hooks: Who hears of it.
    """

    def __init__(self, shell: FleetShell, clock: Clock, rhythm: Rhythm, hooks: Hooks) -> None:
        self.shell, self.clock, self.rhythm, self.hooks = shell, clock, rhythm, hooks
        self.fast = asyncio.Semaphore(rhythm.parallel)
        self.connecting = asyncio.Semaphore(rhythm.connecting)
        self.slow = asyncio.Semaphore(rhythm.slow)
        self.asking = asyncio.Semaphore(rhythm.parallel)
        self.heavy = asyncio.Semaphore(rhythm.heavy)
        self.turns: dict[str, Turns] = {}

    def add(self, watch: Watch) -> None:
        """A node that is looked at from now on."""
        turns = self.turns[watch.node.name] = Turns(watch, self)
        turns.start()

    async def drop(self, name: str) -> None:
        """One that is not any more."""
        turns = self.turns.pop(name, None)
        if turns is not None:
            await turns.stop()

    async def close(self) -> None:
        """The end."""
        turns, self.turns = list(self.turns.values()), {}
        await asyncio.gather(*(each.stop() for each in turns))
