"""Numbers that need two looks: shares and rates. Pure; a counter that went back, or a boot in between, gives no number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from appliance.core.fleet.model import Disk, NodeMetrics

WRAP = 1 << 32
"""Where the counters of old kernels begin anew."""
FASTEST = 1.25e10
"""Bytes a second that no card carries (100 Gbit/s): more than that is no rate, but a counter that was set."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the facts of one round told; None and empty where they did not."""

    cpu_ticks: tuple[int, int] | None = None
    """(busy, all)"""
    load_1m: float | None = None
    load_5m: float | None = None
    load_15m: float | None = None
    uptime: float | None = None
    boot: str = ""
    memory: float | None = None
    memory_total: int | None = None
    swap: float | None = None
    limit: int | None = None
    """Bytes that its container may have."""
    limit_used: int | None = None
    quota_cores: float | None = None
    """Cores that its container may have."""
    quota_used: int | None = None
    """Microseconds of them that it used."""
    disks: tuple[Disk, ...] = ()
    disk: float | None = None
    temperature_c: float | None = None
    cards: dict[str, tuple[int, int]] = {}
    """Card → bytes (received, sent)."""
    processes: int | None = None
    clock: float | None = None
    clock_step: float = 0.0
    """Seconds to which the clock can be read."""


class Moment(msgspec.Struct, frozen=True):
    """When a look was taken, by our own clocks."""

    wall: float
    """When the answer was there."""
    monotonic: float
    took: float
    """Seconds from the question to the answer."""


def look_of(fields: Mapping[str, Any]) -> Look:
    """The look that the facts' fields make."""
    return Look(**fields)


def metrics_of(now: Look, before: Look | None, moment: Moment) -> NodeMetrics:
    """The numbers of a node.

    Args:
        now: What it just told.
        before: The look before; None at the first.
        moment: Of `now`.
    """
    seconds = _between(now, before)
    received, sent = _rates(now, before, seconds)
    memory, total = now.memory, now.memory_total
    if now.limit is not None and now.limit_used is not None and (total is None or now.limit < total):
        memory, total = _percent(now.limit_used, now.limit), now.limit
    return NodeMetrics(
        time=moment.wall, monotonic=moment.monotonic, cpu=_cpu(now, before, seconds), load_1m=now.load_1m, load_5m=now.load_5m,
        load_15m=now.load_15m, memory=memory, memory_total=total, swap=now.swap, disks=now.disks, disk=now.disk,
        temperature_c=now.temperature_c, uptime=now.uptime, net_rx=received, net_tx=sent, processes=now.processes,
        clock_offset=_offset(now, moment), took_ms=round(1000 * moment.took, 1),
    )  # fmt: skip


def _between(now: Look, before: Look | None) -> float | None:
    """Seconds between two looks by the node's own uptime; None where they cannot be compared."""
    if before is None or now.uptime is None or before.uptime is None or now.boot != before.boot:
        return None
    seconds = now.uptime - before.uptime
    return seconds if seconds >= 0.05 else None


def _cpu(now: Look, before: Look | None, seconds: float | None) -> float | None:
    if before is None or seconds is None:
        return None
    if now.quota_cores and now.quota_used is not None and before.quota_used is not None:
        used = now.quota_used - before.quota_used
        return _percent(used, now.quota_cores * seconds * 1e6) if used >= 0 else None
    if now.cpu_ticks is None or before.cpu_ticks is None:
        return None
    busy, ticks = (after - former for after, former in zip(now.cpu_ticks, before.cpu_ticks, strict=True))
    return _percent(busy, ticks) if busy >= 0 and ticks > 0 else None


def _percent(part: float, whole: float) -> float:
    return round(min(100.0, max(0.0, 100.0 * part / whole)), 1)


def _rates(now: Look, before: Look | None, seconds: float | None) -> tuple[float | None, float | None]:
    """(received, sent) bytes a second of the cards that both looks have."""
    if before is None or seconds is None:
        return None, None
    both = [(now.cards[name], before.cards[name]) for name in now.cards if name in before.cards]
    return _rate(both, 0, seconds), _rate(both, 1, seconds)


def _rate(both: list[tuple[tuple[int, int], tuple[int, int]]], way: int, seconds: float) -> float | None:
    rates = [_gone(after[way], former[way]) / seconds for after, former in both]
    good = [rate for rate in rates if 0 <= rate <= FASTEST]
    return round(sum(good), 1) if good else None


def _gone(after: int, former: int) -> int:
    """Bytes since; negative where the counter was set back."""
    if after < former < WRAP and former > WRAP // 2:
        return after - former + WRAP
    return after - former


def _offset(now: Look, moment: Moment) -> float | None:
    """Seconds that its clock is ahead; what the round trip or the clock's own steps explain is no offset."""
    if now.clock is None:
        return None
    offset = now.clock - (moment.wall - moment.took / 2)
    return round(offset, 3) if abs(offset) > now.clock_step else 0.0
