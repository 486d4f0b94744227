"""Schedules: when they are due, with summer time, missed runs and clocks that jump."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from appliance.core.tasks import cron
from appliance.core.tasks.model import Schedule
from appliance.errors import ConflictError, InvalidArgumentsError, NotFoundError
from tests.support import ManualClock
from tests.tasks.rig import Echo, Rig, running

BERLIN = ZoneInfo("Europe/Berlin")


def at(*parts: int, fold: int = 0) -> float:
    return datetime(*parts, tzinfo=BERLIN, fold=fold).timestamp()  # type: ignore[misc,arg-type]


def texts(moments: list[float]) -> list[str]:
    return [datetime.fromtimestamp(each, BERLIN).strftime("%d %H:%M%z") for each in moments]


@pytest.mark.parametrize(
    ("fields", "after", "expected"),
    [
        ("30 3 * * *", at(2026, 7, 1, 12), ["02 03:30+0200", "03 03:30+0200"]),
        ("30 2 * * *", at(2026, 3, 28, 12), ["29 03:00+0200", "30 02:30+0200"]),  # 2:30 is left out on the 29th
        ("30 2 * * *", at(2026, 10, 24, 12), ["25 02:30+0200", "26 02:30+0100"]),  # 2:30 comes twice on the 25th
        ("0 0 31 * *", at(2026, 1, 31, 1), ["31 00:00+0200", "31 00:00+0200"]),
    ],
)
def test_moments_in_a_zone_with_summer_time(fields: str, after: float, expected: list[str]) -> None:
    found = list(islice(cron.following(cron.fields_of(fields), "Europe/Berlin", after), 2))
    assert texts(found) == expected


@pytest.mark.parametrize("fields", ["", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "a b c d e"])
def test_what_never_comes_is_refused(fields: str) -> None:
    with pytest.raises(InvalidArgumentsError, match="schedule that ever comes"):
        cron.fields_of(fields)


def test_zones_are_known_by_name() -> None:
    with pytest.raises(InvalidArgumentsError, match="no time zone"):
        cron.zone_of("Middle/Earth")
    assert cron.fields_of("@daily") == "0 0 * * *"


def schedule(name: str = "s", **more: object) -> Schedule:
    values = {"name": name, "cron": "*/10 * * * *", "zone": "UTC", "type": "echo", "payload": {"n": 1}, "owner": "anna"}
    return Schedule(**{**values, **more})  # type: ignore[arg-type]


def done(rig: Rig) -> int:
    return len(rig.desk.live)


async def test_each_moment_brings_one_task(tmp_path: Path) -> None:
    clock = ManualClock(1_800_000_000 - 1_800_000_000 % 600 + 1)
    async with running(tmp_path, run=False, clock=clock, handlers=[Echo()]) as rig:
        schedules = rig.service.schedules
        await schedules.add(schedule())
        assert await schedules.look("s") is None
        for number in range(1, 4):
            clock.move(600)
            task = await schedules.look("s")
            assert task is not None
            assert (task.owner, task.schedule, done(rig)) == ("anna", "s", number)
            assert await schedules.look("s") is None
        kept = schedules.get("s")
        assert (kept.last_task, kept.missed_runs) == (task.task_id, 0)
        assert kept.next == pytest.approx(clock.wall() - 1 + 600)


@pytest.mark.parametrize(("missed", "made", "left"), [("once", 1, 5), ("skip", 0, 6)])
async def test_what_was_missed_is_made_up_once_or_left_out(tmp_path: Path, missed: str, made: int, left: int) -> None:
    clock = ManualClock(1_800_000_000 - 1_800_000_000 % 600 + 1)
    async with running(tmp_path, run=False, clock=clock, handlers=[Echo()]) as rig:
        await rig.service.schedules.add(schedule(missed=missed))
    clock.move(3600 + 300)  # the appliance was off
    async with running(tmp_path, run=False, clock=clock, handlers=[Echo()]) as rig:
        await rig.service.schedules.look("s")
        assert done(rig) == made
        assert rig.service.schedules.get("s").missed_runs == left
        await rig.service.schedules.look("s")
        assert done(rig) == made
        clock.move(300)
        await rig.service.schedules.look("s")
        assert done(rig) == made + 1  # the next moment as ever


async def test_a_clock_that_jumps_brings_no_run_twice(tmp_path: Path) -> None:
    clock = ManualClock(1_800_000_000 - 1_800_000_000 % 600 + 1)
    async with running(tmp_path, run=False, clock=clock, handlers=[Echo()]) as rig:
        schedules = rig.service.schedules
        await schedules.add(schedule())
        clock.move(600)
        await schedules.look("s")
        clock.wall_now -= 900  # less than an hour back: nothing until the time is reached again
        for _ in range(15):
            clock.move(60)
            await schedules.look("s")
        assert done(rig) == 1
        clock.move(600)
        await schedules.look("s")
        assert done(rig) == 2
        clock.wall_now -= 86400 * 365  # it was wrong before: begun anew from what it says
        await schedules.look("s")
        assert "went back" in schedules.get("s").note
        clock.move(600)
        await schedules.look("s")
        assert done(rig) == 3
        clock.wall_now += 86400 * 365
        await schedules.look("s")
        assert done(rig) == 4


async def test_schedules_rest_run_now_and_go(tmp_path: Path) -> None:
    clock = ManualClock(1_800_000_000 - 1_800_000_000 % 600 + 1)
    async with running(tmp_path, run=False, clock=clock, handlers=[Echo()]) as rig:
        schedules = rig.service.schedules
        await schedules.add(schedule())
        with pytest.raises(ConflictError, match="already"):
            await schedules.add(schedule())
        with pytest.raises(InvalidArgumentsError, match="No worker has ever told"):
            await schedules.add(schedule("t", type="nothing"))
        assert (await schedules.switch("s", enabled=False)).next is None
        clock.move(3600)
        assert await schedules.look("s") is None
        assert (await schedules.run_now("s", "bob")).owner == "bob (schedule s)"
        await schedules.switch("s", enabled=True)
        assert await schedules.look("s") is None  # what came while it rested is not made up
        await schedules.remove("s")
        with pytest.raises(NotFoundError, match="No schedule"):
            schedules.get("s")
        assert await rig.desk.book.schedules() == []


async def test_a_full_queue_is_told_at_the_schedule(tmp_path: Path) -> None:
    clock = ManualClock(1_800_000_000 - 1_800_000_000 % 600 + 1)
    async with running(tmp_path, run=False, clock=clock, handlers=[Echo()], waiting=1) as rig:
        await rig.service.schedules.add(schedule())
        await rig.submit()
        clock.move(600)
        with pytest.raises(ConflictError):
            await rig.service.schedules.look("s")
        assert "not submitted: 1 tasks wait" in rig.service.schedules.get("s").note


async def test_many_missed_runs_hold_up_no_run_of_now(tmp_path: Path) -> None:
    clock = ManualClock(1_800_000_000 - 1_800_000_000 % 600 + 1)
    async with running(tmp_path, run=False, clock=clock, handlers=[Echo()]) as rig:
        await rig.service.schedules.add(schedule(cron="* * * * *", missed="skip"))
        clock.move(86400 * 3)
        assert await rig.service.schedules.look("s") is not None  # the run of this minute
        assert rig.service.schedules.get("s").missed_runs == cron.MOST - 1
        assert done(rig) == 1
