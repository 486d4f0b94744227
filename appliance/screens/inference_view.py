"""Inference as rows and lines: drivers, what goes through them, latency, cache, fallbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.core.inference.model import DeviceReading
from appliance.core.inference.status import CacheStatus, DeviceStatus, EngineStatus, Fallback, InferenceStatus
from appliance.core.model import Health, JobState, JobStatus
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.streams_view import words
from appliance.screens.themes import Role
from appliance.screens.tiers import count
from appliance.screens.widgets.charts import badge, meter
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line, Piece

DRIVERS = (
    Column("driver", 12), Column("state", 11), Column("use", 5, "right"), Column("°C", 4, "right"), Column("W", 4, "right"),
    Column("done", 5, "right"), Column("failed", 6, "right"), Column("stalls", 6, "right"), Column("resets", 6, "right", 100),
    Column("ms", 5, "right"), Column("firmware", 10, least=130), Column("holds"),
)  # fmt: skip
RESULTS = (Column("time", 8), Column("ms", 5, "right", 36), Column("on", 5, least=50), Column("found"))
FALLBACKS = (
    Column("ago", 6, "right"), Column("times", 5, "right"), Column("from", 8), Column("to", 12, least=70),
    Column("model", 22, least=100), Column("reason"),
)  # fmt: skip
METER = 7
HOT = "it is throttled: too hot, or too little power"
LEAD = 9
"""Cells of the names of figures."""


def share(value: float | None) -> str:
    """A share (0…1) as percent."""
    return f.percent(None if value is None else 100 * value)


def rate(value: float | None) -> str:
    """Of things a second."""
    return f.NONE if value is None else f"{value:.1f}/s" if value < 10 else f"{value:.0f}/s"


def driver_rows(engine: EngineStatus, glyphs: Glyphs) -> list[Row]:
    """A row a driver, in the order in which they are tried."""
    return [Row(device.name, _driver_cells(device, glyphs)) for device in engine.devices]


def _driver_cells(device: DeviceStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    said = device.reading
    heat, power = (None, None) if said is None else (said.temperature_c, said.power_w)
    throttled = said is not None and bool(said.throttled)
    used = said.utilisation if said is not None and said.utilisation is not None else device.busy
    return (
        device.name,
        badge(device.health.value, glyphs),
        share(used),
        (f.NONE if heat is None else f"{heat:.0f}", "warn" if throttled else "text"),
        f.NONE if power is None else f"{power:.1f}",
        count(device.done),
        (count(device.failed), "warn" if device.failed else "muted"),
        (count(device.stalls), "warn" if device.stalls else "muted"),
        (count(device.resets), "warn" if device.resets else "muted"),
        f.ms(device.latency_ms),
        (f.NONE if said is None or not said.firmware else said.firmware, "muted"),
        (", ".join(device.loaded) or f.NONE, "muted"),
    )


def trouble_pieces(engine: EngineStatus, glyphs: Glyphs) -> list[Piece]:
    """What is missing or wrong with drivers, and what to do about it; nothing where all is well."""
    pieces: list[Piece] = []
    for device in engine.devices:
        if device.health is not Health.healthy:
            sign, role = badge(device.health.value, glyphs)
            pieces += [(f" {sign[0]} {device.name}:", role), *words(f" {sentence(device.reason)}", "text")]
            pieces += words(f" Next: {device.next_step}" if device.next_step else "", "accent")
        said = device.reading or DeviceReading()
        told = [*([HOT] if said.throttled else []), *said.notices]
        pieces += [piece for each in told for piece in words(f" {glyphs.warn} {device.name}: {sentence(each)}", "warn")]
    return pieces


def sentence(text: str) -> str:
    """Ended by a stop."""
    return text if not text or text[-1] in ".!?" else f"{text}."


def work_pieces(status: InferenceStatus, *, short: bool) -> list[Piece]:
    """What serves, how fast, and what came of it.

    Args:
        status: As it is.
        short: Leave out what is nothing: the panel of figures has it.
    """
    cache = status.cache
    lost: dict[str, tuple[Role, int]] = {"failed": ("bad", status.errors), "refused": ("warn", status.refused)}
    return [
        (f" {status.model}", "title") if status.model else (" no model serves: see g d, Models", "warn"),
        (f" on {status.backend}" if status.backend else "", "text"),
        (f"  {rate(status.per_second)}", "accent"),
        (f"  p50 {f.milliseconds(status.p50_ms)} p95 {f.milliseconds(status.p95_ms)}", "text"),
        (f"  {status.total} results", "text"),
        (f"  cache {f.hit_rate(cache.hits, cache.misses)}", "text"),
        *_losses(lost, short=short),
    ]


def _losses(lost: Mapping[str, tuple[Role, int]], *, short: bool) -> list[Piece]:
    return [(f"  {name} {number}", role if number else "muted") for name, (role, number) in lost.items() if number or not short]


def queue_pieces(engine: EngineStatus, *, short: bool) -> list[Piece]:
    """What waits, runs, and was given up; see `work_pieces`."""
    waits: list[Piece] = [(f" {name} {number}", "text" if number else "muted") for name, number in engine.waiting.items()]
    lost: dict[str, tuple[Role, int]] = {
        "dropped": ("warn", engine.dropped), "too late": ("warn", engine.expired), "cancelled": ("text", engine.cancelled),
        "fallbacks": ("warn", engine.fallbacks),
    }  # fmt: skip
    return [
        (" Queue:", "title"),
        *(waits or [(f" {f.NONE}", "muted")]),
        (f" ({f.size(engine.waiting_bytes)})" if engine.waiting_bytes else "", "muted"),
        (f"  running {engine.running}", "text" if engine.running else "muted"),
        *_losses(lost, short=short),
    ]


def job_pieces(jobs: Sequence[JobStatus], lead: str, glyphs: Glyphs) -> list[Piece]:
    """The job of this kind that runs now, with its progress."""
    job = next((each for each in jobs if each.name.startswith(lead) and each.state is JobState.running), None)
    if job is None:
        return []
    return [
        (f"  {job.name} ", "accent"),
        *meter(job.progress, 16, glyphs, warn=2, bad=2),
        (f" {share(job.progress)}", "text"),
    ]


Histogram = Sequence[tuple[float | None, int]]


def histogram_lines(histogram: Histogram, p50: float | None, room: tuple[int, int], glyphs: Glyphs) -> list[Line]:
    """A bar for each range of times that had any.

    Args:
        histogram: (upper limit in ms, answers); the last limit is infinite (None).
        p50: Half of the newest answers took less, ms: its range has a sign.
        room: Cells across and lines.
        glyphs: Of the session.
    """
    width, height = room
    whole = sum(number for _, number in histogram)
    if not whole:
        return [((" nothing measured yet", "muted"),)]
    rows = _rows(histogram, height)
    most = max(number for _, _, number in rows)
    space = max(1, width - 30)
    lines: list[Line] = []
    marked = False
    for lead, limit, number in rows:
        mark = not marked and p50 is not None and (limit is None or p50 <= limit)
        marked = marked or mark
        filled = max(1, round(number / most * space)) if number else 0
        lines.append(
            (
                (f" {lead:>10} ", "accent" if mark else "muted"), (glyphs.fill * filled, "accent" if mark else "ok"),
                (glyphs.track * (space - filled), "track"), (f" {count(number):>5}", "text"),
                (f" {share(number / whole):>5}", "muted"), (" p50" if mark else "", "accent"),
            )
        )  # fmt: skip
    return lines


def _rows(histogram: Histogram, height: int) -> list[tuple[str, float | None, int]]:
    """(range, limit, number) from the first range that has any to the last; neighbours together where lines are few."""
    held = [index for index, (_, number) in enumerate(histogram) if number]
    rows: list[tuple[float | None, int]] = list(histogram[held[0] : held[-1] + 1])
    while len(rows) > max(1, height):
        rows[:2] = [(rows[1][0], rows[0][1] + rows[1][1])]
    below = histogram[-2][0] if len(histogram) > 1 else None
    return [(f"over {_time(below)}" if limit is None else f"to {_time(limit)}", limit, number) for limit, number in rows]


def _time(limit: float | None) -> str:
    return f.NONE if limit is None else f"{limit:g} ms" if limit < 1000 else f"{limit / 1000:g} s"


def figure_lines(status: InferenceStatus, glyphs: Glyphs) -> list[Line]:
    """Throughput, batches, losses, and the cache."""
    engine, cache = status.engine, status.cache
    each = engine.batched / engine.batches if engine.batches else None
    by = "".join(f", {name} {number}" for name, number in sorted(status.done_by.items()))
    dropped = "".join(f", {name} {number}" for name, number in engine.dropped_by.items() if number)
    lost = f"late {engine.expired}, dropped {engine.dropped}{dropped}"
    return [
        _figure("results", rate(status.per_second), f"{status.total}{by}", role="accent"),
        _figure("devices", rate(engine.per_second), f"p50 {f.ms(engine.p50_ms)}, p99 {f.ms(engine.p99_ms)} ms", role="accent"),
        *cache_lines(cache, glyphs),
        _figure("errors", share(status.error_rate), f"{status.errors}, refused {status.refused}"),
        _figure("given up", count(engine.dropped + engine.expired), lost),
        _figure("cancelled", count(engine.cancelled), "by who had asked"),
        _figure("batches", count(engine.batches), f"{f.NONE if each is None else f'{each:.1f}'} requests each"),
        _figure("prepared", count(status.prepared), "inputs"),
    ]  # fmt: skip


def _figure(name: str, value: str, rest: str, *, role: Role = "text") -> Line:
    return ((f" {name:<{LEAD}}", "muted"), (f"{value:>6}", role), (f"  {rest}", "text"))


def cache_lines(cache: CacheStatus, glyphs: Glyphs) -> list[Line]:
    """Hits, and how full it is."""
    asked = cache.hits + cache.misses

    def line(name: str, part: float | None, told: str) -> Line:
        return ((f" {name:<{LEAD}}", "muted"), *meter(part, METER, glyphs, warn=2, bad=2), (f" {told}", "text"))

    hits = f"{f.hit_rate(cache.hits, cache.misses)} of {count(asked)}"
    held = f"{count(cache.entries)} of {count(cache.entry_limit)}, {count(cache.evicted)} evicted"
    return [
        line("hits", cache.hits / asked if asked else None, hits),
        line("entries", _part(cache.entries, cache.entry_limit), held),
        line("bytes", _part(cache.bytes, cache.byte_limit), f"{f.size(cache.bytes)} of {f.size(cache.byte_limit)}"),
    ]


def _part(value: int, limit: int) -> float | None:
    return value / limit if limit else None


def fallback_key(each: Fallback) -> str:
    """What makes a row of fallbacks."""
    return f"{each.model} {each.wanted} {each.used} {each.reason}"


def fallback_rows(fallbacks: Sequence[Fallback]) -> list[Row]:
    """A row for requests in a row that ran elsewhere than they should have, newest first."""
    return [
        Row(
            fallback_key(each),
            (
                (f.since(each.time), "muted"), count(each.count), each.wanted, each.used, (each.model, "muted"),
                (each.reason, "warn"),
            ),
        )
        for each in fallbacks
    ]  # fmt: skip
