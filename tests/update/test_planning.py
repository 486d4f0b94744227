"""What comes without being asked: looks at the source when they are due, and no more than the settings allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.lifecycle.update.desk import Desk
from appliance.core.lifecycle.update.model import Checked, OutcomeKind, Release, TrialState
from appliance.core.lifecycle.update.planning import SCHEDULE, Planner
from appliance.core.lifecycle.update.shop import Report
from appliance.errors import UpdateError
from tests.support import wait_for
from tests.update.raucrig import Bundles, Machine
from tests.update.test_desk import installed, kept, starts

NEW = Release("2.0.0", "amd64", "/releases/prime-spark-2.0.0-amd64.raucb", sha256="0" * 64)
HOUR = 3600.0


class Shelf:
    """A source that has one bundle here; sources of every kind have tests of their own.

    Attributes:
        looks: How often it was looked at.
        problem: Why it cannot be.
    """

    def __init__(self, bundle: Path) -> None:
        self.bundle, self.looks = bundle, 0
        self.problem: UpdateError | None = None

    async def look(self, arch: str, running: str) -> Checked:
        self.looks += 1
        if self.problem is not None:
            raise self.problem
        return Checked("2.0.0 is newer.", NEW, (NEW,))

    async def pick(self, version: str, arch: str, running: str) -> Release:
        return NEW

    async def fetch(self, release: Release, report: Report) -> Path:
        return self.bundle

    async def clear(self) -> None:
        """Its bundle is not fetched: it stays."""


def plan(desk: Desk, machine: Machine, bundles: Bundles) -> tuple[Planner, Shelf]:
    """A plan on a source with something newer, at noon, the next look being due."""
    shelf = Shelf(bundles["good"])
    desk.ground.shop = shelf  # type: ignore[assignment]
    planner = Planner(desk)
    machine.clock.wall_now += 24 * HOUR
    return planner, shelf


async def test_a_newer_release_is_told_once_and_not_installed(machine: Machine, bundles: Bundles) -> None:
    await machine.up()
    async with machine.desk(source="/releases") as desk:
        planner, shelf = plan(desk, machine, bundles)
        await planner.turn()
        await planner.turn()  # not due again
        assert shelf.looks == 1
        assert desk.status.newest == NEW
        assert desk.health().next_step == "prime-spark update install"
        machine.clock.wall_now += 24 * HOUR
        await planner.turn()
        assert shelf.looks == 2
        assert machine.noted.kinds == ["update.offered"]
        assert desk.status.trial.state is TrialState.none


async def test_a_source_that_is_away_is_told_and_asked_again(machine: Machine, bundles: Bundles) -> None:
    await machine.up()
    async with machine.desk(source="/releases") as desk:
        planner, shelf = plan(desk, machine, bundles)
        shelf.problem = UpdateError("The source is away.", "mount it.")
        with pytest.raises(UpdateError):
            await planner.turn()
        await planner.turn()
        assert shelf.looks == 1
        assert (desk.status.check_problem, desk.status.check_step) == ("The source is away.", "mount it.")
        shelf.problem = None
        machine.clock.wall_now += 24 * HOUR
        await planner.turn()
        assert desk.status.check_problem == ""


async def test_it_is_installed_and_restarted_into_within_the_window_only(machine: Machine, bundles: Bundles) -> None:
    await machine.up()
    machine.clock.wall_now = 1_800_000_000.0 // 86400 * 86400 + 12 * HOUR
    async with machine.desk(source="/releases", automatic="restart") as desk:
        planner, _ = plan(desk, machine, bundles)
        await planner.turn()
        assert desk.status.pending == "B"
        pending = desk.ground.book.notes.pending
        assert pending is not None
        assert pending.by == SCHEDULE
        assert machine.noted.restarts == 0
        machine.clock.wall_now += 15 * HOUR  # 03:00
        await planner.turn()
        assert machine.noted.restarts == 1


async def test_what_was_not_kept_is_not_installed_again_by_itself(machine: Machine, bundles: Bundles) -> None:
    await machine.up()
    async with machine.desk(source="/releases", automatic="install") as desk:
        planner, _ = plan(desk, machine, bundles)
        await planner.turn()
        assert desk.status.pending == "B"
        path = machine.places.boot / "EFI/BOOT/grubenv"
        path.write_bytes(path.read_bytes().replace(b"left=1", b"left=0"))
        desk.poke()
        await wait_for(lambda: desk.status.last is not None and desk.status.last.kind is OutcomeKind.fell_back)
        machine.clock.wall_now += 24 * HOUR
        await planner.turn()
        assert desk.status.trial.state is TrialState.none


async def test_what_somebody_went_back_from_is_not_installed_again_by_itself(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])
    await starts(machine, "B")
    async with machine.desk() as desk:
        await kept(machine, desk)
        await desk.rollback("ada")
    await starts(machine, "A")
    async with machine.desk(source="/releases", automatic="install") as desk:
        await kept(machine, desk)
        assert desk.status.committed == "A"
        planner, shelf = plan(desk, machine, bundles)
        await planner.turn()
        assert shelf.looks == 1
        assert desk.status.trial.state is TrialState.none


async def test_a_clock_that_ran_ahead_does_not_put_the_next_look_off_for_years(machine: Machine, bundles: Bundles) -> None:
    await machine.up()
    async with machine.desk(source="/releases") as desk:
        planner, shelf = plan(desk, machine, bundles)
        await desk.ground.keep(tried=machine.clock.wall() + 4 * 365 * 24 * HOUR)
        await planner.turn()
        await planner.turn()
        assert shelf.looks == 1
        moment = planner.moment()
        assert moment is not None
        assert moment <= machine.clock.wall() + 24 * HOUR


async def test_without_a_source_nothing_is_planned(machine: Machine) -> None:
    await machine.up()
    async with machine.desk() as desk:
        assert Planner(desk).moment() is None
