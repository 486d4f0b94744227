"""What a repository lists, as snapshots of ours."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from appliance.core.lifecycle.backup.contents import PARTS
from appliance.core.lifecycle.backup.model import Snapshot

SHORT = 8
"""Signs of a snapshot's id, as restic tells it of a new one; it takes them too."""
PART = "part:"
"""What the tags begin with that say what is in a snapshot."""


def read(name: str, rows: list[dict[str, Any]]) -> tuple[Snapshot, ...]:
    """The snapshots at a target.

    Args:
        name: Of the target.
        rows: As restic lists them.
    """
    return tuple(
        Snapshot(str(row["id"])[:SHORT], moment(str(row["time"])), name, str(row.get("hostname", "")), parts_of(row))
        for row in rows
    )


def moment(text: str) -> float:
    """RFC 3339 with nine digits of a second, as restic has it, on the wall clock."""
    head, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :] if dot else ""
    return datetime.fromisoformat(f"{head}{dot}{digits[:6]:0<6}{zone}" if dot else text).timestamp()


def parts_of(row: dict[str, Any]) -> tuple[str, ...]:
    """What a snapshot's tags say that is in it, in our order."""
    named = {str(tag).removeprefix(PART) for tag in row.get("tags") or ()}
    return tuple(part for part in PARTS if part in named)
