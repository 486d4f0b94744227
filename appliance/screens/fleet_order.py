"""Which machines the fleet table shows, in which order, and below which headings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from appliance.core.fleet.model import NodeStatus, Reach
from appliance.core.model import Health

NO_GROUP = "no group"
HEADING = "group:"
"""Begins the key of a heading's row; no machine's name has a colon."""
WORST = {Health.unhealthy: 0, Health.degraded: 1, Health.healthy: 2, Health.absent: 3}
FAR = {
    Reach.changed: 0, Reach.untrusted: 1, Reach.refused: 2, Reach.unreachable: 3, Reach.stale: 4, Reach.connecting: 5,
    Reach.never: 6, Reach.up: 7, Reach.off: 8,
}  # fmt: skip


def _metric(name: str) -> Callable[[NodeStatus], float | None]:
    return lambda node: None if node.metrics is None else getattr(node.metrics, name)


def _services(node: NodeStatus) -> float | None:
    known = [each for each in node.expected if each.ok is not None]
    return float(sum(not each.ok for each in known)) if known else None


ORDERS: dict[str, Callable[[NodeStatus], Any]] = {
    "name": lambda node: node.node.name,
    "health": lambda node: (WORST[node.health], FAR[node.link.reach]),
    "link": lambda node: FAR[node.link.reach],
    "cpu": _metric("cpu"),
    "memory": _metric("memory"),
    "disk": _metric("disk"),
    "temperature": _metric("temperature_c"),
    "services": _services,
    "updates": lambda node: None if node.facts is None else node.facts.updates,
    "latency": lambda node: node.link.latency_ms,
    "age": _metric("monotonic"),
}
"""What the table is sorted by → the value; the first of it is what needs a look."""
UP = frozenset({"name", "health", "link", "age"})
"""Those whose smallest value comes first."""


@dataclass(frozen=True)
class Look:
    """How the reader looks at the table; kept while they look at one machine.

    Attributes:
        order: One of `ORDERS`.
        turned: The other way round.
        grouped: Below headings.
        text: The filter.
        marked: Names of marked machines.
        at: Where the cursor stands.
    """

    order: str = "name"
    turned: bool = False
    grouped: bool = False
    text: str = ""
    marked: frozenset[str] = field(default_factory=frozenset)
    at: str = ""

    def next_order(self) -> Look:
        """Sorted by the next column."""
        names = list(ORDERS)
        return replace(self, order=names[(names.index(self.order) + 1) % len(names)], turned=False)


def arranged(nodes: Iterable[NodeStatus], look: Look) -> list[NodeStatus]:
    """Those that fit the filter, sorted; what is not known comes last either way."""
    shown = [node for node in nodes if fits(node, look.text)]
    value = ORDERS[look.order]
    known = [node for node in shown if value(node) is not None]
    known.sort(key=lambda node: node.node.name)
    known.sort(key=value, reverse=look.turned == (look.order in UP))
    unknown = sorted((node for node in shown if value(node) is None), key=lambda node: node.node.name)
    return [*known, *unknown]


def by_group(nodes: Sequence[NodeStatus]) -> list[tuple[str, list[NodeStatus]]]:
    """Groups by name with their machines, in the given order; one in several groups stands in the first of them."""
    found: dict[str, list[NodeStatus]] = {}
    for node in nodes:
        found.setdefault(node.node.groups[0] if node.node.groups else NO_GROUP, []).append(node)
    return sorted(found.items(), key=lambda each: (each[0] == NO_GROUP, each[0]))


def fits(node: NodeStatus, text: str) -> bool:
    """Whether a machine fits every word of a filter; "!" before a word leaves those out. Half a word leaves out nothing."""
    words = [word for word in text.lower().split() if word.strip("!") and not word.endswith(":")]
    return all(not _fits(node, word[1:]) if word[0] == "!" else _fits(node, word) for word in words)


def _fits(node: NodeStatus, word: str) -> bool:
    kind, colon, wanted = word.partition(":")
    told = words_of(node)
    if colon and kind in told:
        return any(wanted in each for each in told[kind])
    return any(word in each for each in (*told["name"], *told["role"], *told["group"], *told["tag"], *told["state"]))


def words_of(node: NodeStatus) -> dict[str, tuple[str, ...]]:
    """What a filter looks at, by the word before its colon; in lower case."""
    entry = node.node
    state = [node.link.reach.value, node.health.value]
    if not entry.enabled:
        state.append("maintenance")
    found = {
        "name": (entry.name,), "role": (entry.role,), "group": entry.groups, "state": tuple(state),
        "tag": tuple(f"{key}={value}" for key, value in entry.tags.items()), "host": (entry.host, entry.vpn_address),
    }  # fmt: skip
    return {kind: tuple(each.lower() for each in texts if each) for kind, texts in found.items()}
