"""What people are told of backups: a restore that was applied, lines that fit a small screen, when it goes on."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from appliance import config
from appliance.core.clock import SystemClock
from appliance.core.lifecycle.backup import restoring
from appliance.core.lifecycle.backup.book import merged
from appliance.core.lifecycle.backup.faults import TargetAwayError, explain
from appliance.core.lifecycle.backup.keeper import Keeper
from appliance.core.lifecycle.backup.model import BackupStatus, Former, Pending, Restored, Snapshot, TargetStatus
from appliance.core.lifecycle.backup.restic import Repository, Restic
from appliance.core.lifecycle.backup.service import BackupService
from appliance.core.lifecycle.backup.targets import look
from appliance.core.model import JobState, JobStatus
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, BackupError, ConfigError, ConflictError, InvalidArgumentsError
from appliance.screens import lifecycle_text as view
from appliance.screens.lifecycle_view import rows
from appliance.settingbackup import BackupTarget
from appliance.verbs import backup_text, render
from tests.backup import rig
from tests.backup.conftest import Kept
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
            listed: Any = await bench.invoke("audit.list")
            row = next(each for each in listed if each.action == "backup.restored")
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
        listed = await bench.invoke("audit.list")
        assert [each.action for each in listed].count("backup.restored") == 1, "it is told once"


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


async def test_old_ones_go_also_where_another_target_is_away(kept: Kept) -> None:
    keeper = kept.keeper()
    await keeper.run()
    gone = BackupTarget(path=str(kept.home / "gone"))
    targets = {"away": gone, **keeper.ground.settings.targets}
    settings = keeper.ground.settings.model_copy(update={"targets": targets, "keep_all_days": 0})
    both = Keeper(replaced(keeper.ground, settings=settings))
    both.prepare()
    with pytest.raises(BackupError, match=r"^1 went; not everywhere\. away: The directory .* is not there\. "):
        await both.prune()


async def test_a_target_among_the_data_is_none(used: Path) -> None:
    inside = rig.places(used).data / "inside"
    inside.mkdir()
    keeper = rig.keeper(used, BackupTarget(path=str(inside)))
    with pytest.raises(BackupError, match="lies among the data that it is to keep"):
        await keeper.run()
    assert list(inside.iterdir()) == []


async def test_only_one_thing_is_done_at_a_time_and_it_is_named(kept: Kept) -> None:
    keeper = kept.keeper()
    async with keeper._alone.on("verify"):
        with pytest.raises(ConflictError, match=r"^The proof of a backup is under way\. "):
            await keeper.run()


async def test_a_passphrase_that_is_soon_guessed_is_refused(home: Path, tmp_path: Path) -> None:
    async with running(home) as bench:
        with pytest.raises(InvalidArgumentsError, match="The passphrase has 5 characters"):
            await bench.invoke("backup.export", file=str(tmp_path / "all.backup.age"), passphrase="short")


async def test_without_a_target_a_list_says_so(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="No target for backups is configured") as caught:
        await rig.keeper(tmp_path / "home", None).list_all()
    assert "[backup.targets.nas]" in caught.value.next_step


async def test_a_lost_key_is_told_and_no_other_is_made(kept: Kept) -> None:
    file = kept.home / "data/secrets/backup.password"
    key = file.read_bytes()
    file.unlink()
    keeper = kept.keeper()
    shown = keeper.book.targets["usb"]
    assert "The recovery key is gone: what is at usb opens with no other" in shown.problem, "at once, not at the next backup"
    assert str(file) in shown.next_step
    with pytest.raises(BackupError, match="The recovery key is gone"):
        await keeper.key()
    with pytest.raises(BackupError, match="The recovery key is gone"):
        await keeper.run()
    assert not file.exists()
    file.write_bytes(key)
    file.chmod(0o600)
    assert kept.keeper().book.targets["usb"].problem == "", "it is back"


async def test_every_backup_of_the_newest_days_is_kept(kept: Kept) -> None:
    keeper = kept.keeper()
    first = keeper.book.targets["usb"].snapshots[0].id
    await keeper.run()
    found = keeper.book.targets["usb"].snapshots
    assert [each.id for each in found][1:] == [first], "one of today by hand is not removed by the next one of today"
    none = kept.keeper(keep_all_days=0)
    assert await none.prune() == 1
    assert [each.id for each in none.book.targets["usb"].snapshots] == [found[0].id]


def test_new_is_what_was_written_and_nothing_else() -> None:
    old = Snapshot("1234abcd", 1000.0, "usb", "control-pc", ("state",), 10, 456_602)
    new = replace(old, stored=40_960)
    for each, told in ((old, "–"), (new, "40.0 KiB")):
        status = BackupStatus(targets=(TargetStatus("usb", "folder", "/x", 1.0, snapshots=(each,)),))
        assert rows(status)[0].cells[5] == told
    assert "new         445.9 KiB before they were compressed" in text(view.detail(old))
    assert "new         40.0 KiB written, of 445.9 KiB before they were compressed" in text(view.detail(new))
    assert merged((new,), (replace(new, added=None, stored=None),)) == (new,)


async def test_what_restic_tells_of_a_new_snapshot_is_read(tmp_path: Path) -> None:
    summary = '{"message_type":"summary","snapshot_id":"0123456789","data_added":5000%s}'
    for more, stored in ((', "data_added_packed": 1200', 1200), ("", None)):
        stand_in = tmp_path / "restic"
        stand_in.write_text(f"#!/bin/sh\necho '{summary % more}'\n")
        stand_in.chmod(0o755)
        environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        restic = Restic(Repository(str(tmp_path), b"key", {}, tmp_path / "work"), environ)
        made = await restic.backup(tmp_path, "control-pc", (), 60, lambda _: None)
        assert made == ("0123456789", 5000, stored)


def test_targets_are_a_line_each_with_what_is_wrong_below() -> None:
    made = Snapshot("1234abcd", 1000.0, "nas", "control-pc", ("state",), 2048, 10)
    good = TargetStatus(
        "nas", "folder", "/mnt/nas/x", 1795359977.0, time.time() - 7200, time.time() - 7200, seconds=3.2, snapshots=(made,)
    )
    value = msgspec.to_builtins([good, failing(1)])
    shown = render.formed(backup_text.FORMS, "backup.targets", value, 120, colour=False)
    assert shown is not None
    table, told = shown.split("\n\n")
    assert len(table.splitlines()) == 3
    for word in ("2 h ago", "3.2 s", "1234abcd", "2.0 KiB", "/mnt/nas/x"):
        assert word in table.splitlines()[1]
    assert told.startswith("disk1: Nothing is mounted at /media/disk1")
    assert "1795359977" not in shown


def test_a_job_says_how_to_follow_it_and_its_result_is_read_as_people_do() -> None:
    job = JobStatus("01jdabcdef", "backup.verify", "ada", JobState.pending, 1795360048.0)
    shown = render.formed(backup_text.FORMS, "backup.verify", msgspec.to_builtins(job), 100, colour=False)
    assert shown is not None
    assert shown.endswith("It goes on. See what comes of it: prime-spark job show 01jdabcdef; or give --wait.")
    row = {"target": "usb", "size": 447_078, "added": 452_891, "stored": 40_960, "seconds": 61.0, "proved": 1795360048.0}
    done = replace(job, name="backup", state=JobState.completed, ended=1795360049.0, result=[row])
    for action in ("backup.run", "job.show"):
        shown = render.formed(backup_text.FORMS, action, msgspec.to_builtins(done), 100, colour=False)
        assert shown is not None
        assert "It goes on" not in shown
        for word in ("442.3 KiB", "40.0 KiB", "1 min 1 s", "2026-11-22"):
            assert word in shown
        for number in ("452891", "1795360048"):
            assert number not in shown
    other = render.formed(backup_text.FORMS, "job.show", msgspec.to_builtins(replace(job, name="export")), 100, colour=False)
    assert other is not None
    assert "It goes on" not in other


def test_a_target_that_is_a_file_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TargetAwayError, match="file is no directory") as caught:
        look(BackupTarget(path=str(tmp_path / "file")), tmp_path / "nas")
    assert "mkdir" not in caught.value.next_step


@pytest.mark.parametrize("what", ["restore", "snapshots"])
def test_a_directory_without_a_repository_is_told_as_that(what: str) -> None:
    first = "Fatal: unable to open config file: stat /tmp/config: no such file or directory"
    said = f"{first}\nIs there a repository at the following location?\n/tmp"
    found = explain(what, "/tmp", said)
    assert found.message == "There is no repository at /tmp."


def test_a_name_that_is_none_is_told_with_the_form_of_names(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[backup.targets."with space"]\npath = "/tmp/x"\n')
    with pytest.raises(ConfigError, match=r"backup\.targets: 'with space' is no name") as caught:
        config.load(rig.places(tmp_path), {})
    assert "letters, digits" in caught.value.next_step
