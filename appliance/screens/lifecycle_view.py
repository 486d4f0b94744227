"""Backups as rows of a table."""

from __future__ import annotations

from appliance.core.lifecycle.backup.model import BackupStatus, Snapshot
from appliance.screens import format as f
from appliance.screens.lifecycle_text import proved, snapshots
from appliance.screens.widgets.grid import Cell, Column, Row

SNAPSHOTS = (
    Column("backup", 9), Column("made", 9, "right"), Column("at", 12), Column("proved", 10), Column("size", 9, "right"),
    Column("new", 9, "right", 90), Column("of", 14, least=100), Column("contains"),
)  # fmt: skip


def rows(status: BackupStatus | None) -> list[Row]:
    """A row a backup."""
    return [Row(f"{each.target}/{each.id}", _cells(each)) for each in snapshots(status)]


def _cells(each: Snapshot) -> tuple[Cell, ...]:
    word, role = proved(each)
    return (
        each.id, f.since(each.time), each.target, (word, role),
        f.size(each.size), f.size(each.stored), (each.device_id, "muted"), (" ".join(each.parts) or f.NONE, "muted"),
    )  # fmt: skip
