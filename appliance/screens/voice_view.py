"""The voice as lines: what it does now, what is wrong, devices, privacy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from appliance.core.model import Health, ServiceStatus
from appliance.core.voice.model import (
    LedgerTotals,
    Outcome,
    Stage,
    Utterance,
    VoiceStatus,
)
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs

if TYPE_CHECKING:  # the command line shows these lines too, and loads no Textual
    from appliance.screens.themes import Role
    from appliance.screens.widgets.lines import Line, Piece

LEAD = 12
SHORT, ROOM = 22, 200
"""Cells for what was heard last, on a narrow page and on a wide one."""
SPEAKS: dict[Stage, tuple[Role, str]] = {
    Stage.absent: ("muted", ""),
    Stage.muted: ("warn", "the microphone gives nothing; m lets it hear again"),
    Stage.idle: ("ok", ""),
    Stage.listening: ("accent", "speak now; Esc cancels"),
    Stage.thinking: ("accent", "it recognises and understands"),
    Stage.acting: ("accent", "it does what was said"),
    Stage.speaking: ("accent", "it answers; Esc silences it"),
    Stage.following: ("accent", "it listens on without its name; Esc ends that"),
    Stage.confirming: ("warn", "say yes or no; Esc is no"),
}
OUTCOMES: dict[Outcome, Role] = {
    Outcome.done: "ok", Outcome.answered: "ok", Outcome.asked: "accent", Outcome.declined: "warn", Outcome.refused: "warn",
    Outcome.failed: "bad", Outcome.unknown: "warn", Outcome.empty: "muted", Outcome.cancelled: "muted",
}  # fmt: skip


def line(name: str, text: str, role: Role = "text") -> Line:
    """A named fact."""
    return ((f" {name:<{LEAD}}", "muted"), (text, role))


# -- now -------------------------------------------------------------------------------------------------------------------


def absence(status: VoiceStatus | None, services: Iterable[ServiceStatus]) -> tuple[str, str]:
    """Why nothing is heard, and the next step; ("", "") where the voice is there."""
    if status is not None and status.stage is not Stage.absent:
        return "", ""
    microphone = status.microphone if status is not None else None
    if microphone is not None and microphone.problem:
        return microphone.problem, microphone.next_step
    if status is not None and status.why:
        return status.why, status.next_step
    service = next((each for each in services if each.name == "voice"), None)
    if service is not None and service.reason:
        return service.reason, service.next_step
    return ("No microphone is there", "connect one") if status is not None else ("The voice was not read yet", "")


def stage_line(status: VoiceStatus | None, glyphs: Glyphs, age: str = "") -> Line:
    """What it does, and since when."""
    stage = status.stage if status is not None else Stage.absent
    role, _ = SPEAKS[stage]
    signs: dict[Role, str] = {"ok": glyphs.ok, "accent": glyphs.ok, "warn": glyphs.warn}
    since = f.since(status.since) if status is not None and status.since else age
    return (
        (" ", "text"), (f" {signs.get(role, glyphs.none)} {stage.value.upper()} ", "selected" if role == "accent" else role),
        (f" for {since}" if since else "", "muted"), (" " * 9, "text"),
    )  # fmt: skip


def now_lines(
    status: VoiceStatus | None, services: Iterable[ServiceStatus], glyphs: Glyphs, *, wide: bool = False
) -> list[Line]:
    """Stage, what it waits for, what it hears, what was said last; where there is room, what may leave the house."""
    reason, step = absence(status, services)
    lines: list[Line] = [stage_line(status, glyphs), ()]
    if reason:
        lines.append(((" ", "text"), (sentence(f"{reason[:1].upper()}{reason[1:]}"), "warn")))
        lines += [((" ", "text"), (f"Next: {step}", "accent"))] if step else []
    if status is None:
        return lines
    told = SPEAKS[status.stage][1]
    if status.stage is Stage.idle:
        names = " or ".join(f'"{each.phrase}"' for each in status.wake)
        told = f"say {names}, or press Space" if names else "press Space, and speak"
    lines += [((" ", "text"), (told, "text"))] if told else []
    lines += [line("to confirm", status.asking, "warn")] if status.asking else []
    lines += [line("heard", f'"{status.hearing}"', "title")] if status.hearing else []
    before = last(status.utterances, ROOM)
    lines += [*([(), *before] if before else []), (), privacy_line(status)] if wide else []
    return lines if wide or reason or status.hearing or status.asking else [*lines, *last(status.utterances, SHORT)]


def last(utterances: Sequence[Utterance], room: int) -> list[Line]:
    """What was said last, in so many cells, and what came of it."""
    newest = next((each for each in utterances if each.words), None)
    if newest is None:
        return []
    told = newest.reply or newest.outcome.value
    heard = words(newest)
    heard = heard if len(heard) <= room else f"{heard[: room - 1]}…"
    return [line("last heard", f'"{heard}"', "muted"), line("answered", told, "muted")]


def words(utterance: Utterance) -> str:
    """What was said, as far as is known: the command that was understood, else the words as they were heard freely."""
    return utterance.understood or utterance.words


def sentence(text: str) -> str:
    """With a full stop at its end."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def quiet(status: VoiceStatus | None, services: Iterable[ServiceStatus]) -> str:
    """Why there is no level to be shown."""
    reason, _ = absence(status, services)
    if reason:
        return "no microphone: nothing is measured"
    if status is not None and status.stage is Stage.muted:
        return "muted: nothing is measured"
    return "no sound has come for some seconds"


def trouble(status: VoiceStatus | None) -> list[Piece]:
    """What does not work as it should, each with its next step."""
    if status is None:
        return []
    pieces: list[Piece] = [(f" {status.degraded}", "warn")] if status.degraded else []
    parts = [status.speaker, status.array]
    if status.stage is not Stage.absent:
        parts.insert(0, status.microphone)  # type: ignore[arg-type]
    for part in parts:
        if part is not None and part.problem:
            pieces += _told(part.problem, part.next_step)
    for word in status.wake:
        pieces += _told(f'"{word.phrase}": {word.problem}', "") if word.problem else []
    for engine in status.engines:
        if engine.health in {Health.unhealthy, Health.degraded}:
            pieces += _told(f"{engine.name} ({engine.kind}): {engine.reason}", engine.next_step)
    return [piece for piece in pieces if piece[0]]


def _told(problem: str, step: str) -> list[Piece]:
    return [(f" {sentence(problem)}", "warn"), (f" Next: {step}" if step else "", "accent")]


def by(utterance: Utterance) -> str:
    """Who recognised it, and how many were asked before."""
    if not utterance.engine:
        return f.NONE
    where = "" if utterance.engine == utterance.place.value else f" ({utterance.place.value})"
    return f"{utterance.engine}{where}" + (f", {len(utterance.fell_back)} before" if utterance.fell_back else "")


def quick(value: float | None) -> str:
    """How long something took, given in milliseconds; short times with a decimal."""
    return f.took(value) if value is None or value >= 9.5 else f"{value:.1f} ms"


def score(value: float | None) -> str:
    """How well a wake word fitted, 0 to 1; a dash where nobody looked for it just now."""
    return f.NONE if value is None else f"{value:.2f}"


# -- facts -----------------------------------------------------------------------------------------------------------------


def privacy_line(status: VoiceStatus) -> Line:
    """What may leave the house, and what did."""
    return line("privacy", f"{status.privacy}; {left(status.ledger)}", "ok" if status.privacy == "edge-only" else "warn")


def left(totals: LedgerTotals) -> str:
    """What left the house today, of what may."""
    if not totals.requests and not totals.total_bytes:
        return "nothing has left the house"
    words = f" and {f.size(totals.today_text_bytes)} of words" if totals.today_text_bytes else ""
    asked = f.counted(totals.requests, "request")
    told = f"today {f.size(totals.today_bytes)} of {f.size(totals.cap_bytes)} of sound{words} left the house"
    return f"{told}; {f.size(totals.total_bytes)} in {asked} since it is kept"


def fact_lines(status: VoiceStatus | None) -> list[Line]:
    """Devices, privacy, the ledger, the server, the counts."""
    if status is None:
        return []
    server = f"{status.server}, {f.counted(status.clients, 'client')}" if status.server else "closed"
    counts = ", ".join(f"{name} {number}" for name, number in status.counts.items() if number)
    return [
        _microphone(status), _speaker(status), _array(status), privacy_line(status),
        line("role", f"whoever is heard may do what the role {status.role} may"), line("wyoming", server),
        line("since start", counts or "nothing was heard"),
    ]  # fmt: skip


def _microphone(status: VoiceStatus) -> Line:
    found = status.microphone
    if found is None:
        return line("microphone", "none", "muted")
    state = f"open for {f.since(found.since)}" if found.open else "closed"
    lost = f"{f.counted(found.overruns, 'overrun')}, {f.counted(found.lost_samples, 'sample')} lost"
    again = f", opened anew {found.reopened} times" if found.reopened else ""
    form = f"{f.counted(found.channels, 'channel')} at {found.rate} Hz, " if found.open else ""
    told = f"{found.name}: {'muted, ' if found.muted else ''}{state}, {form}{lost}{again}"
    return line("microphone", told, "warn" if found.lost_samples or found.overruns else "text")


def _speaker(status: VoiceStatus) -> Line:
    found = status.speaker
    if found is None or found.problem:
        return line("speaker", "none: answers are shown, not said", "muted")
    if not found.available:
        return line("speaker", f"{found.name}: not used yet", "muted")
    told = f"{found.name}: {'playing' if found.playing else 'silent'}, {f.counted(found.underruns, 'underrun')}"
    return line("speaker", told, "warn" if found.underruns else "text")


def _array(status: VoiceStatus) -> Line:
    found = status.array
    if found is None:
        return line("array", "none: no direction is known", "muted")
    firmware = f", firmware {found.firmware}" if found.firmware else ""
    hears = {True: ", it hears a voice", False: ", it hears no voice", None: ""}[found.voice]
    return line("array", f"{found.model}{firmware}{hears}", "warn" if found.problem else "text")
