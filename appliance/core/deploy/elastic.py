"""Auto-scaling of one service: reads its metrics, has the policy decide, and keeps the decision with its reason."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import msgspec

from appliance.core.deploy import scaling
from appliance.core.deploy.ground import Ground
from appliance.core.deploy.model import ScaleStatus
from appliance.core.deploy.scaling import Memory, Verdict
from appliance.core.deploy.spec import Scaling, ServiceSpec
from appliance.core.deploy.traffic import WINDOW

if TYPE_CHECKING:
    from appliance.core.deploy.keeper import Keeper

LEAST = 2.0
"""Seconds over which requests are counted at least, where a service is looked at often."""
OLD = 60.0
"""Seconds after which a node's numbers say nothing about now."""


class Elastic:
    """Scales one service.

    Args:
        ground: See Ground.
        keeper: Of the service.
    """

    def __init__(self, ground: Ground, keeper: Keeper) -> None:
        self._ground = ground
        self._keeper = keeper
        self._memory = Memory()
        self._due = 0.0
        self._verdict: Verdict | None = None
        self._decided = 0.0
        self._readings: dict[str, float | None] = {}
        self._changed: float | None = None

    async def turn(self) -> None:
        """Decide, where it is time to. Raises StoreError."""
        keeper, now = self._keeper, self._ground.clock.monotonic()
        if keeper.position is not None:
            self._rest()
            return
        spec = keeper.specs.get(keeper.wanted.revision)
        if spec is None or spec.scaling is None or keeper.wanted.removing or now < self._due:
            return
        self._due = now + spec.scaling.interval
        if spec.front is not None:
            await self._ground.traffic.look()
        self._readings = await self._read(spec, spec.scaling)
        moment = dt.datetime.fromtimestamp(self._ground.clock.wall()).astimezone()
        current = keeper.wanted.replicas
        verdict = scaling.decide(spec.scaling, self._readings, current, self._memory, now, moment, self._serving())
        self._verdict, self._decided = verdict, now
        if verdict.replicas != current:
            await self._ground.book.want(keeper.name, replicas=verdict.replicas)
            keeper.wanted = msgspec.structs.replace(keeper.wanted, replicas=verdict.replicas)
            self._changed = self._ground.clock.wall()
            self._ground.tally.scaled += 1
            await keeper.note("scale", f"{current} to {verdict.replicas} replicas: {verdict.reason}", "info")
        self._memory = verdict.memory

    def _serving(self) -> int:
        """Replicas that the load is on; those on their way carry nothing yet."""
        return sum(held.serves for held in self._keeper.helds.values())

    def resume(self) -> None:
        """After a start nobody knows when the last change was: cooldowns begin anew."""
        self._memory = Memory(self._ground.clock.monotonic())

    def _rest(self) -> None:
        """A rollout is under way: what the load was before it or is in it says nothing of how long it has been low."""
        self._memory = Memory(self._memory.changed)

    async def _read(self, spec: ServiceSpec, rules: Scaling) -> dict[str, float | None]:
        """Every metric that a rule wants."""
        names = {rule.metric for rule in rules.target} | {rule.metric for rule in rules.step}
        return {name: await self._metric(spec, name) for name in sorted(names)}

    async def _metric(self, spec: ServiceSpec, name: str) -> float | None:
        traffic, serving = self._ground.traffic, [held for held in self._keeper.helds.values() if held.serves]
        often = spec.scaling.interval if spec.scaling is not None else WINDOW
        rate = traffic.rate(spec.name, min(WINDOW, max(LEAST, 2 * often)))
        if name == "requests_per_second":
            return rate
        if name == "requests_per_replica":
            return None if rate is None or not serving else rate / len(serving)
        if name == "latency_ms":
            return traffic.latency(spec.name) if rate else None  # of requests that nobody sends any more it says nothing
        if name.startswith("http:"):
            asked = [self._ground.probes.figure(spec, held.replica, name.removeprefix("http:")) for held in serving]
            return mean([value for value in await asyncio.gather(*asked) if value is not None])
        return mean(self._nodes({held.replica.node for held in serving}, name))

    def _nodes(self, names: set[str], metric: str) -> list[float]:
        """What the nodes that carry it told lately."""
        found = []
        for name in names:
            seen = self._ground.metrics(name)
            if seen is not None and self._ground.clock.monotonic() - seen.monotonic <= OLD:
                value = seen.cpu if metric == "cpu" else seen.memory
                found += [] if value is None else [value]
        return found

    def status(self) -> ScaleStatus | None:
        """How it is; None where the service is not scaled."""
        spec = self._keeper.specs.get(self._keeper.wanted.revision)
        if spec is None or spec.scaling is None:
            return None
        moment = dt.datetime.fromtimestamp(self._ground.clock.wall()).astimezone()
        least, most, _ = scaling.bounds(spec.scaling, moment)
        verdict, held = self._verdict, None
        if verdict is not None and verdict.held_s is not None:
            held = max(0.0, verdict.held_s - (self._ground.clock.monotonic() - self._decided))
        reason = verdict.reason if verdict is not None else "not decided yet"
        if self._keeper.position is not None:
            reason = "a rollout is under way: nothing is scaled"
        return ScaleStatus(least, most, self._keeper.wanted.replicas, reason, self._readings, held, self._changed)


def mean(values: list[float]) -> float | None:
    """None of nothing."""
    return sum(values) / len(values) if values else None
