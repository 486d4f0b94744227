"""What is known of one node, as it was last told."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from appliance.core.fleet.asking import Said
from appliance.core.fleet.facts.look import Look, look_of, metrics_of
from appliance.core.fleet.health import Verdict, expected, judge
from appliance.core.fleet.model import LinkStatus, Node, NodeFacts, NodeMetrics, NodeStatus, Reach, ServiceState
from appliance.core.fleet.status import Times, facts_of, reach_of
from appliance.core.model import Health

TRENDS = ("cpu", "memory", "disk", "temperature_c")
KEPT = 60
"""Looks of which a trend is made: ten minutes."""
MOST_SHARED = 50_000
UNTOLD = 2
"""Askings for facts in a row that came to nothing, until what was told before counts no more."""
Thing = TypeVar("Thing", bound=Hashable)


class Pool:
    """Equal values of many nodes, each kept once: most nodes have the same services."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Hashable] = {}

    def same(self, thing: Thing) -> Thing:
        """The one that is kept of all that are equal to this."""
        if len(self._known) > MOST_SHARED:
            self._known.clear()
        return self._known.setdefault(thing, thing)  # type: ignore[return-value]


@dataclass
class Watch:
    """One node.

    Attributes:
        node: Its entry.
        pool: Shares what is equal.
        times: What silence means.
        heard: Monotonic instant of its last answer to a look.
        asked_packages: What its package manager's state was when updates were last asked for.
        shown: As it was last shown.
    """

    node: Node
    pool: Pool
    times: Times
    heard: float | None = None
    look: Look | None = None
    metrics: NodeMetrics | None = None
    facts: NodeFacts | None = None
    other_units: dict[str, str] = field(default_factory=dict)
    packages: str = ""
    asked_packages: str = ""
    updates: tuple[int | None, int | None] = (None, None)
    updates_missing: str = ""
    complaint: str = ""
    """Why the last look came to nothing, though its link is up."""
    untold: int = 0
    """How often in a row its facts were not told though it was reached."""
    untold_why: str = ""
    numbers_missing: dict[str, str] = field(default_factory=dict)
    """Why the last look did not tell some numbers."""
    busy: str = ""
    shown: NodeStatus | None = None
    began: float = 0.0
    """Monotonic instant since when it is watched."""
    trend: dict[str, deque[float]] = field(default_factory=dict)

    def phase(self, interval: float) -> float:
        """Where in each interval its turn is, so that not all are asked at once; the same in every life."""
        return interval * (zlib.crc32(self.node.name.encode()) % 1000) / 1000

    def next_turn(self, now: float, interval: float) -> float:
        """Instant of its next turn after `now`; turns that were missed are left out."""
        phase = self.phase(interval)
        return ((now - phase) // interval + 1) * interval + phase

    def looked(self, said: Said) -> NodeMetrics:
        """Take a look's answer."""
        look = look_of(said.answers.fields)
        self.metrics = metrics_of(look, self.look, said.moment)
        self.look, self.heard, self.complaint = look, said.moment.monotonic, ""
        self.numbers_missing = dict(said.answers.missing)
        for name in TRENDS:
            value = getattr(self.metrics, name)
            if value is not None:
                self.trend.setdefault(name, deque(maxlen=KEPT)).append(value)
        return self.metrics

    def told(self, said: Said) -> None:
        """Take facts; what is asked seldom stays as it was."""
        self.packages = str(said.answers.fields.get("packages", ""))
        self.other_units = said.answers.fields.get("other_units", {})
        self.untold, self.untold_why = 0, ""
        missing = {name: why for name, why in {**self.numbers_missing, **said.answers.missing}.items() if name != "packages"}
        facts = facts_of(said.answers.fields, missing, said.moment.wall, said.moment.monotonic, said.moment.took)
        same = self.pool.same
        units = None if facts.units is None else tuple(same(unit) for unit in facts.units)
        self.facts = msgspec.structs.replace(facts, units=units)
        self._put_updates()

    def not_told(self, why: str) -> None:
        """It was reached, and did not tell its facts."""
        self.untold, self.untold_why = self.untold + 1, why

    def updates_not_told(self, why: str) -> None:
        """It did not tell what could be upgraded; what it told of another state of its package manager is no answer."""
        self.updates, self.updates_missing = (None, None), why
        self._put_updates()

    def told_updates(self, said: Said, packages: str) -> None:
        """Take what could be upgraded, as it was at that state of the package manager."""
        fields = said.answers.fields
        self.updates = fields.get("updates"), fields.get("security_updates")
        self.updates_missing, self.asked_packages = said.answers.missing.get("updates", ""), packages
        self._put_updates()

    def _put_updates(self) -> None:
        if self.facts is None:
            return
        why = self.updates_missing or ("" if self.asked_packages else "not asked yet")
        missing = (
            {**self.facts.missing, "updates": why} if why else {k: v for k, v in self.facts.missing.items() if k != "updates"}
        )
        self.facts = msgspec.structs.replace(
            self.facts, updates=self.updates[0], security_updates=self.updates[1], missing=missing
        )

    def wants_updates(self) -> bool:
        """Whether its package manager's state is another one than when updates were last asked for."""
        return bool(self.packages) and self.packages != self.asked_packages

    def forget(self) -> None:
        """Its entry is another one: what was known is of another machine, perhaps."""
        fresh = Watch(self.node, self.pool, self.times)
        self.__dict__.update(fresh.__dict__ | {"shown": self.shown, "busy": self.busy, "began": self.began})

    def status(self, link: LinkStatus, now: float) -> NodeStatus:
        """The node as it is now; the same object as before where nothing is another."""
        link = reach_of(link, self.heard, now, self.times)
        silent = None if link.reach is not Reach.up else now - max(self.heard or self.began, link.since)
        services = expected(self.node, self.facts, self.other_units)
        trend = {name: tuple(values) for name, values in self.trend.items()}
        if self.untold >= UNTOLD:
            services = tuple(ServiceState(each.name, None, f"not told: {self.untold_why}") for each in services)
        verdict = judge(self.node, link, silent, self.metrics, self.facts, services, trend, self.times.interval)
        if self.untold >= UNTOLD and verdict.health is Health.healthy:
            verdict = Verdict(
                Health.degraded, f"it does not tell its facts: {self.untold_why}", "log in there, and look at it."
            )
        reason = f"{verdict.reason}: {self.complaint}" if self.complaint and link.reach is Reach.up else verdict.reason
        found = NodeStatus(
            node=self.node, link=link, health=verdict.health, reason=reason, next_step=verdict.next_step, metrics=self.metrics,
            facts=self.facts, expected=services, busy=self.busy, trend=trend,
            numbers_old=self.times.numbers_old, facts_old=self.times.facts_old,
        )  # fmt: skip
        if found != self.shown:
            self.shown = found
        assert self.shown is not None
        return self.shown

    def ages(self, now: float) -> bool:
        """Whether time alone has made it something else than it is shown as."""
        shown = self.shown
        if shown is None:
            return True
        if shown.link.reach not in {Reach.up, Reach.stale}:
            return False
        last = max((sign for sign in (self.heard, shown.link.answered) if sign is not None), default=shown.link.since)
        return now - last >= (self.times.stale if shown.link.reach is Reach.up else self.times.unreachable)


Changed = Callable[[Watch], None]
