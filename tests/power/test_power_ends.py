"""What must come to its end although something of it fails: the halt, a machine that was being told, the way back."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from msgspec import structs, to_builtins
from rich.console import Console

from appliance.core.catalog.power import answer
from appliance.core.power import hands, runner, service
from appliance.core.power.model import Phase, StageState, StepStatus, Supply
from appliance.core.state import Section
from appliance.errors import ApplianceError, ConflictError, DeviceError, DiskFullError, ShellError, UnreachableError
from appliance.verbs.power import FORMS
from tests.power.rig import QUICK, FakeDriver, FakeUps, Rig, running
from tests.support import wait_for


def empty() -> FakeUps:
    return FakeUps(supply=Supply.battery, percent=5.0)


class Halt:
    """A machine that is told to halt, and does not.

    Args:
        works_at: The try that works; 0 for none.
    """

    def __init__(self, error: ApplianceError, works_at: int = 0) -> None:
        self.tries = 0
        self._error, self._works_at = error, works_at

    async def __call__(self) -> str:
        self.tries += 1
        if self.tries == self._works_at:
            return "recorded"
        raise self._error


def halting(rig: Rig) -> StepStatus:
    assert rig.now.plan is not None
    return rig.now.plan.stages[-1].steps[-1]


async def test_a_disk_that_fails_does_not_keep_the_machine_from_halting(tmp_path: Path) -> None:
    async def full() -> None:
        raise DiskFullError("The disk is full.", "free some room.")

    async with running(tmp_path, empty()) as rig:
        rig.ground.tools.flush = full
        await wait_for(lambda: "halt" in rig.log, 20)
        await wait_for(lambda: halting(rig).state is StageState.done)
        assert "not all of the memory is on the disk: The disk is full." in halting(rig).detail


async def test_a_disk_that_hangs_does_not_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "FLUSH", 0.2)

    async def hang() -> None:
        await asyncio.Event().wait()

    async with running(tmp_path, empty()) as rig:
        rig.ground.tools.flush = hang
        await wait_for(lambda: "halt" in rig.log, 20)
        await wait_for(lambda: "no answer within" in halting(rig).detail)


async def test_a_halt_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HALT_AGAIN", 0.2)
    halt = Halt(DeviceError("poweroff did not halt this machine.", "look at it."), works_at=3)
    ups = empty()
    async with running(tmp_path, ups) as rig:
        rig.host.halt = halt  # type: ignore[method-assign]
        await wait_for(lambda: halt.tries == 3, 20)
        await wait_for(lambda: halting(rig).state is StageState.done)
        ups.values.update(supply=Supply.mains)
        await rig.phase(Phase.grid)
        await wait_for(lambda: rig.service.runner.run is None)
    assert halt.tries == 3


async def test_a_halt_is_not_tried_again_once_mains_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HALT_AGAIN", 1.5)
    halt = Halt(DeviceError("poweroff did not halt this machine.", "look at it."))
    ups = empty()
    async with running(tmp_path, ups) as rig:
        rig.host.halt = halt  # type: ignore[method-assign]
        await wait_for(lambda: halt.tries == 1, 20)
        ups.values.update(supply=Supply.mains)
        await rig.phase(Phase.grid)
        await wait_for(lambda: rig.service.runner.run is None)
        await wait_for(lambda: rig.service.runner._later is not None)
        rig.service.runner._halt_again(3, "of before")
        assert rig.service.runner.run is None
        assert halt.tries == 1


@pytest.mark.parametrize("error", [UnreachableError("agent is off.", "look."), ShellError("agent refuses.", "let it.")])
async def test_a_machine_that_was_not_powered_down_is_not_left_over(tmp_path: Path, error: ShellError) -> None:
    ups = empty()
    async with running(tmp_path, ups) as rig:

        class Refused:
            exit_status, stdout, stderr = 1, b"", b"a password is required"

        async def run(*_: object, **__: object) -> Refused:
            if isinstance(error, UnreachableError):
                raise error
            return Refused()

        rig.shell.run = run  # type: ignore[method-assign, assignment]
        await wait_for(lambda: "halt" in rig.log, 20)
        ups.values.update(supply=Supply.mains)
        await wait_for(lambda: rig.service.runner.run is None, 20)
        assert rig.now.plan is not None
        assert rig.now.plan.notes == ()


async def test_a_machine_that_was_being_told_is_told_again_by_the_next_life(tmp_path: Path) -> None:
    async def hang(*_: object, **__: object) -> None:
        rig.log.append("told")
        await asyncio.Event().wait()

    rig = Rig(tmp_path, lambda: [FakeDriver(empty())])
    rig.shell.run = hang  # type: ignore[method-assign, assignment]
    await rig.start()
    await wait_for(lambda: "told" in rig.log, 20)
    await rig.end()
    ups = empty()
    other = Rig(tmp_path, lambda: [FakeDriver(ups)])
    other.shell.error = UnreachableError("agent does not answer.", "look.")
    await other.start()
    try:
        await wait_for(lambda: "halt" in other.log, 20)
        assert "agent: sudo -n systemctl poweroff" in other.log
        assert other.now.plan is not None
        assert other.now.plan.stages[2].state is StageState.failed, "nobody knows whether it was powered down"
        ups.values.update(supply=Supply.mains)
        await wait_for(lambda: other.service.runner.run is None, 20)
        assert "it is not known whether agent was powered down" in other.now.plan.notes[0]
    finally:
        await other.end()


async def test_what_hangs_on_the_way_back_does_not_hold_up_the_next_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "UNDO", 0.3)

    async def hang(_: str) -> object:
        await asyncio.Event().wait()
        return None

    ups = empty()
    async with running(tmp_path, ups) as rig:
        await wait_for(lambda: "halt" in rig.log, 20)
        rig.services.restart = hang  # type: ignore[method-assign]
        ups.values.update(supply=Supply.mains)
        await wait_for(lambda: rig.service.runner.run is None, 20)
        assert rig.now.plan is not None
        assert any("stop-services was not taken back within" in note for note in rig.now.plan.notes)
        ups.values.update(supply=Supply.battery)
        await wait_for(lambda: rig.log.count("halt") == 2, 20)


async def test_an_abort_still_holds_after_a_halt_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HALT_AGAIN", 0.3)
    halt = Halt(ConflictError("busy.", "wait."))
    async with running(tmp_path, empty()) as rig:
        rig.host.halt = halt  # type: ignore[method-assign]
        await wait_for(lambda: halt.tries == 2, 20)
        await wait_for(lambda: halting(rig).state is StageState.failed)
        rig.service.runner.abort("ada")
        assert (rig.now.coming, rig.now.grace_s) == ((), None), "nothing of it comes"
        before = rig.service.runner._later
        assert before is not None
        await wait_for(lambda: before.when() < asyncio.get_running_loop().time() - 0.2)
        assert halt.tries == 2


async def test_an_aborted_plan_promises_nothing_in_critical(tmp_path: Path) -> None:
    ups = empty()
    limits = structs.replace(QUICK, grace=600.0)
    async with running(tmp_path, ups, limits=limits) as rig:
        await rig.phase(Phase.critical)
        await wait_for(lambda: rig.now.grace_s is not None and rig.service.runner.run is not None)
        rig.service.runner.abort("ada")
        assert (rig.now.coming, rig.now.grace_s) == ((), None)


async def test_a_ups_that_does_not_answer_says_nothing_of_now(tmp_path: Path) -> None:
    ups = FakeUps(percent=90.0, voltage=12.5, power=33.0, charging=True, runtime=600.0)
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.grid)
        ups.error = DeviceError("gone.", "look.")
        await rig.phase(Phase.unknown)
        now = rig.now
        assert (now.voltage, now.load_w, now.charging, now.percent_age, now.runtime) == (None,) * 5
        assert now.upses[0].reading is not None
        assert now.upses[0].reading.supply is Supply.unknown
        assert now.upses[0].runtime is None
        rows = FORMS["power.status"](to_builtins(answer(now, rig.clock)), 160)
        console = Console(width=160, file=io.StringIO())
        console.print(*rows)
        told = console.file.getvalue()  # type: ignore[attr-defined]
        assert "mains   " not in told
        assert "12.5" not in told


async def test_what_happened_before_is_shown_although_the_store_opens_late(tmp_path: Path) -> None:
    async with running(tmp_path, FakeUps()) as rig:
        await rig.phase(Phase.grid)
    other = Rig(tmp_path, lambda: [FakeDriver(FakeUps())])
    await other.service.start()
    other._task = asyncio.create_task(other.service.run())
    try:
        await wait_for(lambda: any("is found" in event.text for event in other.now.events))
        await asyncio.to_thread(other.store.open)
        await wait_for(lambda: len([event for event in other.now.events if "is found" in event.text]) == 2)
        kept = await other.service.events(100, None)
        assert len(kept) <= len(other.now.events), "none twice on the page, none missing"
    finally:
        await other.end()


async def test_that_nothing_is_known_does_not_grow_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "IDLE", 0.1)
    monkeypatch.setattr(service, "TURN", 0.1)
    rig = Rig(tmp_path, list)
    await rig.start()
    try:
        await wait_for(lambda: rig.service.finder.searches > 0)
        first = rig.state.get(Section.power).updated_monotonic
        await wait_for(lambda: rig.state.get(Section.power).updated_monotonic > first + 0.3)
    finally:
        await rig.end()
