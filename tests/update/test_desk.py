"""Updates from the order to the commit, with RAUC itself: kept when all is well, left when it is not, whole after every cut."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.core.lifecycle.update.desk import Desk
from appliance.core.lifecycle.update.faults import BusyError
from appliance.core.lifecycle.update.model import OutcomeKind, SlotState, TrialState
from appliance.core.model import Health, JobState
from appliance.errors import AbsentError, UpdateError
from tests.support import wait_for
from tests.update.raucrig import HERE, Bundles, Machine, service

VERSIONS = {"A": "1.0.0", "B": "2.0.0"}


async def installed(machine: Machine, desk: Desk, bundle: Path) -> None:
    """Install it and wait."""
    await machine.up()
    await desk.waited(await desk.install("ada", str(bundle)))


async def starts(machine: Machine, slot: str) -> None:
    """The next start, which boots this slot."""
    assert machine.next_start(VERSIONS) == slot
    await machine.up()


async def kept(machine: Machine, desk: Desk) -> None:
    """Let the minute of health go by."""
    await wait_for(lambda: desk.status.trial.state is TrialState.running and desk.status.trial.steady is not None)
    machine.clock.move(61)
    await wait_for(lambda: desk.status.trial.state is TrialState.none)


async def test_an_update_is_tried_and_kept(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])
        status = desk.status
        assert (status.version, status.booted, status.committed, status.pending) == ("1.0.0", "A", "A", "B")
        assert status.trial.version == "2.0.0"
        assert status.last is not None
        assert status.last.kind is OutcomeKind.installed
        assert machine.noted.backups == ["ada"]
        assert await desk.restart() == "noted"
    await starts(machine, "B")
    async with machine.desk() as desk:
        await wait_for(lambda: desk.status.trial.state is TrialState.running)
        assert desk.health().health is Health.degraded
        with pytest.raises(UpdateError, match="slot A is the way back"):
            await desk.waited(await desk.install("ada", str(bundles["newer"])))
        await kept(machine, desk)
        status = desk.status
        assert (status.committed, status.version) == ("B", "2.0.0")
        assert [each.state for each in status.slots] == [SlotState.former, SlotState.committed]
        assert desk.health().health is Health.healthy
    assert machine.choice.good == "AB"
    assert machine.noted.kinds == ["update.installed", "update.committed"]
    assert [name for name, _ in machine.noted.rows] == ["update.installed", "update.committed"]
    assert machine.noted.restarts == 1


async def test_a_service_that_is_not_well_any_more_brings_the_former_system_back(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])
    await starts(machine, "B")
    machine.services[2] = service("voice", Health.unhealthy, "no microphone")
    async with machine.desk() as desk:
        await wait_for(lambda: desk.status.trial.holds)
        machine.clock.wall_now += 10 * 24 * 3600  # the clock is set: neither kept nor left for that
        await wait_for(lambda: desk.status.trial.left is not None)
        assert machine.noted.restarts == 0
        machine.clock.move(601)
        await wait_for(lambda: machine.noted.restarts)
        assert desk.status.trial.state is TrialState.failed
    async with machine.desk() as desk:  # the appliance is started again before the machine is
        await wait_for(lambda: machine.noted.restarts > 1)
    await starts(machine, "A")
    async with machine.desk() as desk:
        await wait_for(lambda: desk.status.last is not None and desk.status.last.kind is OutcomeKind.fell_back)
        last, slot = desk.status.last, desk.status.slot("B")
        assert last is not None
        assert (last.former, last.version) == ("1.0.0", "2.0.0")
        assert "voice: no microphone" in last.reason
        assert last.next_step
        assert slot is not None
        assert (slot.state, slot.problem) == (SlotState.bad, "voice: no microphone")
        with pytest.raises(UpdateError, match="no way back"):
            await desk.rollback("ada")
    assert machine.choice.trial == ""
    assert machine.noted.kinds.count("update.fell_back") == 1


async def test_a_trial_that_never_got_so_far_is_told(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])
    path = machine.places.boot / "EFI/BOOT/grubenv"
    path.write_bytes(path.read_bytes().replace(b"left=1", b"left=0"))  # GRUB tried it, its kernel panicked, and A started
    async with machine.desk() as desk:
        await wait_for(lambda: desk.status.last is not None and desk.status.last.kind is OutcomeKind.fell_back)
        assert desk.status.last is not None
        assert "did not get as far" in desk.status.last.reason


async def test_the_way_back_is_a_trial_too(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await machine.up()
        with pytest.raises(UpdateError, match="never ran healthily"):
            await desk.rollback("ada")
        await installed(machine, desk, bundles["good"])
    await starts(machine, "B")
    async with machine.desk() as desk:
        await kept(machine, desk)
        assert "slot A" in await desk.rollback("ada")
        assert desk.status.pending == "A"
        with pytest.raises(UpdateError, match="already"):
            await desk.rollback("ada")
    await starts(machine, "A")
    async with machine.desk() as desk:
        await kept(machine, desk)
        assert desk.status.committed == "A"
    assert machine.noted.kinds == ["update.installed", "update.committed", "update.rolled_back"]


async def test_what_is_refused_is_told_and_nothing_is_written(machine: Machine, bundles: Bundles) -> None:
    said = {
        "older": "older than", "same": "runs already", "other": "this machine is prime-spark-amd64",
        "foreign": "does not trust", "truncated": "ends without a signature", "missing": "is not there",
    }  # fmt: skip
    async with machine.desk() as desk:
        await machine.up()
        for name, why in said.items():
            with pytest.raises(UpdateError, match=why) as told:
                await desk.waited(await desk.install("ada", str(bundles[name])))
            assert told.value.next_step
        assert desk.status.last is not None
        assert desk.status.last.kind is OutcomeKind.refused
        assert machine.noted.backups == []
        assert not (machine.root / "calls").read_text().count("set-")
        await desk.waited(await desk.install("ada", str(bundles["older"]), older=True, backup=False))
        assert desk.status.trial.version == "0.9.0"


async def test_never_two_at_once_and_restarted_when_asked(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await machine.up()
        held = machine.hold("set-state")
        job = await desk.install("ada", str(bundles["good"]), restart=True)
        await machine.reached("set-state B bad")
        with pytest.raises(BusyError):
            await desk.install("bob", str(bundles["newer"]))
        with pytest.raises(BusyError):
            await desk.rollback("bob")
        with pytest.raises(BusyError):
            await desk.restart()
        assert desk.status.doing
        held.unlink()
        assert (await desk.waited(job)).state is JobState.completed
        await wait_for(lambda: machine.noted.restarts == 1)
        assert desk.status.doing == ""


VICTIM = """
import asyncio, sys
from pathlib import Path
from tests.update.raucrig import Machine

async def main() -> None:
    machine = Machine.__new__(Machine)
    machine.take_over(Path(sys.argv[1]))
    async with machine.desk() as desk:
        await desk.waited(await desk.install("ada", sys.argv[2]))

asyncio.run(main())
"""


@pytest.mark.parametrize("point", ["set-state", "set-primary"])
async def test_killed_while_rauc_writes_the_next_start_sees_what_came_of_it(
    point: str, machine: Machine, bundles: Bundles
) -> None:
    await machine.up()
    held = machine.hold(point)
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, str(machine.root), str(bundles["good"])], cwd=HERE)
    try:
        await machine.reached(f"{point} B{' bad' if point == 'set-state' else ''}")
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    async with machine.desk() as desk:
        await wait_for(lambda: desk.ground.book.notes.pending is not None)
        assert desk.status.trial.state is TrialState.none
        held.unlink()
        await wait_for(lambda: desk.status.last is not None, 20)
        assert desk.status.last is not None
        assert (desk.status.last.kind, desk.status.last.version) == (OutcomeKind.installed, "2.0.0")
        assert desk.status.pending == "B"


@pytest.mark.parametrize("point", ["set-state", "set-primary"])
async def test_a_cut_while_a_slot_is_written_leaves_what_runs(point: str, machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await machine.up()
        machine.hold(point)
        job = await desk.install("ada", str(bundles["good"]))
        await machine.reached(f"{point} B{' bad' if point == 'set-state' else ''}")
        machine.end_rauc(kill=True)
        with pytest.raises(UpdateError, match="does not answer"):
            await desk.waited(job)
    (machine.root / f"hold-{point}").unlink()
    (machine.root / "calls").write_text("")
    await starts(machine, "A")
    async with machine.desk() as desk:
        await wait_for(lambda: desk.status.last is not None and desk.status.last.kind is OutcomeKind.cut)
        assert desk.status.trial.state is TrialState.none
        way = desk.status.slot("B")
        assert way is not None
        assert way.state in {SlotState.empty, SlotState.bad}
        await installed(machine, desk, bundles["good"])
        assert desk.status.pending == "B"


async def test_a_committed_system_counts_as_healthy_and_a_stand_in_does_not(machine: Machine) -> None:
    path = machine.places.boot / "EFI/BOOT/grubenv"
    path.write_bytes(path.read_bytes().replace(b"boots=0", b"boots=3"))
    await machine.up()
    async with machine.desk() as desk:
        machine.clock.move(61)
        desk.poke()
        await wait_for(lambda: machine.choice.boots == 0)
    path.write_bytes(path.read_bytes().replace(b"committed=A", b"committed=B").replace(b"good=A-", b"good=AB"))
    async with machine.desk() as desk:  # B is committed and did not start four times
        await wait_for(lambda: "update.fell_back" in machine.noted.kinds)
        assert desk.health().health is Health.degraded
        machine.clock.move(61)
        desk.poke()
        await desk.refresh()
        assert machine.choice.committed == "B"


async def test_slots_are_read_again_and_damage_is_told(machine: Machine, bundles: Bundles) -> None:
    async with machine.desk() as desk:
        await installed(machine, desk, bundles["good"])
        await desk.waited(await desk.verify("ada"))
        slot = desk.status.slot("B")
        assert slot is not None
        assert slot.verified == machine.clock.wall()
        with (machine.root / "system-b.img").open("r+b") as file:
            file.seek(1000)
            file.write(b"x")
        job = await desk.waited(await desk.verify("ada"))
        found = {(each["slot"], each["part"]): each["good"] for each in job.result}
        assert found == {("A", "boot"): None, ("A", "system"): None, ("B", "boot"): True, ("B", "system"): False}
        slot = desk.status.slot("B")
        assert slot is not None
        assert "system" in slot.problem
    assert machine.noted.kinds[-1] == "update.damaged"


async def test_another_system_has_no_updates(machine: Machine) -> None:
    (machine.root / "os-release").write_text("ID=debian\n")
    with pytest.raises(AbsentError, match="not started from our image"):
        machine.ground().image.facts()
