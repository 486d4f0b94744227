"""A message as text, and as the payload that Alertmanager sends to webhooks (version 4)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from appliance.core.alerts.channels.model import Note, Notice
from appliance.core.figures import counted
from appliance.core.printable import printable

NOTES = 100
"""Most alerts that one message spells out; how many more there are is told."""
ZERO = "0001-01-01T00:00:00Z"
"""What Alertmanager writes for "not yet"."""
FNV_OFFSET, FNV_PRIME, MASK = 14695981039346656037, 1099511628211, 2**64 - 1


def stamp(wall: float) -> str:
    """A moment as RFC 3339 in UTC."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fingerprint(labels: dict[str, str]) -> str:
    """What an alert is known by: FNV-1a over its labels, as prometheus/common makes it."""
    total = FNV_OFFSET
    for name in sorted(labels):
        for byte in f"{name}".encode() + b"\xff" + labels[name].encode(errors="replace") + b"\xff":
            total = ((total ^ byte) * FNV_PRIME) & MASK
    return f"{total:016x}"


def shown(notice: Notice) -> tuple[tuple[Note, ...], int]:
    """The alerts that are spelled out, those that fire first; and how many are not."""
    notes = (*notice.firing, *notice.resolved)
    return notes[:NOTES], max(0, len(notes) - NOTES)


def payload(notice: Notice, external_url: str) -> dict[str, Any]:
    """As Alertmanager's webhook receivers expect it (data.Data of alertmanager/template, and notify/webhook)."""
    notes, truncated = shown(notice)
    return {
        "version": "4",
        "groupKey": notice.group_key,
        "truncatedAlerts": truncated,
        "status": notice.status,
        "receiver": notice.channel,
        "groupLabels": notice.group,
        "commonLabels": _common(note.labels for note in notes),
        "commonAnnotations": _common(note.annotations for note in notes),
        "externalURL": external_url,
        "alerts": [
            {
                "status": "firing" if note.firing else "resolved",
                "labels": note.labels,
                "annotations": note.annotations,
                "startsAt": stamp(note.starts),
                "endsAt": ZERO if note.firing else stamp(note.ends),
                "generatorURL": external_url,
                "fingerprint": fingerprint(note.labels),
            }
            for note in notes
        ],
    }


def _common(tables: Iterable[dict[str, str]]) -> dict[str, str]:
    first, *others = tables
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def title(notice: Notice) -> str:
    """One line, such as "CRITICAL: node nas"."""
    if notice.why == "test":
        return "Test of an alert channel"
    names = ", ".join(sorted({note.labels["alertname"] for note in notice.notes}))
    firing, resolved = notice.firing, notice.resolved
    if len(notice.notes) == 1:
        subject = notice.notes[0].labels["subject"]
        head = firing[0].severity.value.upper() if firing else "Resolved"
        return one_line(f"{head}: {names} {subject}", 200)
    parts = [f"{counted(len(firing), notice.severity.value + ' alert')}"] if firing else []
    parts += [f"{len(resolved)} resolved"] if resolved else []
    again = " (still)" if notice.why == "repeated" else ""
    return one_line(f"{', '.join(parts)}{again}: {names}", 200)


def text(notice: Notice, limit: int = 4000) -> str:
    """All of it in lines.

    Args:
        notice: The message.
        limit: Most bytes of UTF-8; what is left out is counted.
    """
    notes, left = shown(notice)
    lines: list[str] = []
    size = 0
    for index, note in enumerate(notes):
        line = line_of(note)
        size += len(line.encode()) + 1
        if size > limit - 40:
            left += len(notes) - index
            break
        lines.append(line)
    if left:
        lines.append(f"… and {counted(left, 'further alert')}")
    return "\n".join(lines)


def line_of(note: Note) -> str:
    """One alert in a line."""
    head = note.severity.value if note.firing else "resolved"
    when = f"since {stamp(note.starts)}" if note.firing else f"{stamp(note.starts)} to {stamp(note.ends)}"
    return one_line(f"{head} {note.labels['alertname']} on {note.labels['node']}: {note.annotations['summary']} ({when})", 1000)


def spoken(notice: Notice) -> str:
    """What is said aloud."""
    if notice.why == "test":
        return "This is a test of the alert channel."
    said = [f"{'Alert' if note.firing else 'Resolved'}. {note.annotations['summary']}." for note in shown(notice)[0][:3]]
    left = len(notice.notes) - len(said)
    return one_line(" ".join([*said, *([f"And {counted(left, 'further alert')}."] if left else [])]), 500)


def one_line(told: str, limit: int) -> str:
    """Text without line ends and control characters, cut to so many characters."""
    clean = printable(" ".join(told.split()))
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"
