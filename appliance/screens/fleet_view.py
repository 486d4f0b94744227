"""The fleet as rows and lines: every machine with its numbers and how old they are, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from appliance.core.agents.model import Agent
from appliance.core.fleet.model import FleetStatus, NodeStatus, Reach
from appliance.core.model import Health
from appliance.screens import agents_view
from appliance.screens import format as f
from appliance.screens.fleet_order import HEADING
from appliance.screens.glyphs import Glyphs
from appliance.screens.streams_view import words
from appliance.screens.themes import Role
from appliance.screens.widgets.charts import badge, sparkline
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Piece

SIGN = "~"
"""Before a value that is stale, and before its age."""
MARK = "*"
TREND = 8
"""Cells of a trend."""
NODES = (
    Column("", 1), Column("node"), Column("role", 13, least=94), Column("health", 11), Column("link", 13),
    Column("cpu%", 4, "right"), Column("trend", TREND, least=110), Column("mem%", 4, "right"), Column("dsk%", 4, "right"),
    Column("°C", 3, "right"), Column("svc", 5, "right"), Column("upd", 5, "right"), Column("kernel", 14, least=172),
    Column("agent", 16, least=140), Column("ms", 5, "right", 101), Column("age", 5, "right"), Column("facts", 6, "right", 117),
    Column("address", least=156),
)  # fmt: skip
REACHES: Mapping[Reach, tuple[str, Role]] = MappingProxyType({
    Reach.up: ("ok", "ok"), Reach.stale: ("warn", "warn"), Reach.unreachable: ("bad", "bad"), Reach.refused: ("bad", "bad"),
    Reach.untrusted: ("warn", "warn"), Reach.changed: ("bad", "bad"), Reach.connecting: ("warn", "accent"),
    Reach.never: ("none", "muted"), Reach.off: ("none", "muted"),
})  # fmt: skip
"""Link → name of its sign, colour."""
WORDS = MappingProxyType({Reach.changed: "KEY CHANGED"})
HIGH = (80.0, 90.0)
"""Percent from which a number is a warning, and a failure."""
HOT = (70.0, 80.0)


def link_badge(node: NodeStatus, glyphs: Glyphs) -> Piece:
    """How the link is, as sign and word; one that the operator has set aside says so."""
    if not node.node.enabled:
        return f"{glyphs.none} set aside", "muted"
    sign, role = REACHES[node.link.reach]
    return f"{getattr(glyphs, sign)} {WORDS.get(node.link.reach, node.link.reach.value)}", role


def health_badge(node: NodeStatus, glyphs: Glyphs) -> Piece:
    """How it is; what nobody knows is a dash."""
    if not node.node.enabled or node.health is Health.absent:
        return glyphs.none, "muted"
    return badge(node.health.value, glyphs)


def is_old(read: float | None, now: float, limit: float) -> bool:
    """Whether what was read then is stale now."""
    return read is not None and now - read > limit


def head_pieces(status: FleetStatus | None, glyphs: Glyphs) -> list[Piece]:
    """The fleet in a few words."""
    if status is None:
        return [(" not read yet: the fleet is starting", "muted")]
    nodes = [node for node in status.nodes if node.node.enabled]
    counts: list[Piece] = [(f" {f.counted(len(status.nodes), 'machine')}  ", "title")]
    for reach, (sign, role) in REACHES.items():
        many = sum(node.link.reach is reach for node in nodes)
        if many:
            counts.append((f" {getattr(glyphs, sign)} {many} {WORDS.get(reach, reach.value)} ", role))
    aside = len(status.nodes) - len(nodes)
    if aside:
        counts.append((f" {glyphs.none} {aside} set aside ", "muted"))
    bad = sum(each.ok is False for node in nodes for each in node.expected)
    if bad:
        counts.append((f" {glyphs.bad} {f.counted(bad, 'service')} down ", "bad"))
    busy = sum(bool(node.busy) for node in nodes)
    if busy:
        counts.append((f" {busy} being changed ", "accent"))
    if status.round_ms is not None:
        counts.append((f"  a round takes {f.milliseconds(status.round_ms)}", "muted"))
    if status.problem:
        counts += words(f"  {glyphs.bad} the inventory stays as it was: {status.problem}", "bad")
    return counts


def node_row(
    node: NodeStatus, now: float, glyphs: Glyphs, *, marked: bool = False, agent: Agent | None = None
) -> Row:  # fmt: skip
    """One machine.

    Args:
        node: As it is.
        now: Monotonic.
        glyphs: Of the session.
        marked: It is among those that the next command is for.
        agent: Its own; None where nothing was joined yet.
    """
    metrics, facts, entry = node.metrics, node.facts, node.node
    away = node.link.reach is not Reach.up
    old = metrics is not None and (away or is_old(metrics.monotonic, now, node.numbers_old))
    aged = facts is not None and (away or is_old(facts.monotonic, now, node.facts_old))

    def number(name: str, limits: tuple[float, float] = HIGH) -> Cell:
        value = None if metrics is None else getattr(metrics, name)
        return _number(value, limits, old=old)

    cells: tuple[Cell, ...] = (
        (MARK if marked else "", "warn"),
        (entry.name, "accent" if node.busy else "text"),
        (entry.role or f.NONE, "muted"),
        health_badge(node, glyphs),
        link_badge(node, glyphs),
        number("cpu"),
        (trend(node, "cpu", glyphs), "muted" if old else "accent"),
        number("memory"),
        number("disk"),
        number("temperature_c", HOT),
        services(node, old=aged),
        updates(node, old=aged),
        _fact(None if facts is None else facts.kernel, old=aged),
        agents_view.cell(agent, None if facts is None else facts.agent, glyphs),
        (latency(node.link.latency_ms), "muted"),
        age(None if metrics is None else now - metrics.monotonic, old=old),
        age(None if facts is None else now - facts.monotonic, old=aged),
        (node.link.address or entry.host, "muted"),
    )
    return Row(entry.name, cells)


def heading(name: str, nodes: Sequence[NodeStatus], marked: Iterable[str]) -> Row:
    """A group's own row above its machines."""
    names = {node.node.name for node in nodes}
    up = sum(node.link.reach is Reach.up and node.node.enabled for node in nodes)
    sign = MARK if names and names <= set(marked) else ""
    cells: tuple[Cell, ...] = ((sign, "warn"), (name, "title"), "", (f"{up} of {len(nodes)} up", "muted"))
    return Row(f"{HEADING}{name}", (*cells, *[""] * (len(NODES) - len(cells))))


def _number(value: float | None, limits: tuple[float, float], *, old: bool) -> Cell:
    if value is None:
        return (f.NONE, "muted")
    if old:
        return (f"{SIGN}{value:.0f}", "muted")
    warn, bad = limits
    return (f"{value:.0f}", "bad" if value >= bad else "warn" if value >= warn else "text")


def _fact(text: str | None, *, old: bool) -> Cell:
    return (f.NONE, "muted") if text is None else (f"{SIGN if old else ''}{text}", "muted")


def latency(value: float | None) -> str:
    """Milliseconds in at most five cells."""
    return f.NONE if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def age(seconds: float | None, *, old: bool) -> Cell:
    """How old something is: "12s", "3m", "2h", "5d"."""
    if seconds is None:
        return (f.NONE, "muted")
    return (f"{SIGN if old else ''}{short(seconds)}", "warn" if old else "muted")


def short(seconds: float) -> str:
    """A duration in at most four cells: "12s", "3m", "2h", "5d"."""
    whole = max(0, int(seconds))
    return next((f"{whole // unit}{name[0]}" for unit, name in f.UNITS if whole >= unit), "0s")


def services(node: NodeStatus, *, old: bool) -> Cell:
    """How many of the expected services are as they should be: "3/4"; "3/4?" where nothing tells of some."""
    if not node.expected:
        return (f.NONE, "muted")
    good, unknown = sum(each.ok is True for each in node.expected), sum(each.ok is None for each in node.expected)
    if unknown == len(node.expected):
        return (f"?/{unknown}", "muted")
    bad = good + unknown < len(node.expected)
    text = f"{SIGN if old else ''}{good}/{len(node.expected)}{'?' if unknown else ''}"
    return (text, "muted" if old else "bad" if bad else "text")


def updates(node: NodeStatus, *, old: bool) -> Cell:
    """Packages that wait; "!" where some are for security, "r" where it wants to be restarted."""
    facts = node.facts
    if facts is None or (facts.updates is None and not facts.reboot_required):
        return (f.NONE, "muted")
    text = f.NONE if facts.updates is None else str(facts.updates)
    sign = "r" if facts.reboot_required else "!" if facts.security_updates else ""
    return (f"{SIGN if old else ''}{text}{sign}", "muted" if old or not sign else "warn")


def trend(node: NodeStatus, name: str, glyphs: Glyphs, width: int = TREND) -> str:
    """The last values of a metric in percent."""
    return sparkline(node.trend.get(name, ())[-width:], 0.0, 100.0, glyphs).rjust(width)


def trouble(node: NodeStatus, agent: Agent | None = None) -> list[Piece]:
    """Why a machine is not as it should be, and what to do; nothing where all is well."""
    link, pieces = node.link, list[Piece]()
    if not node.node.enabled:
        return [(f" {node.node.name} is set aside: nothing contacts it.", "muted"), (" Next: m takes it back", "accent")]
    if link.reach is Reach.changed:
        pieces.append((f" {node.node.name} SHOWS ANOTHER HOST KEY.", "bad"))
    reason = node.reason or link.reason
    if reason and (node.health is not Health.healthy or link.reach is not Reach.up):
        pieces.append((f" {node.node.name}: {reason.rstrip('.')}.", "bad" if link.reach is Reach.changed else "warn"))
    for each in node.expected:
        if each.ok is False and each.name not in reason:
            pieces.append((f" {each.name}: {each.state}.", "warn"))
    step = node.next_step or link.next_step
    if pieces and step:
        pieces.append((f" Next: {step}", "accent"))
    if pieces and link.reach in {Reach.untrusted, Reach.changed}:
        pieces.append((" y shows its key", "accent"))
    return [*pieces, *agents_view.trouble(agent)]
