"""Shows the fleet as it is: takes what the rounds tell, notices what changed, and says so once."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.core.fleet.health import trouble_of
from appliance.core.fleet.model import FleetShell, FleetStatus, Node, NodeStatus, Reach
from appliance.core.fleet.status import Times
from appliance.core.fleet.watch import Pool, Watch
from appliance.core.model import Severity
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.errors import NotFoundError

MOST_NEWS = 2000
"""Events that wait to be told; of more, the oldest are dropped and counted."""
Note = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]
GONE = frozenset({Reach.unreachable, Reach.refused, Reach.untrusted, Reach.changed})


@dataclass(frozen=True)
class News:
    """Something that happened to a node."""

    event: str
    severity: Severity
    attributes: dict[str, Any]


class Monitor:
    """Knows all nodes.

    Args:
        shell: Says how their links are.
        state: Where the fleet is shown.
        clock: For ages.
        times: What silence means.
    """

    def __init__(self, shell: FleetShell, state: LiveState, clock: Clock, times: Times) -> None:
        self._shell, self._state, self._clock, self._times = shell, state, clock, times
        self._pool = Pool()
        self.watches: dict[str, Watch] = {}
        self.news: deque[News] = deque(maxlen=MOST_NEWS)
        self.dropped = 0
        """Events that were not told."""
        self.own_key = ""
        self.problem = ""
        """Of the inventory."""
        self._dirty: set[str] = set()
        self._everything = True
        self._lost: dict[str, float] = {}
        """Node → monotonic instant since when it is gone."""
        self._down: dict[str, frozenset[str]] = {}
        """Node → expected services that do not run, as it was told."""

    def watch(self, node: Node) -> Watch:
        """A node that is there from now on, or whose entry is another one."""
        known = self.watches.get(node.name)
        if known is None:
            known = self.watches[node.name] = Watch(node, self._pool, self._times, began=self._clock.monotonic())
        elif known.node != node:
            moved = (known.node.host, known.node.port, known.node.host_key) != (node.host, node.port, node.host_key)
            known.node = node
            if moved:
                known.forget()
        self.changed(known)
        return known

    def troubled(self, problem: str) -> None:
        """The inventory cannot be used as it stands in its file; empty where it can."""
        if problem != self.problem:
            self.problem, self._everything = problem, True

    def forget(self, name: str) -> None:
        """A node that is not there any more."""
        self.watches.pop(name, None)
        self._lost.pop(name, None)
        self._down.pop(name, None)
        self._dirty.discard(name)
        self._everything = True

    def changed(self, watch: Watch) -> None:
        """Something is known anew of a node."""
        self._dirty.add(watch.node.name)

    def busy(self, operations: Mapping[str, str]) -> None:
        """Which node is changed by which operation now."""
        for name, watch in self.watches.items():
            if watch.busy != operations.get(name, ""):
                watch.busy = operations.get(name, "")
                self.changed(watch)

    def show(self) -> None:
        """Put the fleet as it is now, where anything is another than it was shown."""
        now = self._clock.monotonic()
        for watch in self.watches.values():
            if watch.ages(now):
                self._dirty.add(watch.node.name)
        if not self._dirty and not self._everything:
            return
        dirty, self._dirty, self._everything = self._dirty, set(), False
        for name in dirty:
            if name in self.watches:
                self._renew(self.watches[name], now)
        nodes = tuple(self.watches[name].shown for name in sorted(self.watches))
        took = [each.metrics.took_ms for each in nodes if each is not None and each.metrics and each.link.reach is Reach.up]
        shown = tuple(each for each in nodes if each is not None)
        self._state.put(Section.fleet, FleetStatus(shown, max(took, default=None), self.own_key, self.problem))

    def _renew(self, watch: Watch, now: float) -> None:
        before = watch.shown
        try:
            link = self._shell.link(watch.node.name)
        except NotFoundError:  # its entry is being taken out
            return
        after = watch.status(link, now)
        if after is not before:
            self._notice(before, after, now)

    # -- news

    def _notice(self, before: NodeStatus | None, after: NodeStatus, now: float) -> None:
        name, was, reach = after.node.name, before.link.reach if before else Reach.never, after.link.reach
        if reach in GONE and was is not reach:
            self._lost.setdefault(name, now)
            self._gone(after)
        elif reach is Reach.up and name in self._lost:
            away = round(now - self._lost.pop(name), 1)
            self._tell("node.reachable", Severity.info, {"node": name, "away_s": away, "address": after.link.address})
        elif reach is Reach.off:
            self._lost.pop(name, None)
        if reach is Reach.up:
            self._notice_services(after)

    def _gone(self, after: NodeStatus) -> None:
        """It cannot be asked; where it shows another host key, that is the most there is to say of it."""
        link = after.link
        told = {"node": after.node.name, "reason": link.reason, "next_step": link.next_step, "link": link.reach.value}
        self._tell("node.unreachable", Severity.critical if link.reach is Reach.changed else Severity.warning, told)

    def _notice_services(self, after: NodeStatus) -> None:
        """Of those whose state is known; one that is not told stays what it was."""
        name, before = after.node.name, self._down.get(after.node.name, frozenset())
        down = frozenset(trouble_of(after))
        known = {each.name: each for each in after.expected if each.ok is not None}
        for service in sorted(down - before):
            attributes = {"node": name, "service": service, "state": known[service].state}
            self._tell("service.down", Severity.critical, attributes)
        up = {service for service in before - down if service in known}
        for service in sorted(up):
            self._tell("service.up", Severity.info, {"node": name, "service": service, "state": known[service].state})
        self._down[name] = (before | down) - up

    def _tell(self, event: str, severity: Severity, attributes: dict[str, Any]) -> None:
        if len(self.news) == MOST_NEWS:
            self.dropped += 1
        self.news.append(News(event, severity, attributes))
