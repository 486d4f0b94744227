"""The tiers of the memory as rows and lines: health, room, hits, times, what is owed; and each tier's one-letter mark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.core.memory.model import MemoryStatus, TierStatus
from appliance.core.model import Health
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.values import wrap
from appliance.screens.widgets.charts import badge
from appliance.screens.widgets.grid import Cell, Column
from appliance.screens.widgets.lines import Line, Piece, width_of

LETTERS = {"documents": "P"}
"""Marks of tiers whose first letter is another one's (documents lie in PostgreSQL)."""
NOWHERE, UNKNOWN = "·", "?"
METER = 8
COLUMNS = (
    Column("tier", 12), Column("health", 11), Column("entries", 7, "right"), Column("size", 9, "right"),
    Column("of", 9, "right", 120), Column("used", 5, "right"), Column("", METER, least=110), Column("hits", 5, "right"),
    Column("p50/p99 ms", 10, "right"), Column("owed", 10, "right"), Column("evicted", 7, "right", 100),
    Column("errors", 6, "right", 100),
)  # fmt: skip
NARROW = 100
"""Cells from which the table has evictions and errors."""
MOST = 4
"""Lines that tell of tiers: the pages below need room too."""
ILL = (Health.unhealthy, Health.degraded, Health.absent)
"""The worst first."""


def letter(tier: str) -> str:
    """The mark of a tier that holds a value."""
    return LETTERS.get(tier, tier[:1].upper())


def marks(tiers: Sequence[str], held: Iterable[str], owed: Iterable[str], unknown: Iterable[str]) -> str:
    """Where a value lies, one character a tier: "RD·p" is held by R and D, owed to P."""
    signs = {name: letter(name) for name in held} | {name: letter(name).lower() for name in owed}
    signs |= dict.fromkeys(unknown, UNKNOWN)
    return "".join(signs.get(name, NOWHERE) for name in tiers)


def legend(tiers: Sequence[str], width: int) -> list[Line]:
    """What the marks mean, on one line where that fits."""
    names: list[Piece] = [(" ", "muted")]
    for name in tiers:
        names += [(letter(name), "accent"), (f" {name}  ", "muted")]
    example = letter(tiers[0]) if tiers else "X"
    signs: Line = (
        (f" {example}", "accent"), (" held  ", "muted"), (example.lower(), "accent"), (" owed  ", "muted"),
        (UNKNOWN, "accent"), (" not known  ", "muted"), (NOWHERE, "accent"), (" not there", "muted"),
    )  # fmt: skip
    whole = (*names, *signs)
    return [whole] if width_of(whole) <= width else [tuple(names), signs]


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


def summary_lines(status: MemoryStatus, width: int, glyphs: Glyphs, selected: str = "") -> list[Line]:
    """The memory as a whole, and below that what is wrong with its tiers and what to do, never cut.

    Args:
        status: As it is now.
        width: Cells for text.
        glyphs: Of the reader's terminal.
        selected: Name of the tier that is told of first; the worst one where it is empty.
    """
    whole: Line = (
        (f" hits {f.hit_rate(status.hits, status.misses)}", "text"),
        (f" of {count(status.hits + status.misses)}", "muted"),
        (f"  {f.ms(status.p50_ms)}/{f.ms(status.p99_ms)} ms", "text"),
        (f"  conflicts {count(status.conflicts)}", "warn" if status.conflicts else "muted"),
        (f"  corrupt {count(status.corrupt)}", "bad" if status.corrupt else "muted"),
        (f"  fetches {count(status.fetches)}", "muted"), (f"  coalesced {count(status.coalesced)}", "muted"),
    )  # fmt: skip
    return [whole, *_faults(status, width, glyphs, selected)]


def _faults(status: MemoryStatus, width: int, glyphs: Glyphs, selected: str) -> list[Line]:
    chosen = [tier for tier in status.tiers if tier.name == selected]
    ill = sorted((tier for tier in status.tiers if tier.health in ILL), key=lambda tier: ILL.index(tier.health))
    told = [*chosen, *(tier for tier in ill if tier.name != selected)]
    lines: list[Line] = []
    for number, tier in enumerate(told):
        wrapped = wrap(fault_line(tier, glyphs), max(1, width))
        if lines and len(lines) + len(wrapped) > MOST:
            rest = ", ".join(other.name for other in told[number:])
            lines += wrap(((f" and {rest}: put the cursor on it in the table above (Tab)", "muted"),), max(1, width))
            break
        lines += wrapped
    if width < NARROW and (lost := _lost(status)):
        lines += wrap(((f" {lost}", "muted"),), max(1, width))
    return lines or [((f" {glyphs.ok} every tier is well", "ok"),)]


def fault_line(tier: TierStatus, glyphs: Glyphs) -> Line:
    """How a tier is, why, and what to do."""
    sign, role = badge(tier.health.value, glyphs)
    return ((f" {sign[0]} ", role), (f"{why(tier)}", role))


def why(tier: TierStatus) -> str:
    """A tier's name once, the reason for its health, and the next step."""
    named = "" if tier.reason.startswith((f"{tier.name}: ", f"{tier.name} ")) else f"{tier.name}: "
    return f"{named}{tier.reason}" + (f" Next: {tier.next_step}" if tier.next_step else "")


def _lost(status: MemoryStatus) -> str:
    """Evictions and errors, where the table has no columns for them."""
    parts = []
    for what, name in (("evictions", "evicted"), ("errors", "errors")):
        if some := [f"{tier.name} {count(getattr(tier, what))}" for tier in status.tiers if getattr(tier, what)]:
            parts.append(f"{name} {', '.join(some)}")
    return "   ".join(parts)


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
