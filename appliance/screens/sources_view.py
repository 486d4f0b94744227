"""Sources as rows and lines: how each is, what is followed in it, what happened."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core.inference.sources.model import SourceEvent, SourceState, SourceStatus, Track
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.tiers import count
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line, Piece

SOURCES = (
    Column("source", 17), Column("kind", 9, least=100), Column("state", 11), Column("in/s", 5, "right"),
    Column("seen/s", 6, "right"), Column("age", 6, "right"), Column("ms", 5, "right"), Column("lost", 5, "right"),
    Column("tracks", 6, "right"), Column("events", 6, "right"), Column("what", least=90),
)  # fmt: skip
TRACKS = (Column("#", 5, "right"), Column("what", 12), Column("sure", 4, "right"), Column("for", 6, "right"), Column("zones"))
EVENTS = (
    Column("when", 8),
    Column("rule", 9, least=44),
    Column("seen"),
    Column("for", 6, "right", 44),
    Column("kept", 6, least=44),
)
SEVERITY: dict[str, Role] = {"critical": "bad", "warning": "warn"}
LOST = ("dropped", "refused", "late", "failed", "damaged")
"""Frames that were wanted and not looked at."""
LEAD = 9


def badge(state: SourceState, glyphs: Glyphs) -> Piece:
    """A state as sign and word."""
    signs: dict[SourceState, tuple[str, Role]] = {
        SourceState.running: (glyphs.ok, "ok"), SourceState.opening: (glyphs.warn, "accent"),
        SourceState.retrying: (glyphs.bad, "bad"), SourceState.paused: (glyphs.none, "muted"),
        SourceState.stopped: (glyphs.none, "muted"), SourceState.ended: (glyphs.none, "text"),
    }  # fmt: skip
    sign, role = signs[state]
    return f"{sign} {state.value}", role


def rate(value: float | None) -> str:
    """Frames a second."""
    return f.NONE if value is None else f"{value:.1f}"


def lost(source: SourceStatus) -> int:
    """Frames that were wanted and not looked at, whatever the reason."""
    return sum(int(getattr(source, name)) for name in LOST)


def age_of(source: SourceStatus, put_s: float | None) -> str:
    """How old the newest frame is now.

    Args:
        source: As it was put.
        put_s: Seconds since then.
    """
    return f.NONE if source.frame_age_s is None else f.duration(source.frame_age_s + (put_s or 0.0))


def source_rows(sources: Sequence[SourceStatus], put_s: float | None, glyphs: Glyphs) -> list[Row]:
    """A row a source."""
    return [Row(source.name, _cells(source, put_s, glyphs)) for source in sources]


def _cells(source: SourceStatus, put_s: float | None, glyphs: Glyphs) -> tuple[Cell, ...]:
    gone, runs = lost(source), source.state is SourceState.running
    said = source.problem or source.reason
    return (
        source.name,
        (source.kind.value, "muted"),
        badge(source.state, glyphs),
        rate(source.fps_in),
        (rate(source.fps_inferred), "accent" if runs else "muted"),
        (age_of(source, put_s), "text" if runs else "muted"),
        f.ms(source.latency_ms),
        (count(gone), "warn" if gone else "muted"),
        (str(len(source.tracks)), "text" if source.tracks else "muted"),
        (count(source.events_total), "text" if source.events_total else "muted"),
        (said, "warn") if said else (source.address, "muted"),
    )


def trouble(source: SourceStatus) -> list[Piece]:
    """Why a source does not do what it should, and what to do about it; nothing where all is well."""
    pieces: list[Piece] = []
    if source.reason and source.state is not SourceState.running:
        pieces.append((f" {source.name}: {source.reason}", "warn"))
    if source.next_step:
        pieces.append((f" Next: {source.next_step}", "accent"))
    if source.next_try:
        pieces.append((f" tried again at {f.clock(source.next_try)}", "muted"))
    return [*pieces, (f" {source.problem}" if source.problem else "", "warn")]


def _line(name: str, text: str, role: Role = "text") -> Line:
    return ((f" {name:<{LEAD}}", "muted"), (text, role))


def fact_lines(source: SourceStatus) -> list[Line]:
    """What a source is, and where its frames went."""
    size = f"{source.width} x {source.height}" if source.width and source.height else f.NONE
    gone = ", ".join(f"{name} {number}" for name in LOST if (number := int(getattr(source, name))))
    kept = f"{source.kept} kept" + (f", {source.not_kept} not" if source.not_kept else "")
    lines = [
        _line("state", f"{source.state.value} for {f.since(source.since)}"),
        _line("frame", f"{size}, at most {source.rate:g}/s"),
        _line("frames", f"{source.frames} in, {source.inferred} seen"),
        _line("skipped", f"{source.skipped} for the rate", "muted"),
        _line("lost", gone or "none", "warn" if gone else "muted"),
        _line("events", f"{source.events_total}; {kept}", "text" if source.events_total else "muted"),
        _line("zones", ", ".join(source.zones) or "none; z adds one", "text" if source.zones else "muted"),
        _line("rules", ", ".join(source.rules) or "none; t adds one", "text" if source.rules else "muted"),
        _line("from", source.address, "accent"),
        _line("model", source.model or "the active one", "text" if source.model else "muted"),
        _line("when", source.schedule or "always", "text" if source.schedule else "muted"),
    ]
    more = {"reopened": (source.reconnects, "times"), "quiet": (source.suppressed, "events, by their rules' cooldown")}
    return [*lines, *(_line(name, f"{number} {what}") for name, (number, what) in more.items() if number)]


def track_rows(tracks: Sequence[Track]) -> list[Row]:
    """A row for each object that is followed, oldest first."""
    return [
        Row(
            str(track.track_id),
            (
                (str(track.track_id), "accent"), track.label, f"{track.score:.2f}", f.duration(track.seconds),
                (", ".join(track.zones) or f.NONE, "muted"),
            ),
        )
        for track in tracks
    ]  # fmt: skip


def event_rows(events: Sequence[SourceEvent]) -> list[Row]:
    """A row an event, newest first."""
    return [
        Row(
            event.event_id,
            (
                (f.clock(event.time), "muted"), (event.rule, SEVERITY.get(event.severity, "text")),
                f"{event.label} #{event.track_id} {event.zone}".strip(),
                (f.duration(event.seconds), "muted"), _kept(event),
            ),
        )
        for event in events
    ]  # fmt: skip


def _kept(event: SourceEvent) -> Cell:
    told = "both" if event.snapshot and event.clip else "pic" if event.snapshot else "clip" if event.clip else ""
    return ("failed", "bad") if event.problem and not told else (told or f.NONE, "warn" if event.problem else "muted")
