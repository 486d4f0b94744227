"""Keeps one service: sees its replicas, has the policy decide, writes that down, and has it done."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from appliance.core.deploy import policy
from appliance.core.deploy.acting import Actor
from appliance.core.deploy.book import REVISIONS, Wanted
from appliance.core.deploy.clearing import clear
from appliance.core.deploy.elastic import Elastic
from appliance.core.deploy.ground import Ground
from appliance.core.deploy.haproxy import Front
from appliance.core.deploy.held import Held, lines, taken_up
from appliance.core.deploy.leaving import leave
from appliance.core.deploy.model import ENDED, DeployEvent, Replica, ReplicaState, Rollout, Stage, Version
from appliance.core.deploy.placing import place, room
from appliance.core.deploy.policy import Position, Sight, View
from appliance.core.deploy.spec import ServiceSpec, parse
from appliance.core.deploy.upkeep import steady
from appliance.core.events import new_id
from appliance.core.model import Severity
from appliance.errors import ApplianceError, StoreError

log = logging.getLogger(__name__)

IDLE = 5.0
"""Seconds between two decisions where nothing is rolled out; sooner where something happened."""
SHOWN = 20
"""Events that are shown."""
LONGEST = 3600.0
"""Most seconds of ill health before a replica is made anew."""


class Keeper:
    """One service.

    Args:
        ground: See Ground.
        wanted: What is kept of it.
    """

    def __init__(self, ground: Ground, wanted: Wanted) -> None:
        self.ground = ground
        self.wanted = wanted
        self.versions: dict[int, Version] = {}
        self.specs: dict[int, ServiceSpec] = {}
        self.helds: dict[str, Held] = {}
        self.position: Position | None = None
        self.last: Rollout | None = None
        """The newest rollout, under way or ended."""
        self.decision: policy.Decision | None = None
        self.events: tuple[DeployEvent, ...] = ()
        self.problem: ApplianceError | None = None
        self.traffic_problem: ApplianceError | None = None
        self.done = False
        """It was removed, and nothing of it is left."""
        self.actor = Actor(ground, wanted.name, self.route, self.note, self.poke, lambda: self.position is not None)
        self.actor.gone = self._gone
        self.elastic = Elastic(ground, self)
        self.lock = asyncio.Lock()
        """Held for a turn, and by operators who change what a turn stands on."""
        self._poked = asyncio.Event()
        self._patience = 1.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """Of the service."""
        return self.wanted.name

    @property
    def spec(self) -> ServiceSpec | None:
        """What is wanted now: of a rollout the new version's; None where no version ever ran."""
        revision = self.wanted.revision
        if self.position is not None and self.position.rollout.stage is not Stage.rolling_back:
            revision = self.position.rollout.to_revision
        elif not revision and self.last is not None:
            revision = self.last.to_revision
        return self.specs.get(revision)

    def poke(self) -> None:
        """Decide anew soon."""
        self._poked.set()
        self.ground.changed()

    # -- life

    async def load(self) -> None:
        """What is on disk; a rollout that was under way goes on. Raises StoreError."""
        book = self.ground.book
        for version in await book.versions(self.name):
            self.learn(version)
        for replica in await book.replicas(self.name):
            self.helds[replica.replica_id] = taken_up(replica, self.ground.clock.monotonic())
        self.events = tuple(await book.events(self.name, SHOWN))
        live = await book.live(self.name)
        newest = await book.rollouts(self.name, 1)
        self.last = newest[0] if newest else None
        if live is not None:
            live = msgspec.structs.replace(live, resumed=live.resumed + 1)
            await book.keep_rollout(live)
            self.last, self.position = live, Position(live)
            await self.note(
                "rollout", f"the appliance was started anew during the rollout ({live.stage}): it goes on", "warning"
            )

    def learn(self, version: Version) -> None:
        """Know a version; one that this program cannot read is told in the log."""
        try:
            self.specs[version.revision] = parse(version.document)
            self.versions[version.revision] = version
        except ApplianceError as error:
            log.error("%s: revision %d cannot be read: %s", self.name, version.revision, error.message)

    async def run(self) -> None:
        """Keep it until cancelled, or until it is removed."""
        try:
            while not self.done:
                self._poked.clear()
                try:
                    async with self.lock:
                        await self.turn()
                    self.problem = None
                except ApplianceError as error:
                    if self.problem is None or self.problem.message != error.message:
                        log.error("%s is not looked after: %s", self.name, error)
                    self.problem = error
                self.ground.changed()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._poked.wait()
        finally:
            await self._let_go()

    def _pause(self) -> float:
        """Seconds until the next turn, where nothing happens."""
        if self.position is not None:
            return self.ground.turn
        spec = self.specs.get(self.wanted.revision)
        return min(IDLE, spec.scaling.interval) if spec is not None and spec.scaling is not None else IDLE

    async def _let_go(self) -> None:
        """End all that acts; what is under way on nodes is on disk, and is found again."""
        tasks = [task for held in self.helds.values() for task in (held.act, held.watch) if task is not None]
        for task in (*tasks, *self._tasks):
            task.cancel()
        await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)

    # -- one turn

    def sights(self) -> tuple[Sight, ...]:
        """All replicas as they are seen now."""
        now = self.ground.clock.monotonic()
        return tuple(held.sight(now) for held in self.helds.values())

    async def turn(self) -> None:
        """See, decide, write down, act. Raises StoreError, and what the inventory raises."""
        self._resume()
        await self.elastic.turn()
        if self.position is not None:
            await self._roll(self.position)
        else:
            await self._keep_up()
        await self.route()
        self._look_after()

    def _resume(self) -> None:
        """Go on with what an earlier life, or a link that was cut, left in the middle."""
        now = self.ground.clock.monotonic()
        for held in self.helds.values():
            spec = self.specs.get(held.replica.revision)
            if spec is None or held.acting or now < held.again:
                continue
            if held.replica.state in {ReplicaState.planned, ReplicaState.starting}:
                self._act(held, self.actor.start(held, spec))
            elif held.replica.state is ReplicaState.stopping:
                self._act(held, self.actor.stop(held, spec))

    def _act(self, held: Held, work: Coroutine[Any, Any, None]) -> None:
        held.act = asyncio.create_task(self._guarded(held, work), name=f"deploy {self.name} {held.replica.node}")
        held.act.add_done_callback(lambda _: work.close())  # one that was cancelled before it began

    async def _guarded(self, held: Held, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ApplianceError as error:  # the disk: what was not written was not done
            held.again = self.ground.clock.monotonic() + 5.0
            self.problem = error
            log.error("%s: %s: %s", self.name, held.replica.node, error)
        except Exception:
            held.again = self.ground.clock.monotonic() + 30.0
            log.exception("%s: a step on %s broke; it is tried again", self.name, held.replica.node)
        finally:
            self.poke()

    def _view(self, rollout: Rollout, spec: ServiceSpec) -> View:
        free = room(self.ground.sites(spec), spec.ports, self._taken())
        return View(
            self.ground.clock.monotonic(), rollout.to_replicas, spec.rollout, self.sights(), free,
            self.ground.traffic.since(self.name),
            self.traffic_problem.message if self.traffic_problem is not None and spec.front is not None else "",
        )  # fmt: skip

    def _taken(self) -> set[tuple[str, int]]:
        now = self.ground.clock.monotonic()
        self.actor.blocked = {place: until for place, until in self.actor.blocked.items() if until > now}
        return {(held.replica.node, held.replica.port) for held in self.helds.values()} | set(self.actor.blocked)

    async def _roll(self, position: Position) -> None:
        rollout = position.rollout
        spec = self.specs.get(rollout.to_revision)
        if spec is None:
            await self._end(policy.turn(position, "its specification cannot be read", 0.0).rollout, Stage.failed)
            return
        await self.ground.traffic.look()
        decision = policy.decide(position, self._view(rollout, spec))
        await self._settle(rollout, decision)
        if self.position is None:
            return
        await self._carry_out(decision)

    async def _settle(self, before: Rollout, decision: policy.Decision) -> None:
        """The new position, on disk before anything of it is done."""
        rollout = decision.position.rollout
        if rollout.stage in ENDED:
            await self._end(rollout, rollout.stage)
            return
        if rollout != before:
            await self.ground.book.keep_rollout(rollout)
            if rollout.shares != before.shares:
                self.ground.traffic.mark(self.name)
                told = ", ".join(f"{self.label(each)} {share:g} %" for each, share in sorted(rollout.shares.items()))
                await self.note("traffic", f"shares are now: {told or 'equal for all healthy replicas'}", "info")
            if (rollout.stage, policy.vain(rollout)) != (before.stage, policy.vain(before)):
                bad = policy.vain(rollout) or rollout.stage is Stage.rolling_back
                await self.note("rollout", f"{rollout.stage}: {rollout.reason}", "warning" if bad else "info")
        self.position, self.last, self.decision = decision.position, rollout, decision

    async def _carry_out(self, decision: policy.Decision) -> None:
        for revision, count in decision.start:
            await self._start(revision, count)
        await self._stop(decision.stop, "")

    async def _start(self, revision: int, count: int) -> None:
        """Give new replicas their places, on disk, and start them."""
        if self._tasks:
            await asyncio.wait(self._tasks)  # they may take this version's files away
        spec = self.specs[revision]
        sites = self.ground.sites(spec)
        addresses = {site.node: site.address for site in sites}
        own = [held.replica.node for held in self.helds.values() if held.replica.revision == revision]
        for node, port in place(count, sites, spec.ports, self._taken(), own):
            replica = Replica(
                new_id(), self.name, revision, self.label(revision), node, port, since=self.ground.clock.wall(),
                address=addresses[node], mark=self.versions[revision].mark,
            )  # fmt: skip
            await self.ground.book.keep_replica(replica)
            held = self.helds[replica.replica_id] = Held(replica)
            self._act(held, self.actor.start(held, spec))

    async def _stop(self, replica_ids: tuple[str, ...], why: str) -> None:
        for replica_id in replica_ids:
            held = self.helds[replica_id]
            spec = self.specs.get(held.replica.revision)
            if held.acting:
                if held.ending or held.replica.state is ReplicaState.stopping or held.act is None:
                    continue
                held.act.cancel()  # a start that is not wanted any more
                await asyncio.gather(held.act, return_exceptions=True)
            if spec is not None:
                held.ending = True
                self._act(held, self.actor.stop(held, spec, why))

    async def _keep_up(self) -> None:
        """Keep what is wanted, while there is no rollout."""
        spec = self.specs.get(self.wanted.revision)
        count = 0 if self.wanted.removing or spec is None else self.wanted.replicas
        patience = min(LONGEST, self._patience * (spec.restart_after if spec is not None else 60.0))
        replace = spec.replace_after if spec is not None and not self.wanted.removing else 0.0
        need = steady(self.sights(), self.wanted.revision, count, replace_after=replace, restart_after=patience)
        if need.stop and need.why.startswith("it has been unwell"):
            self._patience = min(60.0, 2 * self._patience)
        elif spec is not None and all(held.serves for held in self.helds.values()) and not need.start:
            self._patience = 1.0
        if need.start:
            await self._start(self.wanted.revision, need.start)
        await self._stop(need.stop, need.why)
        if self.wanted.removing:
            await leave(self)

    async def _end(self, rollout: Rollout, stage: Stage) -> None:
        won = stage is Stage.completed
        self.ground.tally.ended += 1
        self.ground.tally.completed += won
        ended = msgspec.structs.replace(rollout, stage=stage, ended=self.ground.clock.wall())
        revision = rollout.to_revision if won else rollout.from_revision
        replicas = rollout.to_replicas if won else rollout.from_replicas or self.wanted.replicas
        await self.ground.book.keep_rollout(ended, revision=revision, replicas=replicas)
        self.wanted = msgspec.structs.replace(self.wanted, revision=revision, replicas=replicas)
        self.position, self.decision, self.last = None, None, ended
        known = self.versions.get(rollout.to_revision)
        if known is not None:
            self.versions[rollout.to_revision] = msgspec.structs.replace(known, outcome=stage.value)
        self.ground.traffic.mark(self.name)
        severity = Severity.info if won else Severity.warning
        told = f"version {self.label(rollout.to_revision)} (revision {rollout.to_revision}): {stage}, {ended.reason}"
        await self.note("rollout", told, severity.value)
        await self.ground.tell("deploy.rollout", severity, {
            "service": self.name, "version": self.label(rollout.to_revision), "strategy": rollout.strategy.value,
            "outcome": stage.value, "reason": ended.reason, "owner": rollout.owner,
        })  # fmt: skip
        self._forget_old({rollout.from_revision, rollout.to_revision, *(held.replica.revision for held in self.helds.values())})

    def _forget_old(self, kept: set[int]) -> None:
        """Take the files of the last old versions away; know no more versions than the disk."""
        old = [each for each in sorted(self.specs, reverse=True) if each not in kept]
        for revision in old[REVISIONS:]:
            del self.specs[revision], self.versions[revision]
        task = asyncio.create_task(self.clear(old[:3]), name=f"deploy {self.name} clear")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def clear(self, revisions: Sequence[int]) -> None:
        """Take files of versions away that nobody goes back to at once."""
        if stay := await clear(self.ground, self.specs, revisions):
            await self.note("replica", f"files of earlier versions stay on {', '.join(stay)}", "warning")

    def _gone(self, held: Held) -> None:
        self.helds.pop(held.replica.replica_id, None)

    def _look_after(self) -> None:
        """Somebody looks at every replica that was started."""
        for held in self.helds.values():
            spec = self.specs.get(held.replica.revision)
            started = held.replica.state in {ReplicaState.running, ReplicaState.lost, ReplicaState.failed}
            if spec is not None and started and (held.watch is None or held.watch.done()):
                held.watch = asyncio.create_task(self._watched(held, spec), name=f"deploy {self.name} health")

    async def _watched(self, held: Held, spec: ServiceSpec) -> None:
        try:
            await self.actor.watch(held, spec)
        except StoreError as error:
            self.problem = error
        except Exception:
            log.exception("%s: looking at %s broke; it is begun anew", self.name, held.replica.node)

    # -- beside

    def label(self, revision: int) -> str:
        """What the operator calls a revision."""
        known = self.versions.get(revision)
        return known.label if known is not None else f"revision {revision}"

    def aims(self) -> tuple[dict[int, float], tuple[int, ...]]:
        """(Revision → percent of the traffic, empty where every replica has the same; revisions that are wanted now)."""
        if self.position is None:
            return {}, (self.wanted.revision,)
        rollout = self.position.rollout
        return rollout.shares, (rollout.from_revision, rollout.to_revision)

    def aim(self) -> None:
        """Say who is to have the traffic; `route` makes it so."""
        spec = self.spec
        if spec is None or spec.front is None or (self.wanted.removing and not self.helds):
            self.ground.traffic.set(self.name, None)
        else:
            front, servers = spec.front, lines(list(self.helds.values()), *self.aims(), *policy.fallback(self.position))
            self.ground.traffic.set(self.name, Front(self.name, front.listen, front.address, front.mode, servers))

    async def route(self) -> None:
        """Let the balancer know who serves; where it cannot, that is shown and tried again."""
        self.aim()
        traffic = self.ground.traffic
        try:
            await traffic.sync()
            problem = traffic.problem(self.name)
        except ApplianceError as error:
            problem = error
        known, self.traffic_problem = self.traffic_problem, problem
        if problem is not None and known is None:
            await self.note("traffic", f"the balancer does not do its part: {problem.message}", "error")

    async def note(self, kind: str, text: str, severity: str) -> None:
        """Keep what happened; where the disk does not take it, it is in the log."""
        log.log(logging.INFO if severity == "info" else logging.WARNING, "%s: %s", self.name, text)
        try:
            event = await self.ground.book.note(self.name, kind, text, severity)
        except StoreError as error:
            log.error("%s: an event is not kept: %s", self.name, error.message)
            return
        self.events = (event, *self.events)[:SHOWN]
