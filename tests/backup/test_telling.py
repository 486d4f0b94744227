"""What people are told of backups: a restore that was applied, lines that fit a small screen, when it goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.core.clock import SystemClock
from appliance.core.lifecycle.backup import restoring
from appliance.core.lifecycle.backup.model import BackupStatus, Former, Pending, Restored, TargetStatus
from appliance.core.lifecycle.backup.service import BackupService
from appliance.core.state import LiveState, Section
from appliance.screens import lifecycle_text as view
from tests.backup import rig
from tests.screens.conftest import running
from tests.support import ManualClock

pytestmark = pytest.mark.xdist_group("backup")

PARTS = ("settings", "secrets", "state", "streams", "models")


def text(lines: list[Any]) -> list[str]:
    return ["".join(piece for piece, _ in line) for line in lines]


async def test_a_restore_leaves_its_traces(home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(home) as bench:
        await bench.invoke("backup.export", file=str(tmp_path / "all.backup.age"), wait=True)
        await bench.invoke("backup.restore", source=str(tmp_path / "all.backup.age"), wait=True)
        status: Any = await bench.invoke("backup.status")
        asked = status.pending.by
    assert asked.endswith("(console)")
    restoring.apply(rig.places(home))
    with caplog.at_level(logging.WARNING):
        async with running(home, fresh=False) as bench:
            status = await bench.invoke("backup.status")
            rows: Any = await bench.invoke("audit.list")
            row = next(each for each in rows if each.action == "backup.restored")
            assert row.actor == asked
            assert "restored settings" in row.detail
            assert "from all.backup.age, asked by" in row.detail
            assert f"lies in {status.restored.aside}, with {status.restored.audit_rows} rows of the former audit" in row.detail
            assert status.restored.audit_newer > 0, "the export itself ended after the copy"
            assert row.detail in caplog.text
            seen = bench.open(size=(80, 24))
            await seen.press("gz", "restored    settings")
            await bench.invoke("backup.restore-acknowledge")
            status = await bench.invoke("backup.status")
            assert status.restored is None
            await seen.end()
    async with running(home, fresh=False) as bench:
        rows = await bench.invoke("audit.list")
        assert [each.action for each in rows].count("backup.restored") == 1, "it is told once"


def failing(number: int) -> TargetStatus:
    told = f"Nothing is mounted at /media/disk{number}, and what has to be said of that takes more than one line of a console."
    return TargetStatus(f"disk{number}", "folder", "/media/x", 1.0, problem=told, next_step="plug the disk in and mount it.")


def test_a_restore_that_waits_is_seen_first_and_what_is_cut_off_is_told() -> None:
    pending = Pending("usb:1234abcd", "control-pc", 1000.0, "0.1.0", PARTS, "ada (ssh)")
    good = TargetStatus("good", "folder", "/media/x", 1.0, last_good=time.time(), seconds=1.0)
    status = BackupStatus(
        targets=(good, *(failing(number) for number in range(5))), pending=pending, schedule="30 2 * * *",
        former=(Former("before-restore-1", 1024), Former("before-restore-2", 2048)),
    )  # fmt: skip
    whole, short = text(view.fitted(status, None, 78, 100)), text(view.fitted(status, None, 78, 8))
    assert len(short) == 8 < len(whole)
    for lines in (whole, short):
        assert lines[0].startswith("waits       applied at the next start: settings, secrets, state")
        assert any(line.startswith("aside       before-restore-2") for line in lines)
        assert "and 1 older one, 1.0 KiB" in "\n".join(lines)
        assert lines[-1].startswith("next        ")
    assert "and 5 more targets: prime-spark backup targets" in "\n".join(short)
    assert len(text(view.fitted(status, None, 78, 11))) == 11
    first = text(view.fitted(status, None, 78, 11))
    assert next(line for line in first if line.startswith(("disk", "good"))).startswith("disk0"), "what fails comes first"


def test_what_a_restore_replaced_stands_on_the_page() -> None:
    done = Restored("usb:1", "control-pc", 1.0, "0.1.0", ("state",), "ada (ssh)", time.time() - 120, "before-restore-1", 51, 48)
    line = text(view.head(BackupStatus(restored=done), None))[0]
    assert line.startswith(
        "restored    state of control-pc from usb:1, 2 min ago, asked by ada (ssh); 51 rows of the former audit"
    )
    assert "48 newer than the backup" in line


def test_when_it_goes_on_is_told_as_it_is() -> None:
    now = time.time()
    status = BackupStatus(targets=(failing(1),), schedule="30 2 * * *", next_run=now + 11 * 3600 + 60, retry=now + 35.9)
    assert text(view.head(status, None))[-1] == "next        what failed is tried again in 35 s; next in 11 h (30 2 * * *)"
    assert text(view.head(replace(status, retry=None), None))[-1] == "next        in 11 h (30 2 * * *)"
    late = text(view.head(replace(status, retry=None, next_run=now - 60), None))[-1]
    assert late == "next        as soon as nothing else is under way (30 2 * * *)"
    assert text(view.head(replace(status, schedule=""), None))[-1].endswith("; only by hand")


async def test_what_is_overdue_at_the_start_is_told_when_it_begins(used: Path, tmp_path: Path) -> None:
    keeper = rig.keeper(used, tmp_path / "repository", schedule="0 3 * * *")

    async def tell(*_: Any) -> None:
        """Nobody listens."""

    three = 1_800_000_000 // 86400 * 86400 + 3 * 3600
    clock, state = ManualClock(three + 1800), LiveState(SystemClock())
    service = BackupService(lambda _: keeper, keeper.ground.settings, None, state, clock, tell)  # type: ignore[arg-type]
    keeper.book.targets["usb"] = replace(keeper.book.targets["usb"], last_try=three - 7200.0, failures=1)
    going = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    shown = state.get(Section.backup).value
    going.cancel()
    assert shown.retry == clock.wall() + 120, "not at a moment that has passed"
    assert shown.next_run == clock.wall() + 120
