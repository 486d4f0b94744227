"""What a bad card makes of a file, bytes that are no text among them, costs what it told and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.lifecycle.backup.book import Book as Backups
from appliance.core.lifecycle.update.book import Book as Updates
from appliance.core.lifecycle.update.book import Notes

DAMAGE = {"no text": b'{"slots": {"\xff": {}}}', "nulls": bytes(64), "cut": b'{"a'}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_book_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    path = tmp_path / "book.json"
    path.write_bytes(DAMAGE[damage])
    backups, updates = Backups(path), Updates(path)
    backups.load()
    updates.load()
    assert (backups.targets, updates.notes) == ({}, Notes())
    assert len([each for each in caplog.messages if "cannot be read" in each]) == 2
