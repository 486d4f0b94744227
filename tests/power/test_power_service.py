"""The power service on UPSes that say what the test says: phases, plan, silence, restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.core.model import Health
from appliance.core.power import service
from appliance.core.power.model import Phase, RunState, Setting, StageState, Supply
from appliance.core.power.plan import Step
from appliance.errors import AbsentError, ConflictError, DeviceError, PlanError, UnreachableError
from tests.power.rig import PLAN, QUICK, FakeDriver, FakeUps, Rig, running
from tests.support import wait_for

FORWARD = ["stop source yard", "flush", "stop inference", "stop sources", "agent: sudo -n systemctl poweroff", "flush", "halt"]
BACK = ["start sources", "start inference", "start source yard"]


async def test_an_outage_carries_the_plan_out_in_order_and_back(tmp_path: Path) -> None:
    ups = FakeUps()
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.grid)
        ups.values.update(supply=Supply.battery)
        await rig.phase(Phase.battery)
        assert rig.log == [], "on battery nothing is given up yet"
        assert (rig.now.routing, rig.now.edge_only) == ("edge-first", False)
        ups.values.update(percent=8.0)
        await rig.phase(Phase.shutdown)
        await wait_for(lambda: "halt" in rig.log)
        assert rig.log == FORWARD
        assert rig.service.engine_mode() == "power-saving"
        await wait_for(lambda: rig.service.runner.run is not None and rig.service.runner.run.state is RunState.holding)
        ups.values.update(supply=Supply.mains)
        await rig.phase(Phase.grid)
        await wait_for(lambda: rig.service.runner.run is None)
        assert rig.log[len(FORWARD) :] == BACK
        assert rig.service.engine_mode() is None
        plan = rig.now.plan
        assert plan is not None
        assert plan.state is RunState.ready
        assert "agent was powered down: switch it on by hand" in plan.notes[0]
        phases = [row.args["after"] for row in await rig.events() if row.action == "power.phase"]
        assert [each for each in phases if each != "low"] == ["grid", "battery", "critical", "shutdown", "grid"]
        assert rig.jobs.all()[0].name == "power.plan"
        await rig.service.acknowledge()
        assert rig.now.plan is not None
        assert rig.now.plan.notes == ()


async def test_every_transition_is_a_durable_event_and_in_the_audit_and_in_the_history(tmp_path: Path) -> None:
    ups = FakeUps()
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.grid)
        ups.values.update(supply=Supply.battery, percent=80.0)
        await rig.phase(Phase.battery)
        audited = [
            (row.action, row.outcome, row.actor, row.detail) for row in await rig.events() if row.action == "power.phase"
        ]
        assert [each[:3] for each in audited] == [("power.phase", "event", "power")] * 2
        kept = [event for event in await rig.service.events(50, None) if event.kind == "phase"]
        assert [(each.before, each.after, each.percent) for each in kept] == [
            ("grid", "battery", 80.0), ("unknown", "grid", 90.0),
        ]  # fmt: skip
        rows = await rig.store.read(lambda connection: connection.execute("SELECT count(*) FROM outbox").fetchone())
        assert rows[0] >= len(audited)
        assert (await rig.audit.verify()).intact


async def test_mains_back_in_the_midst_stops_the_plan_and_takes_it_back(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=8.0)
    async with running(tmp_path, ups) as rig:
        rig.services.slow = 60.0
        await wait_for(lambda: "stop inference" in rig.log)
        ups.values.update(supply=Supply.mains)
        await rig.phase(Phase.grid)
        await wait_for(lambda: rig.service.runner.run is None)
        assert "halt" not in rig.log
        assert "stop sources" not in rig.log, "the stage was cut off"
        assert rig.log[-2:] == ["start inference", "start source yard"]


async def test_this_machine_is_not_halted_while_mains_is_there(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=8.0)
    async with running(tmp_path, ups) as rig:
        rig.services.slow = 60.0  # mains comes back between the shutdown's begin and the halt
        await rig.phase(Phase.shutdown)
        ups.values.update(supply=Supply.mains)
        await rig.phase(Phase.grid)
        await wait_for(lambda: rig.service.runner.run is None)
        assert "halt" not in rig.log
        assert any("during the shutdown" in event.text for event in rig.now.events)


async def test_the_halt_waits_while_mains_is_there(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=80.0)
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.battery)
        control = rig.service.control
        assert control.may_halt() == ""
        ups.values.update(supply=Supply.mains)
        await wait_for(lambda: rig.now.supply is Supply.mains)
        assert control.may_halt() != ""
        asked = 0

        def mains_is_there() -> str:
            nonlocal asked
            asked += 1
            return "mains is there" if asked < 4 else ""

        rig.ground.tools.may_halt = mains_is_there
        halting = asyncio.create_task(rig.service.hands.do(Step("halt"), ()))
        await wait_for(lambda: asked == 3)
        assert "halt" not in rig.log
        await halting
        assert rig.log[-1] == "halt"


async def test_a_stage_that_fails_or_is_late_does_not_hold_the_next(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=8.0)
    plan = PLAN.replace("limit_seconds = 5", "limit_seconds = 1")
    async with running(tmp_path, ups, plan=plan) as rig:
        rig.waiting = 7  # the outbox never empties
        rig.services.failing = {"inference"}
        rig.shell.error = UnreachableError("agent does not answer.", "look at it.")
        await wait_for(lambda: "halt" in rig.log)
        await wait_for(lambda: rig.service.runner.run is not None and rig.service.runner.run.state is RunState.holding)
        assert rig.service.runner.run is not None
        states = {stage.name: stage.state for stage in rig.service.runner.run.stages}
        assert states == {
            "shed": StageState.overdue, "services": StageState.failed, "nodes": StageState.failed, "halt": StageState.done,
        }  # fmt: skip
        services = rig.service.runner.run.stages[1].steps[0]
        assert "inference did not stop" in services.detail
        assert "stop sources" in rig.log, "one that fails keeps no other from being stopped"
        measured = await rig.book.measured()
        assert 0.9 < measured["shed"] < 3


async def test_no_ups_is_unknown_absent_and_never_mains(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await wait_for(lambda: rig.service.finder.searches)
        now, report = rig.now, await rig.service.health()
        assert (now.phase, now.supply, now.edge_only, now.routing) == (Phase.unknown, Supply.unknown, None, None)
        assert (report.health, now.upses) == (Health.absent, ())
        assert "unknown" in report.reason
        await rig.service.set_mode(Setting.off_grid, "ada")
        await rig.phase(Phase.battery)
        assert rig.now.routing == "edge-first"


async def test_a_ups_that_falls_silent_is_unknown_told_and_back(tmp_path: Path) -> None:
    ups = FakeUps()
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.grid)
        ups.error = DeviceError("its cable is out.", "plug it in.")
        await rig.phase(Phase.unknown)
        assert rig.now.supply is Supply.unknown
        assert rig.now.percent is None
        report = await rig.service.health()
        assert (report.health, report.next_step) == (Health.unhealthy, "plug it in.")
        await wait_for(lambda: any("does not answer" in event.text for event in rig.now.events))
        ups.error = None
        await rig.phase(Phase.grid)
        await wait_for(lambda: any("answers again" in event.text for event in rig.now.events))
        assert (await rig.service.health()).health is Health.healthy
        assert rig.now.upses[0].failed > 0


async def test_silence_in_critical_still_ends_in_the_halt_and_before_it_does_not(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=50.0)
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.battery)
        ups.error = DeviceError("gone", "")
        await rig.phase(Phase.unknown)
        assert "halt" not in rig.log
    armed = FakeUps(supply=Supply.battery, percent=8.0)
    (tmp_path / "two").mkdir()
    async with running(tmp_path / "two", armed) as rig:
        await rig.phase(Phase.critical)
        armed.error = DeviceError("gone", "")
        await wait_for(lambda: "halt" in rig.log)


async def test_one_that_hangs_does_not_hold_another(tmp_path: Path) -> None:
    stuck, good = FakeUps("fake:stuck"), FakeUps("fake:good")
    stuck.hangs = True
    async with running(tmp_path, stuck, good, feeds=("fake:good",)) as rig:
        await rig.phase(Phase.grid)
        looks = rig.service.finder.watches["fake:good"].looks
        await wait_for(lambda: rig.service.finder.watches["fake:good"].looks > looks + 3)
        assert [each.feeds_us for each in rig.now.upses] == [False, True]


async def test_a_driver_that_breaks_is_an_error_of_that_ups_alone(tmp_path: Path) -> None:
    ups = FakeUps()
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.grid)
        ups.error = ZeroDivisionError("a slip")
        await rig.phase(Phase.unknown)
        assert "its driver failed: ZeroDivisionError" in rig.now.upses[0].reason


async def test_a_ups_that_is_gone_and_found_anew_goes_on(tmp_path: Path) -> None:
    ups, ghost = FakeUps("fake:one"), FakeUps("fake@server")
    ghost.error = AbsentError("it answers now", "")
    driver = FakeDriver(ups, ghost)
    rig = Rig(tmp_path, lambda: [driver])
    await rig.start()
    await rig.phase(Phase.grid)
    await wait_for(lambda: rig.service.finder.watches["fake@server"].gone)
    ups.error = AbsentError("unplugged", "plug it in")
    await rig.phase(Phase.unknown)
    again = FakeUps("fake:one")
    driver.found = [again]
    await wait_for(lambda: rig.service.finder.watches["fake:one"].gone)
    await rig.service.finder.search()
    assert "fake@server" not in rig.service.finder.watches, "a stand-in that never told anything makes room"
    await rig.phase(Phase.grid)
    assert ups.closed == 1
    await rig.end()
    assert again.closed == 1


async def test_values_that_cannot_be_are_refused_counted_and_shown(tmp_path: Path) -> None:
    ups = FakeUps()
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.grid)
        ups.values.update(percent=float("nan"), voltage=0.0)
        await wait_for(lambda: rig.now.upses[0].refused > 2)
        status = rig.now.upses[0]
        assert status.health is Health.degraded
        assert "percent nan cannot be" in status.reason
        assert rig.now.percent == 90.0
        assert rig.now.percent_age is not None
        assert rig.now.phase is Phase.grid


async def test_an_operator_aborts_and_the_machine_goes_on(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=8.0)
    async with running(tmp_path, ups) as rig:
        rig.services.slow = 60.0
        await wait_for(lambda: "stop inference" in rig.log)
        rig.service.runner.abort("ada")
        await rig.phase(Phase.shutdown)
        assert "halt" not in rig.log
        with pytest.raises(ConflictError):
            rig.service.runner.abort("ada")
        with pytest.raises(ConflictError, match="would be done again"):
            await rig.service.restore("ada")
        ups.values.update(supply=Supply.mains)
        await wait_for(lambda: rig.service.runner.run is None)
        assert rig.log[-1] == "start source yard"
        assert "halt" not in rig.log


async def test_a_start_after_a_crash_knows_where_the_plan_stood(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=8.0)
    slow = Rig(tmp_path, lambda: [FakeDriver(ups)], QUICK)
    await slow.start()

    async def kept() -> bool:
        run = await slow.book.run()
        return run is not None and run.stages[2].state is StageState.done

    await wait_for(kept)
    assert "agent: sudo -n systemctl poweroff" in slow.log
    assert slow._task is not None
    slow._task.cancel()  # as kill -9 would: nothing is taken back, nothing further written
    await asyncio.wait({slow._task})
    await asyncio.to_thread(slow.store.close)
    again = Rig(tmp_path, lambda: [FakeDriver(ups)], QUICK)
    again.sources.enabled["yard"] = False  # it was switched off, durably
    await again.start()
    try:
        assert again.service.runner.run is not None
        assert any("was restarted" in event.text for event in again.now.events)
        await wait_for(lambda: "halt" in again.log)
        assert not any("agent" in line for line in again.log), "a machine that was powered down is not told again"
        assert "stop inference" in again.log, "its services are running anew, so they are stopped again"
        ups.values.update(supply=Supply.mains)
        await wait_for(lambda: again.service.runner.run is None)
        assert "start source yard" in again.log, "it is known that the plan switched it off"
        assert "switch it on by hand" in " ".join(again.now.plan.notes if again.now.plan else ())
    finally:
        await again.end()


async def test_load_is_shed_early_when_less_is_left_than_the_plan_needs(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=80.0, runtime=600.0)
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.battery)
        assert rig.log == []
        ups.values.update(runtime=12.0)  # the plan may take 20 s
        await wait_for(lambda: "stop source yard" in rig.log)
        await wait_for(lambda: "stop sources" in rig.log)
        assert rig.now.phase is Phase.battery
        assert not any(line.startswith("agent") or line == "halt" for line in rig.log), "what nothing undoes is not done early"
        assert rig.now.plan is not None
        assert rig.now.plan.stages[0].why.startswith("early: 12 s are left")


async def test_the_setting_is_kept_and_the_configured_one_forgets_it(tmp_path: Path) -> None:
    async with running(tmp_path, FakeUps()) as rig:
        now = await rig.service.set_mode(Setting.on_grid, "ada")
        assert (now.setting, now.setting_by) == (Setting.on_grid, "ada")
    again = Rig(tmp_path, lambda: [FakeDriver(FakeUps(supply=Supply.battery))])
    await again.start()
    assert again.now.setting is Setting.on_grid
    await again.phase(Phase.grid)
    await wait_for(lambda: again.now.supply is Supply.battery)
    report = await again.service.health()
    assert report.health is Health.degraded
    assert "on-grid" in report.reason
    now = await again.service.set_mode(Setting.auto, "bob")
    assert (now.setting, now.setting_by) == (Setting.auto, "")
    assert await again.book.chosen() is None
    await again.phase(Phase.battery)
    await again.end()


async def test_a_plan_that_names_what_is_not_there_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        with pytest.raises(PlanError, match="no machine 'agnet'") as fault:
            await rig.service.set_plan(PLAN.replace('"agent"', '"agnet"'), "ada")
        assert "agent" in fault.value.next_step
        with pytest.raises(PlanError, match="no service 'inferenc'") as fault:
            rig.service.check(PLAN.replace('"inference"', '"inferenc"'))
        assert "inference" in fault.value.next_step
        kept = await rig.service.set_plan(PLAN, "ada")
        assert kept.version == 2
        rig.shell.names = ()
        assert rig.now.plan is not None
        assert "no machine 'agent'" in rig.now.plan.problem


async def test_telemetry_has_a_tag_for_each_ups(tmp_path: Path) -> None:
    ups = FakeUps(voltage=12.5)
    async with running(tmp_path, ups) as rig:
        queue = rig.bus.subscribe("test")
        found = None
        while found is None:
            for event in await queue.batch():
                if "battery_level" in getattr(event, "metrics", {}):
                    found = event
        assert found.tags == {"ups": "fake:one"}
        assert found.metrics["battery_level"] == 90.0
        assert found.metrics["battery_voltage"] == 12.5
        assert found.metrics["on_battery"] == 0.0


async def test_a_disk_that_is_broken_at_the_start_keeps_nobody_from_watching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PATIENCE", 0.5)
    monkeypatch.setattr(service, "AGAIN", 0.1)
    ups = FakeUps(supply=Supply.battery, percent=8.0)
    rig = Rig(tmp_path, lambda: [FakeDriver(ups)])
    await rig.service.start()  # the store is not open
    rig._task = asyncio.create_task(rig.service.run())
    try:
        await rig.phase(Phase.critical)
        report = await rig.service.health()
        assert "below" in report.reason
        await wait_for(lambda: "halt" in rig.log, 30)
        assert rig.log[0] == "stop source door", "the plan that ships, as the kept one cannot be read"
    finally:
        await asyncio.to_thread(rig.store.open)
        await rig.ground.teller.flush()
        await wait_for(lambda: rig.service._unread is None)
        assert [event.after for event in await rig.service.events(50, None) if event.kind == "phase"][-1] == "battery"
        await rig.end()


async def test_a_store_that_opens_late_is_read_before_the_plan_begins(tmp_path: Path) -> None:
    first = Rig(tmp_path, list)
    await first.start()
    await first.service.set_mode(Setting.off_grid, "ada")
    await first.end()
    ups = FakeUps(supply=Supply.battery, percent=8.0)
    rig = Rig(tmp_path, lambda: [FakeDriver(ups)])
    await rig.service.start()
    rig._task = asyncio.create_task(rig.service.run())
    try:
        await rig.phase(Phase.critical)
        assert rig.service.runner.run is None
        await asyncio.to_thread(rig.store.open)
        await wait_for(lambda: "halt" in rig.log, 30)
        assert rig.now.setting is Setting.off_grid
        assert rig.log[0] == "stop source yard", "the plan that was kept"
    finally:
        await rig.end()
