"""The voice as rows of tables: what was heard, wake words, engines."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core.model import Health
from appliance.core.voice.model import EngineStatus, Timings, Utterance, WakeStatus
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.voice_view import OUTCOMES, by, quick, score, sentence, words
from appliance.screens.widgets.charts import badge, meter
from appliance.screens.widgets.grid import Cell, Column, Row

HEARD = (
    Column("time", 11), Column("words"), Column("action", 16, least=76), Column("outcome", 9), Column("reply", 0, least=110),
    Column("by", 20, least=130), Column("end", 7, "right", 150), Column("stt", 7, "right", 110),
    Column("act", 7, "right", 120), Column("to action", 9, "right"),
)  # fmt: skip
WAKE = (
    Column("wake word", 14), Column("newest", 6, "right"), Column("best", 5, "right"), Column("at", 5, "right"),
    Column("", 10, least=76), Column("times", 5, "right"), Column("heard by, or why not"),
)  # fmt: skip
ENGINES = (
    Column("engine", 12), Column("for", 4), Column("place", 6), Column("health", 11), Column("used", 5, "right"),
    Column("failed", 6, "right", 76), Column("last", 7, "right"), Column("reason"),
)  # fmt: skip
METER = 10


def heard_rows(utterances: Sequence[Utterance]) -> list[Row]:
    """A row an utterance, newest first."""
    return [Row(each.utterance_id, _heard_cells(each)) for each in utterances]


def _heard_cells(each: Utterance) -> tuple[Cell, ...]:
    times: Timings = each.timings
    return (
        (f.clock(each.time), "muted"), words(each) or ("(no words)", "muted"), (each.action or f.NONE, "muted"),
        (each.outcome.value, OUTCOMES[each.outcome]), (each.reply, "muted"),
        (by(each), "warn" if each.fell_back else "muted"), (f.took(times.endpoint), "muted"), (f.took(times.stt), "muted"),
        (f.took(times.act), "muted"), f.took(times.to_action),
    )  # fmt: skip


def wake_rows(wake: Sequence[WakeStatus], glyphs: Glyphs) -> list[Row]:
    """A row a wake word: its score against the threshold."""
    return [Row(each.phrase, _wake_cells(each, glyphs)) for each in wake]


def _wake_cells(each: WakeStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    best = each.best or 0.0
    above = best >= each.threshold > 0
    bar = "".join(text for text, _ in meter(best, METER, glyphs))
    told = f"{each.heard_by}; last {f.since(each.last)} ago" if each.last else each.heard_by
    return (
        each.phrase, score(each.score), (score(each.best), "ok" if above else "text"), (f"{each.threshold:.2f}", "muted"),
        (bar, "ok" if above else "muted"), str(each.times), (each.problem, "warn") if each.problem else (told, "muted"),
    )  # fmt: skip


def engine_rows(engines: Sequence[EngineStatus], glyphs: Glyphs) -> list[Row]:
    """A row an engine, in the operator's order."""
    return [Row(f"{each.kind}:{each.name}", _engine_cells(each, glyphs)) for each in engines]


def _engine_cells(each: EngineStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    well = each.health is Health.healthy
    reason = "; ".join(part for part in (each.model if well else "", each.reason) if part)
    step = f" Next: {each.next_step}" if each.next_step and not well else ""
    return (
        each.name, each.kind, (each.place.value, "warn" if each.place.value == "cloud" else "muted"),
        badge(each.health.value, glyphs), str(each.used), (str(each.failed), "warn" if each.failed else "muted"),
        quick(each.last_ms), (f"{sentence(reason)}{step}" if step else reason, "muted" if well else "warn"),
    )  # fmt: skip
