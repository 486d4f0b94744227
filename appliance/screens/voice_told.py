"""All of one utterance as lines: what was heard, by whom, what came of it, and how long each part took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.core.voice.model import Timings, Utterance
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.voice_view import OUTCOMES, line

if TYPE_CHECKING:
    from appliance.screens.widgets.lines import Line

PARTS = (
    ("speech", "spoken"), ("endpoint", "until the end was known"), ("stt", "recognised"), ("understand", "understood"),
    ("act", "done"), ("tts", "answer made"),
)  # fmt: skip
WHOLE = (("to_action", "last sound to action"), ("to_sound", "last sound to answer"))
NAME, FIGURE = 25, 9


def utterance_lines(each: Utterance, width: int, glyphs: Glyphs) -> list[Line]:
    """Everything that is known of it.

    Args:
        each: It.
        width: Cells.
        glyphs: Of the session.
    """
    wake = f"{each.wake_word}" + (f", score {each.wake_score:.2f}" if each.wake_score is not None else "")
    by = f"{each.engine or f.NONE} ({each.place.value})" if each.engine else f.NONE
    lines = [
        line("heard", f'"{each.words}"' if each.words else "no words", "title"),
        line("understood", f'"{each.understood}"' if each.understood else f.NONE),
        line("answer", each.reply or f.NONE),
        line("outcome", each.outcome.value, OUTCOMES[each.outcome]), line("action", each.action or f.NONE),
        line("sure", f"{100 * each.confidence:.0f} %" if each.confidence else f.NONE),
        line("when", f"{f.clock(each.time)}, {f.since(each.time)} ago"), line("came by", each.origin),
        line("wake word", wake if each.wake_word else f.NONE),
        line("from", f.NONE if each.direction is None else f"{each.direction}°"), line("engine", by),
        *(line("before it", told, "warn") for told in each.fell_back),
        *([line("note", each.note, "warn")] if each.note else []),
        *([line("kept", each.kept)] if each.kept else []),
        *([line("trace", each.trace_id, "muted")] if each.trace_id else []),
    ]  # fmt: skip
    return [*lines, (), ((" How long each part took", "title"),), *timing_lines(each.timings, width, glyphs)]


def timing_lines(timings: Timings, width: int, glyphs: Glyphs) -> list[Line]:
    """A bar for each part, all to one scale and from one side: parts overlap, as where a pause is recognised while it lasts.

    Args:
        timings: Of the turn.
        width: Cells.
        glyphs: Of the session.
    """
    rows = [(told, getattr(timings, name)) for name, told in (*PARTS, *WHOLE)]
    most = max((value for _, value in rows if value is not None), default=0.0)
    room = max(4, width - NAME - FIGURE - 3)
    return [_bar(told, value, most, room, glyphs, whole=told in dict(WHOLE).values()) for told, value in rows]


def _bar(told: str, value: float | None, most: float, room: int, glyphs: Glyphs, *, whole: bool) -> Line:
    filled = 0 if value is None or not most else max(1, round(value / most * room))
    return (
        (f"   {told:<{NAME}}", "muted"), (f"{f.took(value):>{FIGURE - 2}}  ", "text"),
        (glyphs.fill * filled, "accent" if whole else "ok"),
    )  # fmt: skip
