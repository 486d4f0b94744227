"""Backups on a whole appliance: absent with a next step, jobs, roles, the page, the schedule, the alert, the numbers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.core.alerts import backups
from appliance.core.clock import SystemClock
from appliance.core.jobs import Jobs
from appliance.core.lifecycle.backup.keeper import Keeper
from appliance.core.lifecycle.backup.model import BackupStatus, Proof, Snapshot, TargetStatus
from appliance.core.lifecycle.backup.service import BackupService
from appliance.core.metrics import backup_samples
from appliance.core.model import Actor, Health, Role
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.errors import AbsentError, ApplianceError, ConfirmationRequiredError, NotAuthorizedError
from appliance.screens import lifecycle_text as view
from appliance.screens.lifecycle_view import rows
from tests.backup import rig
from tests.backup.conftest import Kept
from tests.screens.conftest import running
from tests.support import ManualClock, wait_for

pytestmark = pytest.mark.xdist_group("backup")

DAY = 86400.0


async def test_without_a_target_it_is_absent_and_says_what_to_do(home: Path, tmp_path: Path) -> None:
    async with running(home) as bench:
        status: Any = await bench.invoke("backup.status")
        services = {each.name: each for each in bench.appliance.state.get(Section.services).value}
        assert services["backup"].health is Health.absent
        assert "[backup.targets.nas]" in services["backup"].next_step
        assert status.targets == ()
        with pytest.raises(AbsentError):
            await bench.invoke("backup.run")
        seen = bench.open(size=(100, 30))
        await seen.press("gz", "no target for backups is configured: nothing is backed up")
        await seen.shows("local measurements: large, and of yesterday")
        done: Any = await bench.invoke("backup.export", file=str(tmp_path / "all.backup.age"), wait=True)
        assert done.result["proved"] is True
        invoke = bench.appliance.dispatcher.invoke
        with pytest.raises(NotAuthorizedError):
            await invoke("backup.key", {}, Actor("bob", Role.operator, "console"))
        with pytest.raises(ConfirmationRequiredError, match="kept aside"):
            await invoke("backup.restore", {"source": str(tmp_path / "all.backup.age")}, Actor("ada", Role.admin, "console"))
        with pytest.raises(ApplianceError, match="only at this machine"):
            await bench.appliance.dispatcher.invoke(
                "backup.export", {"file": "/etc/x"}, Actor("ada", Role.admin, "api"), confirm=True
            )
        await bench.invoke("backup.restore", source=str(tmp_path / "all.backup.age"), wait=True)
        await seen.shows("applied at the next start")
        await seen.press("K", "AGE-SECRET-KEY-1")
        listed: Any = await bench.invoke("audit.list")
        assert "backup.key" in {row.action for row in listed}
        assert "AGE-SECRET" not in str(listed)
        await bench.invoke("backup.restore-cancel")
        await seen.end()


def target(**changes: Any) -> TargetStatus:
    return replace(TargetStatus("usb", "folder", "/media/x", time.time() - 10 * DAY), **changes)


def text(lines: list[Any]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def test_the_alert_counts_days_without_a_proof() -> None:
    state = LiveState(SystemClock())
    assert backups.unproved(state)[0].value is None
    for last, days in ((None, 10), (time.time() - 2 * DAY, 2)):
        state.put(Section.backup, BackupStatus(targets=(target(last_good=last, last_try=time.time()),)))
        reading = backups.unproved(state)[0]
        assert reading.value == pytest.approx(days, abs=0.1)
        assert ("none before" in reading.message) is (last is None)


def test_numbers_that_are_not_known_are_left_out() -> None:
    assert list(backup_samples(BackupStatus())) == []
    names = {each.name for each in backup_samples(BackupStatus(targets=(target(),)))}
    assert names == {"edge_backup_runs_total", "edge_backup_failures_total", "edge_backup_failed_in_a_row"}
    made = Snapshot("1234abcd", 1000.0, "usb", "control-pc", ("state",), 10, 5, Proof(True, 1001.0, "1 file"))
    status = BackupStatus(targets=(target(last_good=1000.0, seconds=3.0, snapshots=(made,)),))
    values = {each.name: each.value for each in backup_samples(status)}
    assert values["edge_backup_last_proved_timestamp_seconds"] == 1000.0
    assert values["edge_backup_size_bytes"] == 10


def test_the_page_tells_proved_unproved_and_damaged_apart() -> None:
    def made(proof: Proof | None) -> Snapshot:
        return Snapshot("1234abcd", 1000.0, "usb", "control-pc", ("state",), None, None, proof)

    words = [view.proved(made(proof))[0] for proof in (None, Proof(True, 1.0, ""), Proof(False, 1.0, "x differs"))]
    assert words == ["not proved", "proved", "DAMAGED"]
    assert "it was not restored and compared yet" in text(view.detail(made(None)))
    assert "x differs" in text(view.detail(made(Proof(False, 1.0, "x differs"))))
    status = BackupStatus(targets=(target(problem="Nothing is mounted at /media/x.", next_step="plug it in."),))
    shown = text(view.head(status, None))
    assert "Nothing is mounted" in shown
    assert "next: plug it in." in shown
    assert rows(None) == []
    assert "not looked at yet" in text(view.head(None, None))


async def test_it_is_due_as_the_schedule_says_and_sooner_after_a_failure(kept: Kept) -> None:
    keeper = kept.keeper(schedule="0 3 * * *")

    async def tell(*_: Any) -> None:
        """Nobody listens."""

    three = 1_800_000_000 // 86400 * DAY + 3 * 3600
    clock = ManualClock(three - 1800)
    service = BackupService(
        lambda _: keeper, keeper.ground.settings, None, LiveState(clock), clock, tell  # type: ignore[arg-type]
    )  # fmt: skip
    keeper.book.targets["usb"] = target(first_seen=three - 7200, last_try=three - 3600, last_good=three - 3600)
    assert service.moments() == {"usb": three}
    keeper.book.targets["usb"] = target(last_try=three - 7200, failures=1)
    assert three - 7200 + 300 <= service.moments()["usb"] <= three - 7200 + 600
    keeper.book.targets["usb"] = target(last_try=three - 7200, failures=60)
    assert service.moments()["usb"] <= three, "never later than the schedule"
    keeper.book.targets["usb"] = target(last_try=three + 4 * 365 * DAY)
    assert service.moments() == {"usb": clock.wall()}, "the clock had run ahead: not in four years"
    by_hand = rig.keeper(kept.home, kept.repository, schedule="")
    service = BackupService(
        lambda _: by_hand, by_hand.ground.settings, None, LiveState(clock), clock, tell  # type: ignore[arg-type]
    )  # fmt: skip
    assert service.moments() == {}


async def nobody(*_: Any) -> None:
    """Nobody listens."""


async def test_it_is_absent_without_restic(kept: Kept) -> None:
    keeper = kept.keeper()
    keeper = Keeper(replaced(keeper.ground, environ={"PATH": str(kept.home)}))
    service = BackupService(
        lambda _: keeper, keeper.ground.settings, None, LiveState(SystemClock()), SystemClock(), nobody  # type: ignore[arg-type]
    )  # fmt: skip
    with pytest.raises(AbsentError, match="restic is not installed") as caught:
        await service.start()
    assert "sudo apt-get install restic" in caught.value.next_step


@pytest.mark.parametrize(
    ("schedule", "days", "most", "health"),
    [("0 3 * * *", 1.5, 3.0, Health.healthy), ("0 3 * * *", 2.5, 3.0, Health.degraded), ("", 2.5, 3.0, Health.healthy),
     ("", 3.5, 3.0, Health.degraded), ("", 3.5, 9.0, Health.healthy), ("0 3 * * 0", 8.5, 9.0, Health.healthy),
     ("0 3 * * 1-5", 2.3, 3.0, Health.healthy),
     ("0 3 * * 0", 8.5, 3.0, Health.degraded)],
)  # fmt: skip
async def test_a_proof_that_is_too_old_is_not_healthy(
    kept: Kept, schedule: str, days: float, most: float, health: Health
) -> None:
    keeper, clock = kept.keeper(schedule=schedule), ManualClock()
    clock.wall_now = 1_800_000_000 // (7 * DAY) * 7 * DAY + 3 * DAY + 12 * 3600  # a Sunday's noon
    keeper.book.targets["usb"] = target(last_good=clock.wall() - days * DAY, last_try=clock.wall())
    service = BackupService(
        lambda _: keeper, keeper.ground.settings, None, LiveState(clock), clock, nobody, lambda: most  # type: ignore[arg-type]
    )  # fmt: skip
    service.show()
    report = await service.health()
    assert report.health is health
    assert (f"{days:.1f} days ago" in report.reason, "backup run" in report.next_step) == (health is Health.degraded,) * 2


async def test_what_was_missed_is_made_up_for_after_the_start(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.core.lifecycle.backup.service.SETTLE", 0.0)
    keeper, state = kept.keeper(), LiveState(SystemClock())
    told: list[tuple[str, dict[str, Any]]] = []
    was = keeper.book.targets["usb"]
    keeper.book.change("usb", lambda each: replace(each, last_try=each.first_seen - 3 * DAY))
    store = Store(tmp_path / "jobs.sqlite")
    await asyncio.to_thread(store.open)
    jobs = Jobs(store, state, SystemClock())

    async def tell(event: str, _: Any, facts: dict[str, Any]) -> None:
        told.append((event, facts))

    service = BackupService(lambda _: keeper, keeper.ground.settings, jobs, state, SystemClock(), tell)
    await service.start()
    going = asyncio.create_task(service.run())
    await wait_for(lambda: told and service.status.next_run is not None and service.status.next_run > time.time(), 60)
    going.cancel()
    assert told[0][0] == "backup.proved"
    assert jobs.all()[0].owner == "schedule"
    shown = state.get(Section.backup).value.targets[0]
    assert shown.last_good > was.last_good
    assert (await service.health()).health is Health.healthy
    store.close()
