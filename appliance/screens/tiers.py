"""The tiers of the memory as rows and lines: health, room, hits, times, what is owed; and each tier's one-letter mark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.core.memory.model import MemoryStatus, TierStatus
from appliance.core.model import Health
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.widgets.charts import badge
from appliance.screens.widgets.grid import Cell, Column
from appliance.screens.widgets.lines import Line, Piece

LETTERS = {"documents": "P"}
"""Marks of tiers whose first letter is another one's (documents lie in PostgreSQL)."""
NOWHERE, UNKNOWN = "·", "?"
METER = 8
COLUMNS = (
    Column("tier", 12), Column("health", 11), Column("entries", 7, "right"), Column("size", 9, "right"),
    Column("of", 9, "right", 120), Column("used", 5, "right"), Column("", METER, least=100), Column("hits", 5, "right"),
    Column("p50/p99 ms", 10, "right"), Column("owed", 10, "right"), Column("evicted", 7, "right", 100),
    Column("errors", 6, "right", 100), Column("reason", 0, least=120),
)  # fmt: skip
NARROW = 100
"""Cells from which the table has evictions and errors."""


def letter(tier: str) -> str:
    """The mark of a tier that holds a value."""
    return LETTERS.get(tier, tier[:1].upper())


def marks(tiers: Sequence[str], held: Iterable[str], owed: Iterable[str], unknown: Iterable[str]) -> str:
    """Where a value lies, one character a tier: "RD·p" is held by R and D, owed to P."""
    signs = {name: letter(name) for name in held} | {name: letter(name).lower() for name in owed}
    signs |= dict.fromkeys(unknown, UNKNOWN)
    return "".join(signs.get(name, NOWHERE) for name in tiers)


def legend(tiers: Sequence[str]) -> Line:
    """What the marks mean."""
    pieces: list[Piece] = [(" ", "muted")]
    for name in tiers:
        pieces += [(letter(name), "accent"), (f" {name}  ", "muted")]
    example = letter(tiers[0]) if tiers else "X"
    return (
        *pieces,
        (f"  {example}", "accent"), (" held  ", "muted"), (example.lower(), "accent"), (" owed  ", "muted"),
        (UNKNOWN, "accent"), (" not known  ", "muted"), (NOWHERE, "accent"), (" not there", "muted"),
    )  # fmt: skip


def tier_cells(tier: TierStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    """One tier in the order of COLUMNS."""
    used = None if tier.size is None or not tier.limit else tier.size / tier.limit
    role: Role = "text" if used is None or used < 0.9 else "warn"
    return (
        (f"{letter(tier.name)} {tier.name}", "text"),
        badge(tier.health.value, glyphs),
        count(tier.entries),
        f.size(tier.size),
        (f.size(tier.limit), "muted"),
        (f.percent(None if used is None else 100 * used), role),
        ("" if used is None else bar(used, METER, glyphs), "ok" if role == "text" else role),
        f.hit_rate(tier.hits, tier.misses),
        f"{f.ms(tier.p50_ms)}/{f.ms(tier.p99_ms)}" if tier.p99_ms is not None else f.NONE,
        (owed(tier), "warn" if tier.owed else "muted"),
        (count(tier.evictions), "text" if tier.evictions else "muted"),
        (count(tier.errors), "warn" if tier.errors else "muted"),
        (tier.reason, "muted"),
    )


def bar(share: float, width: int, glyphs: Glyphs) -> str:
    """A meter in one piece."""
    filled = max(0, min(width, round(share * width)))
    return glyphs.fill * filled + glyphs.track * (width - filled)


def owed(tier: TierStatus) -> str:
    """How many writes wait, and for how long the oldest of them does."""
    return f"{count(tier.owed)}, {f.duration(tier.oldest_owed_s)}" if tier.oldest_owed_s is not None else count(tier.owed)


def count(value: int | None) -> str:
    """A number in at most five characters."""
    if value is None:
        return f.NONE
    return str(value) if value < 10_000 else f"{value // 1000}k" if value < 1_000_000 else f"{value // 1_000_000}M"


def summary_lines(status: MemoryStatus, width: int, glyphs: Glyphs) -> list[Line]:
    """The memory as a whole, and below that what is wrong with its tiers."""
    whole: Line = (
        (f" hits {f.hit_rate(status.hits, status.misses)}", "text"),
        (f" of {count(status.hits + status.misses)}", "muted"),
        (f"  {f.ms(status.p50_ms)}/{f.ms(status.p99_ms)} ms", "text"),
        (f"  conflicts {count(status.conflicts)}", "warn" if status.conflicts else "muted"),
        (f"  corrupt {count(status.corrupt)}", "bad" if status.corrupt else "muted"),
        (f"  fetches {count(status.fetches)}", "muted"), (f"  coalesced {count(status.coalesced)}", "muted"),
    )  # fmt: skip
    return [whole, tuple(_faults(status, width, glyphs))]


def _faults(status: MemoryStatus, width: int, glyphs: Glyphs) -> list[Piece]:
    order = (Health.unhealthy, Health.degraded, Health.absent)
    ill = sorted((tier for tier in status.tiers if tier.health in order), key=lambda tier: order.index(tier.health))
    pieces: list[Piece] = []
    for tier in ill:
        sign, role = badge(tier.health.value, glyphs)
        pieces.append((f" {sign[0]} {tier.name}: {tier.reason} ", role))
    if width < NARROW:
        for what, name in (("evictions", "evicted"), ("errors", "errors")):
            if some := [f"{tier.name} {count(getattr(tier, what))}" for tier in status.tiers if getattr(tier, what)]:
                pieces.append((f"  {name} {', '.join(some)}", "muted"))
    return pieces or [(f" {glyphs.ok} every tier is well", "ok")]


def tier_lines(tier: TierStatus) -> list[Line]:
    """All that is known of one tier."""
    told: list[tuple[str, str]] = [
        ("level", str(tier.level)), ("health", tier.health.value), ("reason", tier.reason),
        ("next step", tier.next_step or f.NONE), ("entries", f.NONE if tier.entries is None else str(tier.entries)),
        ("size", f"{f.size(tier.size)} of {f.size(tier.limit)}"),
        ("hits", f"{tier.hits} of {tier.hits + tier.misses}: {f.hit_rate(tier.hits, tier.misses)}"),
        ("times", f"p50 {f.ms(tier.p50_ms)} ms, p99 {f.ms(tier.p99_ms)} ms"), ("evicted", str(tier.evictions)),
        ("owed", f"{tier.owed}; the oldest for {f.duration(tier.oldest_owed_s)}" if tier.owed else "nothing"),
        ("errors", str(tier.errors)),
    ]  # fmt: skip
    return [((f" {name:<10}", "muted"), (text, "text")) for name, text in told]
