"""Sparklines, meters and column charts as pieces of text."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.widgets.lines import Line, Piece


def meter(share: float | None, width: int, glyphs: Glyphs, *, warn: float = 0.8, bad: float = 0.9) -> Line:
    """A bar of a share (0…1); an unknown one is an empty track.

    Args:
        share: What is used of the whole.
        width: Cells.
        glyphs: Of the session.
        warn: From here in the colour of warnings.
        bad: From here in the colour of failures.
    """
    if width <= 0:
        return ()
    if share is None:
        return ((glyphs.track * width, "track"),)
    filled = max(0, min(width, round(share * width)))
    role: Role = "bad" if share >= bad else "warn" if share >= warn else "ok"
    return ((glyphs.fill * filled, role), (glyphs.track * (width - filled), "track"))


def resample(points: Sequence[tuple[float, float]], start: float, end: float, width: int) -> list[float | None]:
    """The average of each of `width` equal spans of time; None where nothing was read.

    Args:
        points: (time, value), oldest first.
        start: Of the first span, seconds since the epoch.
        end: Of the last one.
        width: Number of spans.
    """
    sums, counts = [0.0] * width, [0] * width
    span = (end - start) / width if width else 0
    for moment, value in points:
        index = int((moment - start) / span) if span > 0 else -1
        if 0 <= index < width:
            sums[index] += value
            counts[index] += 1
    return [sums[index] / counts[index] if counts[index] else None for index in range(width)]


def sparkline(values: Sequence[float | None], low: float, high: float, glyphs: Glyphs) -> str:
    """One character a value; a gap stays a gap."""
    steps = len(glyphs.spark) - 1
    text = ""
    for value in values:
        if value is None:
            text += " "
            continue
        share = (value - low) / (high - low) if high > low else 0.0
        text += glyphs.spark[max(1, min(steps, 1 + int(share * steps)))]
    return text


def columns(values: Sequence[float | None], height: int, low: float, high: float, glyphs: Glyphs) -> list[str]:
    """A column chart of `height` lines, top line first; a gap stays a gap."""
    steps = len(glyphs.spark) - 1
    lines = [""] * height
    for value in values:
        share = None if value is None else (value - low) / (high - low) if high > low else 0.0
        level = 0 if share is None else max(1, min(height * steps, round(share * height * steps)))
        for row in range(height):
            part = level - (height - 1 - row) * steps
            lines[row] += glyphs.spark[max(0, min(steps, part))]
    return lines


def badge(health: str, glyphs: Glyphs) -> Piece:
    """A state as sign and word: colour is never the only signal."""
    signs: dict[str, tuple[str, Role]] = {
        "healthy": (glyphs.ok, "ok"),
        "ok": (glyphs.ok, "ok"),
        "completed": (glyphs.ok, "ok"),
        "running": (glyphs.ok, "accent"),
        "degraded": (glyphs.warn, "warn"),
        "pending": (glyphs.warn, "warn"),
        "warning": (glyphs.warn, "warn"),
        "acknowledged": (glyphs.warn, "warn"),
        "unhealthy": (glyphs.bad, "bad"),
        "failed": (glyphs.bad, "bad"),
        "firing": (glyphs.bad, "bad"),
        "critical": (glyphs.bad, "bad"),
        "refused": (glyphs.bad, "bad"),
        "timeout": (glyphs.bad, "bad"),
        "interrupted": (glyphs.bad, "bad"),
    }
    sign, role = signs.get(health, (glyphs.none, "muted"))
    return f"{sign} {health}", role


def nice_range(values: Sequence[float | None], least: float = 1.0) -> tuple[float, float]:
    """A range from 0 to a round number above all values."""
    top = max((value for value in values if value is not None), default=least)
    top = max(top, least)
    step = 1.0
    while step * 10 <= top:
        step *= 10
    while step < top:
        step = step * 2 if str(step).lstrip("0.")[0] in "15" else step * 2.5
    return 0.0, step
