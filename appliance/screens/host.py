"""The Host panel's lines: numbers beside their past and, where there is room, each core and the network over time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from appliance.core.model import HostSample
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.widgets.charts import columns, meter, nice_range, resample, sparkline
from appliance.screens.widgets.lines import Line, Piece

Points = Sequence[tuple[float, float]]
"""(time, value), oldest first."""
SHOWN = 600
"""Seconds of the past beside each number."""
TALLEST = 4
"""Lines that a chart of the network has at most."""
NARROWEST = 60
"""Cells from which two cores have a line together."""


def host_lines(sample: HostSample, trends: Mapping[str, Points], width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """The panel: what matters most first, then what only a large terminal has room for.

    Args:
        sample: The newest reading.
        trends: The live readings by metric.
        width: Cells for text.
        height: Lines for text.
        glyphs: Of the session.
    """
    brief = [*_meters(sample, trends, width, glyphs), *_facts(sample)]
    cores = core_lines(sample.cpu_per_core, width, glyphs)
    room = height - len(brief) - len(cores) - 2
    if room < 2:
        each = " ".join(f.percent(core) for core in sample.cpu_per_core) or f.NONE
        return [*brief[:-1], (*brief[-1], ("  each core ", "muted"), (each, "text"))]
    rows = min(TALLEST, room // 2)
    received = net_lines("in", trends.get("net_rx_rate", ()), total(sample, "rx_rate"), width, rows, glyphs)
    sent = net_lines("out", trends.get("net_tx_rate", ()), total(sample, "tx_rate"), width, rows, glyphs)
    return [*brief, (), *cores, (), *received, *sent]


def _meters(sample: HostSample, trends: Mapping[str, Points], width: int, glyphs: Glyphs) -> list[Line]:
    bar = max(6, (width - 17) // 2)

    def line(label: str, part: float | None, text: str, metric: str) -> Line:
        plot = sparkline(_past(trends.get(metric, ()), max(0, width - 17 - bar)), 0, 100, glyphs)
        return ((f" {label:<5}", "muted"), *meter(part, bar, glyphs), (f" {text:>9} ", "text"), (plot, "spark"))

    heat = sample.temperature_c
    return [
        line("cpu", share(sample.cpu_usage), f.percent(sample.cpu_usage), "cpu_usage"),
        line("mem", share(sample.memory_usage), f.percent(sample.memory_usage), "memory_usage"),
        line("disk", share(sample.disk_usage), f.percent(sample.disk_usage), "disk_usage"),
        line("temp", share(heat), f.NONE if heat is None else f"{heat:.0f} °C", "temperature_c"),
    ]


def _facts(sample: HostSample) -> list[Line]:
    load: Piece = (f"{sample.load_1m:.2f} {sample.load_5m:.2f} {sample.load_15m:.2f}", "text")
    flags: list[Piece] = [(f"  {', '.join(sample.throttled)}", "warn")] if sample.throttled else []
    calm: list[Piece] = [("  not throttled", "muted")] if sample.throttled == () else []
    return [
        ((" load ", "muted"), load, *flags, ("  up ", "muted"), (f.span(sample.uptime_s), "text"), *calm),
        ((" net  ", "muted"), (f"in {f.rate(total(sample, 'rx_rate'))}  out {f.rate(total(sample, 'tx_rate'))}", "text")),
        ((" self ", "muted"), (f"{f.percent(sample.process_cpu)} of a core  {f.size(sample.process_rss)}", "text")),
        ((" free ", "muted"), (f.size(sample.disk_free), "text")),
    ]


def core_lines(cores: Sequence[float], width: int, glyphs: Glyphs) -> list[Line]:
    """A meter a core, two on a line where they fit."""
    across = 2 if width >= NARROWEST else 1
    size = width // across
    cells: list[Line] = [
        ((f" core {index:<3}", "muted"), *meter(core / 100, size - 18, glyphs), (f" {f.percent(core):>6}  ", "text"))
        for index, core in enumerate(cores)
    ]
    return [tuple(piece for cell in cells[at : at + across] for piece in cell) for at in range(0, len(cells), across)]


def net_lines(label: str, points: Points, rate: float | None, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """Traffic in one direction over time: a chart of `height` lines, with the rate now and the top of its scale."""
    values = _past(points, max(0, width - 18))
    _, top = nice_range(values, least=1024.0)
    notes: dict[int, Piece] = {height - 1: (f"top {f.rate(top)}", "muted")}
    if height > 2:
        notes |= {0: (f"net {label}", "muted"), 1: (f.rate(rate), "text")}
    else:
        notes[0] = (f"{label} {f.rate(rate)}", "text")
    chart = columns(values, height, 0, top, glyphs)
    lines: list[Line] = []
    for row in range(height):
        text, role = notes.get(row, ("", "muted"))
        lines.append(((f" {text:<16} ", role), (chart[row], "spark")))
    return lines


def _past(points: Points, width: int) -> list[float | None]:
    now = time.time()
    return resample(points, now - SHOWN, now, width)


def share(percent: float | None) -> float | None:
    """0…1 of a percentage."""
    return None if percent is None else percent / 100


def total(sample: HostSample, field: str) -> float | None:
    """The sum over all interfaces but the loopback; None before there are rates."""
    rates = [getattr(link, field) for link in sample.network if link.name != "lo"]
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None
