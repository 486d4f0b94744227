"""The sources' answers as text."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rich.table import Table
from rich.text import Text

from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.screens.values import moment
from appliance.verbs import render

Block = Table | Text
LISTED = ("name", "kind", "state", "in/s", "seen/s", "age", "frames", "lost", "tracks", "events", "address")
EVENTS = ("time", "source", "rule", "seen", "zone", "for", "severity", "snapshot", "clip")
WIDE = 110
"""Columns from which all fields of a row are shown."""


def _listed(sources: list[dict[str, Any]], width: int) -> list[Block]:
    rows = [
        {
            "name": source["name"], "kind": source["kind"], "state": source["state"], "in/s": _rate(source["fps_in"]),
            "seen/s": _rate(source["fps_inferred"]), "age": _age(source), "frames": source["frames"], "lost": lost(source),
            "tracks": len(source["tracks"]), "events": source["events_total"], "address": source["address"],
        }
        for source in sources
    ]  # fmt: skip
    notes = [_note(source) for source in sources if source["reason"] or source["problem"]]
    return [
        render.table(rows, LISTED if width >= WIDE else LISTED[:8]),
        *([Text("\n".join(printable(note) for note in notes))] if notes else []),
    ]


def lost(source: Mapping[str, Any]) -> int:
    """Frames that were wanted and not looked at, whatever the reason."""
    return sum(int(source[name]) for name in ("dropped", "refused", "late", "failed", "damaged"))


def _age(source: Mapping[str, Any]) -> str:
    return f.NONE if source["frame_age_s"] is None else f.duration(source["frame_age_s"])


def _rate(value: float | None) -> str:
    return f.NONE if value is None else f"{value:.1f}"


def _note(source: Mapping[str, Any]) -> str:
    said = source["reason"] or source["problem"]
    step = f" Next: {source['next_step']}" if source["next_step"] and source["reason"] else ""
    again = f" Tried again at {moment(source['next_try'])}." if source["next_try"] else ""
    return f"{source['name']}: {said}{step}{again}"


def _status(source: dict[str, Any], width: int) -> list[Block]:
    blocks = _listed([source], width)
    counts = "   ".join(
        f"{name.replace('_', ' ')} {source[name]}"
        for name in (
            "skipped",
            "dropped",
            "refused",
            "late",
            "failed",
            "damaged",
            "reconnects",
            "suppressed",
            "kept",
            "not_kept",
        )
        if source[name]
    )
    return [*blocks, *([Text(counts)] if counts else [])]


def _shown(value: dict[str, Any], width: int) -> list[Block]:
    definition = value["definition"]
    plain = {name: given for name, given in definition.items() if name not in {"zones", "rules"} and given not in ("", None)}
    blocks: list[Block] = [render.record(plain, width)]
    parts = {
        "zones": [{**zone, "points": f.corners(zone["points"])} for zone in definition["zones"]],
        "rules": definition["rules"],
    }
    blocks += [render.table(rows, tuple(rows[0])) for rows in parts.values() if rows]
    return [*blocks, *(_status(value["status"], width) if value["status"] else [])]


def _events(events: list[dict[str, Any]], width: int) -> list[Block]:
    rows = [
        {
            **event, "seen": f"{event['label']} #{event['track_id']} {event['score']:.2f}", "zone": event["zone"] or "anywhere",
            "for": f.duration(event["seconds"]), "snapshot": event["snapshot"] or f.NONE, "clip": event["clip"] or f.NONE,
        }
        for event in events
    ]  # fmt: skip
    return [render.table(rows, EVENTS if width >= WIDE else EVENTS[:6])]


def _cameras(devices: list[dict[str, Any]], _: int) -> list[Block]:
    return [render.table(devices, ("name", "health", "reason", "next_step"))]


def _snapshot(value: dict[str, Any], _: int) -> list[Block]:
    told = f"{value['key']}: {value['width']} x {value['height']}, {f.size(value['size'])}, {f.duration(value['age_s'])} old"
    return [Text(printable(f"{told}\ninto a file: memory get {value['key']} --output FILE", keep="\n"))]


def _drawn(value: dict[str, Any], _: int) -> list[Block]:
    return [Text.from_ansi(value["text"])]


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "source.list": _listed, "source.show": _shown, "source.events": _events, "source.snapshot": _snapshot,
    "source.add": _status, "source.change": _status, "source.start": _status, "source.stop": _status,
    "source.set-zone": _status, "source.remove-zone": _status, "source.set-rule": _status, "source.remove-rule": _status,
    "source.preview": _drawn, "source.cameras": _cameras,
})  # fmt: skip
NOTHING: Mapping[str, str] = MappingProxyType({
    "source.list": "no sources; add one: source add NAME rtsp://USER@HOST/PATH --password",
    "source.events": "no events since the start",
    "source.cameras": "no camera among /dev/video*; plug one in. The Pi's own cameras: source add NAME picamera",
})  # fmt: skip
"""What is said of an answer with nothing in it."""
