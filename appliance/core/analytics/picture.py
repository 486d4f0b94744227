"""An answer as a picture (PNG), drawn with Pillow."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from appliance.core.analytics.model import Answer, Series
from appliance.core.events import rfc3339

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SIZE = (1200, 600)
"""Pixels."""
LEFT, TOP, RIGHT, BOTTOM = 110, 50, 30, 70
"""Margins, pixels."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
"""Of the series, in turn; told apart also by people who see colours otherwise (Okabe and Ito)."""
INK, GRID, PAPER = "#202020", "#dddddd", "#ffffff"
STEPS = 5
"""Lines of the grid, each way."""


def png_of(answer: Answer) -> bytes:
    """The series as lines over time, with scale, legend and source. A gap stays a gap."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(picture)
    low, high = _scale(answer)
    _grid(draw, answer, low, high)
    for index, line in enumerate(answer.series):
        _line(draw, answer, line, COLOURS[index % len(COLOURS)], low, high)
    _words(draw, answer)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _scale(answer: Answer) -> tuple[float, float]:
    values = [value for line in answer.series for _, value in line.points if value is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    least = max(1.0, abs(low) * 1e-6)  # of a height: of a flat line, and where no halves would differ
    return (low, high) if high / 2 - low / 2 > abs(low) * 1e-12 else (low - least, high + least)


def _place(answer: Answer, at: float, value: float, low: float, high: float) -> tuple[float, float]:
    """Where a point lies, pixels."""
    span = answer.query.until - answer.query.since
    across = (at - answer.query.since) / span * (SIZE[0] - LEFT - RIGHT)
    up = (value / 2 - low / 2) / (high / 2 - low / 2) * (SIZE[1] - TOP - BOTTOM)  # halves: no difference is too large
    return LEFT + across, SIZE[1] - BOTTOM - up


def _grid(draw: ImageDraw, answer: Answer, low: float, high: float) -> None:
    query = answer.query
    for step in range(STEPS + 1):
        share = step / STEPS
        value, at = low * (1 - share) + high * share, query.since + share * (query.until - query.since)
        y, x = _place(answer, query.since, value, low, high)[1], _place(answer, at, low, low, high)[0]
        draw.line([(LEFT, y), (SIZE[0] - RIGHT, y)], fill=GRID)
        draw.text((LEFT - 8, y), f"{value:.5g}", fill=INK, anchor="rm")
        draw.line([(x, TOP), (x, SIZE[1] - BOTTOM)], fill=GRID)
        draw.text((x, SIZE[1] - BOTTOM + 8), rfc3339(at)[:16].replace("T", " "), fill=INK, anchor="ma")


def _line(draw: ImageDraw, answer: Answer, line: Series, colour: str, low: float, high: float) -> None:
    """Runs of known points; one that stands alone is a dot."""
    run: list[tuple[float, float]] = []
    for at, value in (*line.points, (answer.query.until, None)):
        if value is not None:
            run.append(_place(answer, at, value, low, high))
            continue
        if len(run) > 1:
            draw.line(run, fill=colour, width=2, joint="curve")
        for x, y in run[:1] if len(run) == 1 else ():
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
        run = []


def _words(draw: ImageDraw, answer: Answer) -> None:
    query = answer.query
    head = f"{query.metric}: {query.aggregation.value} in buckets of {query.bucket} (UTC)"
    draw.text((LEFT, 14), _plain(head), fill=INK)
    x = float(LEFT)
    for index, line in enumerate(answer.series[:12]):
        name = _plain(", ".join(line.labels.values()) or query.metric)[:40]
        draw.rectangle([x, SIZE[1] - 28, x + 12, SIZE[1] - 16], fill=COLOURS[index % len(COLOURS)])
        draw.text((x + 17, SIZE[1] - 28), name, fill=INK)
        x += 30 + draw.textlength(name)
    draw.text((SIZE[0] - RIGHT, 14), f"{answer.store}, {rfc3339(answer.as_of)[:19]}Z", fill=INK, anchor="ra")


def _plain(text: str) -> str:
    """What the font may lack, or would break a line, as a question mark."""
    return "".join(char if char.isprintable() and ord(char) < 0x250 else "?" for char in text)
