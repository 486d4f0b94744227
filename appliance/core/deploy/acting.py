"""Starting, stopping and watching one replica. Whatever is done is on disk before it is begun."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from appliance.core.deploy.ground import Ground
from appliance.core.deploy.hands import Found, environment_of
from appliance.core.deploy.held import Held
from appliance.core.deploy.model import Fitness, Kind, ReplicaState
from appliance.core.deploy.pulse import beat, started
from appliance.core.deploy.spec import ServiceSpec
from appliance.errors import ApplianceError, DeployError, NotFoundError, PortTakenError, ShellError, UnreachableError

log = logging.getLogger(__name__)

TRIES = 3
"""Times that a start is tried where the link was cut in the middle of it."""
AGAIN = 5.0
"""Seconds between two of them, and between two tries to stop."""
BLOCKED = 600.0
"""Seconds for which a port that was taken is left alone."""
ASK = 5.0
"""Least seconds between two questions how a replica is on its node."""
LOST = 10.0
"""Seconds between two questions where the node did not answer."""
DRAIN_LOOK = 0.2


class Actor:
    """Acts on replicas of one service.

    Args:
        ground: See Ground.
        service: Its name.
        route: Awaited where the balancer has to know of a change.
        note: Awaited with kind, text and severity of what happened.
        poke: Called where the policy should decide anew.
        hurried: Whether checks come at the short interval now.
    """

    def __init__(
        self, ground: Ground, service: str, route: Callable[[], Awaitable[None]],
        note: Callable[[str, str, str], Awaitable[None]], poke: Callable[[], None], hurried: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._ground = ground
        self._service = service
        self._route = route
        self._note = note
        self._poke = poke
        self._hurried = hurried
        self.blocked: dict[tuple[str, int], float] = {}
        """Place → monotonic instant until which it is left alone."""
        self.gone: Callable[[Held], None] = lambda held: None
        """Called when a replica is no more."""

    @property
    def _now(self) -> float:
        return self._ground.clock.monotonic()

    async def keep(self, held: Held, state: ReplicaState, reason: str = "") -> None:
        """Another state, on disk first. Raises StoreError."""
        changed = msgspec.structs.replace(held.replica, state=state, reason=reason, since=self._ground.clock.wall())
        await self._ground.book.keep_replica(changed)
        held.replica = changed
        held.silent_since = (held.silent_since or self._now) if state is ReplicaState.lost else None
        held.failed_since = (held.failed_since or self._now) if state is ReplicaState.failed else None
        self._poke()

    # -- start

    async def start(self, held: Held, spec: ServiceSpec) -> None:
        """Start a replica on its place."""
        if held.replica.state is not ReplicaState.starting:
            await self.keep(held, ReplicaState.starting)
        replica, where = held.replica, f"{held.replica.node}:{held.replica.port}"
        carrier = self._ground.carriers[spec.kind]
        try:
            quote = "systemd" if spec.kind is Kind.unit else "plain"
            environment = await environment_of(spec, self._ground.secrets, quote)
            await carrier.install(spec, replica, environment)
            await carrier.start(spec, replica)
        except PortTakenError as error:
            self.blocked[replica.node, replica.port] = self._now + BLOCKED
            await self._note("replica", f"{where}: {error.message} Another port is taken.", "warning")
            await self.drop(held)
        except UnreachableError as error:
            await self._note("replica", f"{where}: not started, its node does not answer: {error.message}", "warning")
            await self.keep(held, ReplicaState.lost, error.message)
        except ShellError as error:
            await self._cut(held, error)
        except ApplianceError as error:
            await self._note("replica", f"{where} could not be started: {error.message}", "error")
            await self.keep(held, ReplicaState.failed, error.message)
        else:
            held.pulse = started(self._now)
            await self._note("replica", f"{where} runs version {replica.label} (revision {replica.revision})", "info")
            await self.keep(held, ReplicaState.running)

    async def _cut(self, held: Held, error: ShellError) -> None:
        """The link was cut, or it took too long: it may run, so the same is done again."""
        held.tries += 1
        if held.tries >= TRIES:
            await self.keep(held, ReplicaState.failed, f"{held.tries} tries: {error.message}")
            return
        held.again = self._now + AGAIN
        log.warning("%s: the start is tried again: %s", self._service, error.message)

    # -- stop

    async def stop(self, held: Held, spec: ServiceSpec, why: str = "") -> None:
        """Drain a replica, stop it, and forget it."""
        if held.replica.state is not ReplicaState.stopping:
            await self.keep(held, ReplicaState.stopping, why)
        where = f"{held.replica.node}:{held.replica.port}"
        await self._route()
        await self._drain(held, spec)
        held.stop_looking()
        try:
            await self._ground.carriers[spec.kind].stop(spec, held.replica)
        except ShellError as error:
            await self._note("replica", f"{where} could not be stopped, its node does not answer: {error.message}", "warning")
            await self.keep(held, ReplicaState.lost, error.message)
        except NotFoundError as error:
            await self._note("replica", f"{where} is forgotten, and stays as it is there: {error.message}", "warning")
            await self.drop(held)
        except DeployError as error:
            held.again = self._now + AGAIN
            await self._note("replica", f"{where} does not stop and is told again: {error.message}", "warning")
        else:
            await self._note(
                "replica", f"{where} of version {held.replica.label} is stopped{f': {why}' if why else ''}", "info"
            )
            await self.drop(held)

    async def _drain(self, held: Held, spec: ServiceSpec) -> None:
        """Wait for the open requests, up to the bound."""
        traffic = self._ground.traffic
        ends = self._now + spec.rollout.drain
        if spec.front is None or held.server not in traffic.shares(self._service):
            return
        while self._now < ends:
            await traffic.look()
            if not traffic.sessions(self._service, held.server):
                return
            await asyncio.sleep(DRAIN_LOOK)
        left = traffic.sessions(self._service, held.server)
        await self._note("traffic", f"{held.replica.node}:{held.replica.port} is stopped with {left} open requests", "warning")

    async def drop(self, held: Held) -> None:
        """Forget a replica. Raises StoreError."""
        await self._ground.book.drop_replica(held.replica.replica_id)
        self.gone(held)
        self._poke()
        await self._route()
        held.stop_looking()  # last: it may be the one who looks that found it gone

    # -- watch

    async def watch(self, held: Held, spec: ServiceSpec) -> None:
        """Check a running replica until it is cancelled."""
        asked = float("-inf")
        while True:
            state = held.replica.state
            if state is ReplicaState.running:
                before = held.pulse.fitness
                fault = await self._check(held, spec)
                if fault and (self._now - asked >= ASK or held.asking):
                    asked = self._now
                    await self._ask(held, spec)
                if held.asking or held.pulse.fitness is not before:
                    held.asking = False
                    await self._turned(held, before)
            elif state in {ReplicaState.lost, ReplicaState.failed}:
                await self._ask(held, spec)
            await asyncio.sleep(self._pause(held, spec))

    def _pause(self, held: Held, spec: ServiceSpec) -> float:
        if held.replica.state is ReplicaState.lost:
            return LOST
        calm = held.pulse.fitness is Fitness.healthy and not held.pulse.bad and not self._hurried()
        return spec.health.interval if calm else min(spec.health.start_interval, spec.health.interval)

    async def _check(self, held: Held, spec: ServiceSpec) -> str:
        began = time.monotonic()
        try:
            fault = await self._ground.probes.check(spec, held.replica, self._ground.carriers[spec.kind])
        except ShellError as error:
            fault = f"its node was not asked: {error.message}"
        held.check_ms, held.checked = 1000 * (time.monotonic() - began), self._ground.clock.wall()
        fault = fault or await self._confirm(held, spec)
        held.pulse, before = beat(held.pulse, fault, self._now, spec.health), held.pulse.fitness
        held.asking = held.pulse.fitness is Fitness.unhealthy and before is not Fitness.unhealthy
        if held.asking:
            await self._route()  # no more requests to it, whatever its node says
        self._ground.changed()
        return fault

    async def _confirm(self, held: Held, spec: ServiceSpec) -> str:
        """Whether it is the replica that answers well, and not something else at its port; empty where it is."""
        waited = self._now - held.confirmed
        if held.pulse.fitness is Fitness.healthy and waited < max(ASK, spec.health.interval):
            return ""
        try:
            found = await self._ground.carriers[spec.kind].find(spec, held.replica)
        except (ShellError, DeployError, NotFoundError) as error:  # nothing is known against it
            log.info("%s: %s is not known: %s", self._service, held.replica.node, error.message)
            return ""
        held.confirmed = self._now
        if not found.running or (found.reason and found.healthy is None):
            return f"something else answers at its port: {found.reason or 'it does not run'}"
        return ""

    async def _turned(self, held: Held, before: Fitness) -> None:
        """Tell that the checks say something else than before; of one that is lost or ended that was told already."""
        after = held.pulse.fitness
        if held.replica.state is ReplicaState.running and after is not before:
            told = f"{held.replica.node}:{held.replica.port} is {after}" + (
                f": {held.pulse.reason}" if held.pulse.reason else ""
            )
            await self._note("health", told, "warning" if after is Fitness.unhealthy else "info")
        await self._route()
        self._poke()

    async def _ask(self, held: Held, spec: ServiceSpec) -> None:
        """How it is on its node, where checks fail: it may have ended, or the node may be gone."""
        try:
            found = await self._find(held, spec)
        except UnreachableError as error:
            if held.replica.state is not ReplicaState.lost:
                where = f"{held.replica.node}:{held.replica.port}"
                await self._note("replica", f"{where} is lost: {error.message}", "warning")
                await self.keep(held, ReplicaState.lost, error.message)
                await self._route()
            return
        except NotFoundError as error:  # taken out of the inventory
            await self._note("replica", f"{held.replica.node}:{held.replica.port} is forgotten: {error.message}", "warning")
            await self.drop(held)
            return
        except (ShellError, DeployError) as error:
            log.info("%s: %s is not known: %s", self._service, held.replica.node, error.message)
            return
        await self._found(held, running=found.running, there=found.there, reason=found.reason)

    async def _find(self, held: Held, spec: ServiceSpec) -> Found:
        """Ask its node; once more where the connection broke in the middle, which may be how we learn that the node is gone."""
        carrier = self._ground.carriers[spec.kind]
        try:
            return await carrier.find(spec, held.replica)
        except UnreachableError:
            raise
        except ShellError:
            return await carrier.find(spec, held.replica)

    async def _found(self, held: Held, *, running: bool, there: bool, reason: str) -> None:
        state, where = held.replica.state, f"{held.replica.node}:{held.replica.port}"
        if running and state in {ReplicaState.lost, ReplicaState.failed}:
            held.pulse = started(self._now)  # it may just boot: it has to show that it is well before it gets anything
            await self._note("replica", f"{where} is there again", "info")
            await self.keep(held, ReplicaState.running)
        elif state is ReplicaState.lost and not there:
            await self._note("replica", f"{where} is gone: its node is back without it", "info")
            await self.drop(held)
        elif not running and state is not ReplicaState.failed:
            await self._note("replica", f"{where} ended: {reason}", "error")
            await self.keep(held, ReplicaState.failed, reason)
            await self._route()
