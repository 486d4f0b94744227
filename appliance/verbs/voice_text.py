"""The voice's answers as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from rich.text import Text

from appliance.core.printable import printable
from appliance.core.voice.model import LedgerTotals, Reply, Transcript, Utterance, VoiceStatus
from appliance.screens import format as f
from appliance.screens import voice_view as view
from appliance.screens.glyphs import CONSOLE
from appliance.screens.voice_told import utterance_lines
from appliance.verbs import render

if TYPE_CHECKING:
    from appliance.screens.widgets.lines import Line

HEARD = ("time", "words", "action", "outcome", "by", "end", "stt", "act", "to action", "reply")
NARROW = ("time", "words", "action", "outcome", "to action")
WAKE = ("wake word", "score", "best", "threshold", "times", "last", "heard by", "problem")
ENGINE = ("engine", "kind", "place", "health", "model", "used", "failed", "last", "reason", "next step")
DEVICE = ("index", "name", "inputs", "outputs", "rate", "chosen")
LEFT = ("row", "time", "service", "host", "kind", "sound", "words", "outcome", "utterance_id")
WIDE = 110
"""Columns from which all fields of a row are shown."""
SHOWN = 10
"""Newest utterances that stand in the status."""


def plain(lines: Sequence[Line]) -> Text:
    """Lines as one text."""
    return Text(printable("\n".join("".join(piece for piece, _ in line).rstrip() for line in lines), keep="\n"))


def stage(value: Mapping[str, Any]) -> str:
    """What it does now, and what it heard of it: one line while somebody listens along."""
    status = msgspec.convert(value, VoiceStatus)
    told = f'{status.stage.value}: "{status.hearing}"' if status.hearing else status.stage.value
    return f"{told} – {status.asking}" if status.asking else told


def utterance(value: Mapping[str, Any]) -> list[str]:
    """One turn in two lines: what was heard, what came of it."""
    heard = msgspec.convert(value, Utterance)
    words = f'heard "{heard.words}" by {view.by(heard)}' if heard.words else "no words were heard"
    meant = f', understood "{heard.understood}"' if heard.understood and heard.understood != heard.words else ""
    action = f" ({heard.action})" if heard.action else ""
    took = f", {f.took(heard.timings.to_action)} from the last sound to the action" if heard.timings.to_action else ""
    lines = [f"{words}{meant}", f"{heard.outcome.value}{action}{took}", *([heard.reply] if heard.reply else [])]
    return [printable(each) for each in [*lines, *(f"not by {told}" for told in heard.fell_back)]]


def transcript(value: Mapping[str, Any]) -> list[str]:
    """What was heard, then by whom."""
    found = msgspec.convert(value, Transcript)
    took = "known from before" if found.kept else f"in {f.took(found.took_ms)}"
    by = f"{found.engine} ({found.place.value}), {found.seconds:.1f} s of sound {took}"
    guesses = [f"of the commands it is nearest to: {each.text} ({each.score:.2f})" for each in found.guesses[:3]]
    return [printable(each) for each in (found.text or "(no words)", by, *guesses, *(f"not by {x}" for x in found.fell_back))]


def said(value: Any) -> str:
    """What became of a text that was to be said."""
    found = value if isinstance(value, dict) else {}
    seconds = found.get("seconds")
    told = "said" if seconds is None else f"said in {seconds:.1f} s"
    return printable(f"{told} by {found['engine']} ({found.get('place', 'local')})" if found.get("engine") else told)


def _status(value: Mapping[str, Any], width: int) -> list[Any]:
    status = msgspec.convert(value, VoiceStatus)
    blocks: list[Any] = [plain([*view.now_lines(status, (), CONSOLE), *((piece,) for piece in view.trouble(status))])]
    blocks.append(plain(view.fact_lines(status)))
    if status.wake:
        blocks.append(render.table([_wake(each) for each in msgspec.to_builtins(status.wake)], WAKE))
    if status.engines:
        blocks += _engines(msgspec.to_builtins(status.engines), width)
    if status.utterances:
        blocks += _utterances(msgspec.to_builtins(status.utterances[:SHOWN]), width)
    return blocks


def _wake(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "wake word": row["phrase"], "score": view.score(row["score"]), "best": view.score(row["best"]),
        "threshold": f"{row['threshold']:.2f}", "times": row["times"], "last": f.clock(row["last"]),
        "heard by": row["heard_by"], "problem": row["problem"],
    }  # fmt: skip


def _engines(rows: Sequence[Mapping[str, Any]], _: int) -> list[Any]:
    told = [{**row, "engine": row["name"], "last": view.quick(row["last_ms"]), "next step": row["next_step"]} for row in rows]
    return [render.table(told, ENGINE)]


def _utterances(rows: Sequence[Mapping[str, Any]], width: int) -> list[Any]:
    return [render.table([_heard(each) for each in msgspec.convert(rows, list[Utterance])], HEARD if width >= WIDE else NARROW)]


def _heard(each: Utterance) -> dict[str, Any]:
    times = each.timings
    return {
        "time": f.clock(each.time), "words": view.words(each) or "(no words)", "action": each.action,
        "outcome": each.outcome.value,
        "by": view.by(each), "end": f.took(times.endpoint), "stt": f.took(times.stt), "act": f.took(times.act),
        "to action": f.took(times.to_action), "reply": each.reply,
    }  # fmt: skip


def _utterance(value: Mapping[str, Any], width: int) -> list[Any]:
    return [plain(utterance_lines(msgspec.convert(value, Utterance), min(width, 100), CONSOLE))]


def _reply(value: Mapping[str, Any], _: int) -> list[Any]:
    found = msgspec.convert(value, Reply)
    action = f" ({found.action})" if found.action else ""
    waits = f"; it waits for {'a yes or a no' if found.expects == 'confirm' else 'what is missing'}" if found.expects else ""
    return [Text(printable(found.text or "(no answer)", keep="\n")), Text(f"{found.outcome.value}{action}{waits}")]


def _devices(rows: Sequence[Mapping[str, Any]], _: int) -> list[Any]:
    marks = (("default_input", "default input"), ("default_output", "default output"), ("respeaker", "ReSpeaker"))
    told = [
        {**row, "rate": f"{row['rate']:.0f} Hz", "chosen": ", ".join(text for name, text in marks if row[name])} for row in rows
    ]
    return [render.table(told, DEVICE)]


def _ledger(value: Mapping[str, Any], _: int) -> list[Any]:
    totals = msgspec.convert(value["totals"], LedgerTotals)
    rows = [{**row, "sound": f.size(row["audio_bytes"]), "words": f.size(row["text_bytes"])} for row in value["rows"]]
    return [Text(view.left(totals)), *([render.table(rows, LEFT)] if rows else [])]


def _phrases(rows: Sequence[Mapping[str, Any]], _: int) -> list[Any]:
    lines: list[str] = []
    for row in rows:
        asks = ", asks first" if row["dangerous"] else ""
        lines.append(f"{row['action'] or row['intent']}: {row['summary']}{asks}")
        lines += [f'  "{each}"' for each in row["says"]] or [f"  cannot be said: {row['reason']}"]
    return [Text(printable("\n".join(lines), keep="\n"))]


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "voice.status": _status, "voice.engines": _engines, "voice.utterances": _utterances, "voice.ask": _reply,
    "voice.devices": _devices, "voice.ledger": _ledger, "voice.phrases": _phrases, "voice.listen": _utterance,
})  # fmt: skip
NOTHING: Mapping[str, str] = MappingProxyType({
    "voice.utterances": "nothing was heard yet", "voice.recordings": "no recording is kept",
    "voice.devices": "no sound device is there", "voice.engines": "no engine is there",
    "voice.parameters": "no microphone array is there",
})  # fmt: skip
