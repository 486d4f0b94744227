"""What is remembered and shown of updates stays true, whatever comes between: another order, a cancellation, a full disk."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from appliance.core.lifecycle.update import proving
from appliance.core.lifecycle.update.faults import BusyError
from appliance.core.lifecycle.update.model import OutcomeKind, Release, SlotState, TrialState
from appliance.core.model import Health, JobState
from appliance.errors import AbsentError, StoreError, UpdateError
from tests.support import wait_for
from tests.update.raucrig import Bundles, Machine, service
from tests.update.test_desk import installed, kept, starts

OFFERED = Release("2.0.0", "amd64", "/releases/prime-spark-2.0.0-amd64.raucb", sha256="0" * 64)


async def test_what_runs_is_not_offered_as_newer(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk(source="/releases") as desk:
        await machine.up()
        await desk.ground.keep(newest=OFFERED, checked=machine.clock.wall())
    async with machine.desk(source="/releases") as desk:
        assert desk.status.newest == OFFERED
        await installed(machine, desk, bundles["good"])
    await starts(machine, "B")
    async with machine.desk(source="/releases") as desk:
        await kept(machine, desk)
        assert desk.status.version == "2.0.0"
        assert desk.status.newest is None
    await starts(machine, "B")
    async with machine.desk(source="/releases") as desk:
        assert desk.status.newest is None


async def test_what_another_source_had_is_not_told_of_this_one(machine: Machine) -> None:
    await machine.up()
    async with machine.desk() as desk:
        with pytest.raises(AbsentError):
            await desk.check()
        assert desk.status.check_problem == ""
    async with machine.desk(source="/nowhere/at/all") as desk:
        with pytest.raises(UpdateError):
            await desk.check()
        await desk.ground.keep(newest=OFFERED)
    async with machine.desk(source="/releases") as desk:
        assert (desk.status.newest, desk.status.check_problem, desk.status.checked) == (None, "", None)
    async with machine.desk(source="/nowhere/at/all") as desk:
        assert desk.status.newest == OFFERED  # nothing of it was written yet


async def test_a_slot_that_is_written_anew_has_no_dates_of_its_former_contents(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await machine.up()
        await asyncio.to_thread(desk.ground.book.change_slot, "B", version="0.9.0", committed=1.0, verified=2.0)
        await installed(machine, desk, bundles["good"])
        slot = desk.status.slot("B")
        assert slot is not None
        assert (slot.version, slot.committed, slot.verified) == ("2.0.0", None, None)


async def test_the_version_that_was_flashed_is_known_from_the_other_slot(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])  # within the first minute: nothing was committed yet
    await starts(machine, "B")
    async with machine.desk() as desk:
        slot = desk.status.slot("A")
        assert slot is not None
        assert (slot.version, slot.state) == ("1.0.0", SlotState.committed)


async def test_an_update_that_waits_can_be_taken_back(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])
        assert await desk.rollback("ada") == "2.0.0 is not tried; 1.0.0 runs on"
        assert (desk.status.pending, machine.choice.trial, desk.ground.book.notes.left) == (None, "", "2.0.0")
        assert desk.status.last is not None
        assert (desk.status.last.kind, desk.status.last.version) == (OutcomeKind.rolled_back, "1.0.0")
        desk.poke()
        await desk.refresh()
    await starts(machine, "A")
    async with machine.desk() as desk:
        assert desk.status.trial.state is TrialState.none
    assert machine.noted.kinds == ["update.installed", "update.rolled_back"]


async def test_of_two_orders_at_once_one_is_refused(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await machine.up()
        machine.hold("set-state")
        both = await asyncio.gather(
            desk.install("ada", str(bundles["good"])), desk.install("bob", str(bundles["newer"])), return_exceptions=True
        )
        assert [type(each) for each in both].count(BusyError) == 1
        with pytest.raises(BusyError):
            await desk.rollback("bob")


async def test_a_cancelled_order_is_followed_to_what_became_of_it(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await machine.up()
        held = machine.hold("set-state")
        job = await desk.install("ada", str(bundles["good"]))
        await machine.reached("set-state B bad")
        assert (await desk._jobs.cancel(job.job_id)).state is JobState.cancelled
        await wait_for(lambda: desk.status.doing == "RAUC still writes slot B")
        held.unlink()
        await wait_for(lambda: desk.status.last is not None, 20)
        assert desk.status.last is not None
        assert (desk.status.last.kind, desk.status.doing) == (OutcomeKind.installed, "")
        await wait_for(lambda: desk.status.pending == "B")


async def test_an_order_can_be_given_after_the_list_of_jobs_forgot_the_last_one(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])
        assert desk._job is not None
        del desk._jobs._jobs[desk._job.job_id]  # as after 500 others
        assert not desk.busy
        await desk.waited(await desk.verify("ada"))


async def test_another_bundle_than_the_one_that_was_looked_at_is_not_tried(
    machine: Machine, bundles: Bundles, tmp_path: Path
) -> None:
    given = tmp_path / "given.raucb"
    shutil.copy(bundles["good"], given)
    async with machine.desk() as desk:
        await machine.up()

        async def swap(_: str) -> str:
            shutil.copy(bundles["older"], given)
            return "a backup was made"

        desk.ground.backup = swap
        with pytest.raises(UpdateError, match=r"another bundle"):
            await desk.waited(await desk.install("ada", str(given)))
        assert desk.status.trial.state is TrialState.none
        assert machine.choice.trial == ""


async def test_what_waits_keeps_its_gate_when_a_further_order_fails(
    machine: Machine, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])

        async def away(*_: object) -> None:
            raise UpdateError("RAUC did not begin.", "see its log.")

        monkeypatch.setattr(desk.ground.rauc, "install", away)
        with pytest.raises(UpdateError, match="did not begin"):
            await desk.waited(await desk.install("ada", str(bundles["newer"])))
        assert desk.status.pending == "B"
        pending = desk.ground.book.notes.pending
        assert pending is not None
        assert (pending.version, pending.before["voice"]) == ("2.0.0", "healthy")


async def test_a_failure_that_cannot_be_cleared_is_told_once(
    machine: Machine, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])
        path = machine.places.boot / "EFI/BOOT/grubenv"
        path.write_bytes(path.read_bytes().replace(b"left=1", b"left=0"))

        async def refuse(*_: object) -> None:
            raise UpdateError("RAUC says no.", "see its log.")

        monkeypatch.setattr(desk.ground.rauc, "mark", refuse)
        desk.poke()
        await wait_for(lambda: "update.fell_back" in machine.noted.kinds)
        machine.clock.move(61)
        desk.poke()
        await wait_for(lambda: desk.problem is not None)
        for _ in range(2):
            desk.problem = None
            desk.poke()
            await wait_for(lambda: desk.problem is not None)
        assert machine.noted.kinds.count("update.fell_back") == 1


async def test_a_trial_that_cannot_write_is_left_too(
    machine: Machine, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])
    await starts(machine, "B")
    machine.services[2] = service("voice", Health.unhealthy, "no microphone")
    async with machine.desk() as desk:
        await wait_for(lambda: desk.status.trial.holds)

        def full(**_: object) -> None:
            raise StoreError("update.json cannot be written: no space.", "free space there.")

        monkeypatch.setattr(desk.ground.book, "change", full)
        machine.clock.move(601)
        await wait_for(lambda: machine.noted.restarts)


async def test_there_is_no_way_back_into_a_damaged_slot(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])
    await starts(machine, "B")
    async with machine.desk() as desk:
        await kept(machine, desk)
        assert desk.status.way_back is not None
        await asyncio.to_thread(desk.ground.book.change_slot, "A", problem=f"system: {proving.DAMAGED}")
        await desk.refresh()
        slot = desk.status.slot("A")
        assert slot is not None
        assert slot.state is SlotState.bad
        with pytest.raises(UpdateError, match="no way back"):
            await desk.rollback("ada")
