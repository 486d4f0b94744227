"""One machine as lines and rows: its facts with their age, its trends, its services and containers."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from appliance.core.fleet.model import Disk, NodeFacts, NodeMetrics, NodeStatus, Reach
from appliance.screens import fleet_view as fleet
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.widgets.charts import meter, sparkline
from appliance.screens.widgets.lines import Line

LEAD = 12
BAR = 16
LABELS = MappingProxyType({"reboot_required": "restart"})
"""Of facts whose own names are too long."""
SPARK = 30
"""Cells of a trend."""


def line(name: str, text: str, role: Role = "text") -> Line:
    """A name and what is known."""
    return ((f" {name:<{LEAD}}", "muted"), (text, role))


def stamp(read: float | None, now: float, limit: float) -> tuple[str, Role]:
    """How old something is; stale is said."""
    if read is None:
        return "never", "muted"
    old = now - read > limit
    return f"{f.duration(now - read)}{', stale' if old else ''}", "warn" if old else "muted"


def ages(node: NodeStatus | None, now: float) -> tuple[str, str]:
    """How old its numbers and its facts are."""
    if node is None:
        return "never", "never"
    numbers, facts = (None if each is None else each.monotonic for each in (node.metrics, node.facts))
    return stamp(numbers, now, node.numbers_old)[0], stamp(facts, now, node.facts_old)[0]


def state_lines(node: NodeStatus, now: float, glyphs: Glyphs) -> list[Line]:
    """Health and link."""
    link, entry = node.link, node.node
    sign, role = fleet.link_badge(node, glyphs)
    health, health_role = fleet.health_badge(node, glyphs)
    answered = "never answered" if link.answered is None else f"answered {f.duration(now - link.answered)} ago"
    way = link.address or entry.host
    lines: list[Line] = [
        ((f" {'health':<{LEAD}}", "muted"), (health, health_role), (f"  {node.reason}" if node.reason else "", "text")),
        ((f" {'link':<{LEAD}}", "muted"), (sign, role), (f"  {answered}, {way}, {f.milliseconds(link.latency_ms)}", "muted")),
    ]
    if link.reason and link.reason != node.reason:
        lines.append(line("", link.reason, "warn"))
    step = node.next_step or link.next_step
    if step:
        lines.append(line("next", step, "accent"))
    if link.retry_at is not None and link.reach is not Reach.up:
        lines.append(line("", f"tried again in {f.duration(max(0.0, link.retry_at - now))}", "muted"))
    if link.offered_key and link.offered_key != entry.host_key:
        lines.append(line("it shows", link.offered_key, "warn"))
    return lines


def entry_lines(node: NodeStatus) -> list[Line]:
    """What the inventory says of it."""
    entry = node.node
    told = {
        "role": entry.role, "login": f"{entry.user}@{entry.host}:{entry.port}", "VPN": entry.vpn_address,
        "through": entry.jump, "groups": ", ".join(entry.groups),
        "tags": ", ".join(f"{key}={value}" for key, value in entry.tags.items()),
        "host key": entry.host_key or "never confirmed: y compares and trusts it",
        "wakes by": entry.mac, "kept in": "the configuration file" if entry.origin == "configuration" else "",
    }  # fmt: skip
    return [line(name, text) for name, text in told.items() if text]


def metric_lines(node: NodeStatus, now: float, glyphs: Glyphs, width: int) -> list[Line]:
    """Numbers as bars with their trend, and the disks."""
    metrics = node.metrics
    if metrics is None:
        return [((" no numbers yet", "muted"),)]
    old = now - metrics.monotonic > node.numbers_old or node.link.reach is not Reach.up
    room = max(0, min(SPARK, width - LEAD - BAR - 12))
    lines = [
        _gauge(name, key, metrics, node, glyphs, room, old=old)
        for name, key in (("CPU", "cpu"), ("memory", "memory"), ("disk", "disk"))
    ]
    lines.append(_temperature(metrics, node, glyphs, room, old=old))
    load = [f.NONE if each is None else f"{each:.2f}" for each in (metrics.load_1m, metrics.load_5m, metrics.load_15m)]
    lines += [
        line("load", "  ".join(load)),
        line("net", f"{f.rate(metrics.net_rx)} in, {f.rate(metrics.net_tx)} out"),
        line("up for", f.span(metrics.uptime)),
        line("swap", f.percent(metrics.swap)),
    ]
    if metrics.clock_offset is not None:
        far = abs(metrics.clock_offset) >= 2
        lines.append(line("clock", f"{round(metrics.clock_offset, 1) + 0.0:+.1f} s against ours", "warn" if far else "text"))
    return [*lines, *(_disk(disk) for disk in metrics.disks)]


def _gauge(
    name: str, key: str, metrics: NodeMetrics, node: NodeStatus, glyphs: Glyphs, room: int, *, old: bool
) -> Line:  # fmt: skip
    value: float | None = getattr(metrics, key)
    sign = fleet.SIGN if old and value is not None else ""
    history = node.trend.get(key, ())[-room:] if room else ()
    return (
        (f" {name:<{LEAD}}", "muted"),
        *meter(None if value is None else value / 100, BAR, glyphs),
        (f" {sign + f.percent(value):>6}  ", "muted" if old else "text"),
        (sparkline(history, 0.0, 100.0, glyphs), "spark"),
    )


def _temperature(metrics: NodeMetrics, node: NodeStatus, glyphs: Glyphs, room: int, *, old: bool) -> Line:
    value = metrics.temperature_c
    text = f.NONE if value is None else f"{fleet.SIGN if old else ''}{value:.0f} °C"
    history = node.trend.get("temperature_c", ())[-room:] if room else ()
    return (
        (f" {'temperature':<{LEAD}}", "muted"),
        *meter(None if value is None else value / 100, BAR, glyphs, warn=0.7, bad=0.8),
        (f" {text:>6}  ", "muted" if old else "text"),
        (sparkline(history, 20.0, 90.0, glyphs), "spark"),
    )


def _disk(disk: Disk) -> Line:
    share = f.percent(100 * disk.used / disk.size if disk.size else None)
    mount = disk.mount if len(disk.mount) < LEAD else f"…{disk.mount[-LEAD + 2 :]}"
    return line(mount, f"{share} of {f.size(disk.size)}, {disk.kind} on {disk.device}", "muted")


def fact_lines(facts: NodeFacts | None, *, most: int | None = None) -> list[Line]:
    """What seldom changes; what was not told says why.

    Args:
        facts: As they were last read.
        most: Only the first ones.
    """
    if facts is None:
        return [((" no facts yet", "muted"),)]
    reboot = "" if facts.reboot_required is None else ", wants a restart" if facts.reboot_required else ""
    security = f", {facts.security_updates} for security" if facts.security_updates else ""
    waiting = None if facts.updates is None else f"{facts.updates}{security}{reboot}"
    told: dict[str, tuple[str, str | None]] = {
        "system": ("os", facts.os), "kernel": ("kernel", facts.kernel), "board": ("board", facts.board),
        "processor": ("cpu_model", _processor(facts)), "updates": ("updates", waiting),
        "docker": ("docker", facts.docker), "python": ("python", facts.python), "host name": ("hostname", facts.hostname),
        "time zone": ("timezone", facts.timezone), "people": ("users", _joined(facts.users)),
        "listens on": ("listening", _joined(facts.listening)),
    }  # fmt: skip
    lines = [_fact(name, key, text, facts) for name, (key, text) in told.items()]
    lines += [line(name[: LEAD - 1], ", ".join(addresses)) for name, addresses in facts.addresses.items()]
    lines += [line(name[: LEAD - 1], _tunnel(one)) for name, one in facts.wireguard.items()]
    shown = {key for key, _ in told.values()} | {"agent"}  # which has lines of its own
    untold = {key: why for key, why in facts.missing.items() if key not in shown}
    lines += [
        line(LABELS.get(key, key.replace("_", " "))[: LEAD - 1], f"not told: {why}", "muted") for key, why in untold.items()
    ]
    return lines if most is None else lines[:most]


def _fact(name: str, key: str, text: str | None, facts: NodeFacts) -> Line:
    if text is not None:
        return line(name, text)
    why = facts.missing.get(key, "")
    return line(name, f"{f.NONE}  {why}" if why else f.NONE, "muted")


def _processor(facts: NodeFacts) -> str | None:
    parts = [facts.cpu_model or "", f.counted(facts.cores, "core") if facts.cores else "", facts.arch or ""]
    return ", ".join(part for part in parts if part) or None


def _joined(values: Sequence[object] | None) -> str | None:
    return None if values is None else ", ".join(map(str, values)) or "none"


def _tunnel(one: dict[str, object]) -> str:
    shake = one.get("latest_handshake")
    seen = f", last handshake {f.duration(shake)} ago" if isinstance(shake, int | float) else ", no handshake yet"
    return f"WireGuard, {one.get('peers', f.NONE)} peers{seen}"
