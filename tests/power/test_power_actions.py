"""The power's actions as every front uses them, their answers as text, alerts and numbers; halting this and other machines."""

from __future__ import annotations

import base64
import functools
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from appliance.core.actions import ActionRegistry
from appliance.core.alerts.rules import battery, on_battery, upses
from appliance.core.catalog.power import power_actions
from appliance.core.dispatch import Dispatcher
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import Node
from appliance.core.metrics import samples
from appliance.core.model import Actor, Role
from appliance.core.power.hands import PlanHands
from appliance.core.power.model import Phase, RunState, StageState, Supply
from appliance.core.power.plan import Step
from appliance.core.secrets import Secrets
from appliance.errors import (
    AbsentError,
    ApplianceError,
    ConfirmationRequiredError,
    ConflictError,
    DeviceError,
    InvalidArgumentsError,
    NotAuthorizedError,
    PlanError,
    ShellError,
    UnreachableError,
)
from appliance.hw import poweroff
from appliance.hw.poweroff import Poweroff
from appliance.verbs import power as verbs
from appliance.verbs import render
from appliance.verbs.forms import Group
from tests.power.rig import PLAN, FakeUps, Rig, running
from tests.servers.sshd import SshServer
from tests.support import wait_for

ADMIN, OPERATOR, VIEWER = (Actor(role.name, role, "ssh") for role in (Role.admin, Role.operator, Role.viewer))
CONTRACT = (
    "mode", "is_on_battery", "battery_percent", "battery_state", "time_remaining_minutes", "power_plugged", "edge_only_mode",
    "routing_mode", "timestamp",
)  # fmt: skip


class Front:
    """The dispatcher over a rig."""

    def __init__(self, rig: Rig) -> None:
        registry = ActionRegistry()
        registry.add(*power_actions(rig.service, rig.clock))
        self.dispatcher = Dispatcher(registry, rig.audit)

    async def __call__(self, verb: str, actor: Actor = ADMIN, /, *, confirm: bool = False, **args: Any) -> Any:
        return await self.dispatcher.invoke(f"power.{verb}", args, actor, confirm=confirm)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def text_of(name: str, value: Any, width: int = 120) -> str:
    told = render.formed(verbs.FORMS, name, msgspec.to_builtins(value, enc_hook=str), width, colour=False)
    assert told is not None
    return told


async def test_the_status_has_the_fields_of_the_contract_and_null_for_what_is_not_known(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await wait_for(lambda: rig.service.finder.searches)
        told = await Front(rig)("status", VIEWER)
        assert tuple(told)[: len(CONTRACT)] == CONTRACT
        assert {name: told[name] for name in CONTRACT[1:-1]} == dict.fromkeys(CONTRACT[1:-1])
        assert "supply       unknown" in text_of("power.status", told)
        assert "mains" not in text_of("power.status", told).replace("on mains or not is unknown", "")


async def test_the_status_on_battery(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=80.0, runtime=1800.0)
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.battery)
        told = await Front(rig)("status", VIEWER)
        assert {name: told[name] for name in CONTRACT[:-1]} == {
            "mode": "auto", "is_on_battery": True, "battery_percent": 80.0, "battery_state": "high",
            "time_remaining_minutes": 30.0, "power_plugged": False, "edge_only_mode": False, "routing_mode": "edge-first",
        }  # fmt: skip
        text = text_of("power.status", told)
        assert "80 % high" in text
        assert "fake:one" in text
        for width in (80, 160):
            assert all(len(line) <= width for line in text_of("power.status", told, width).splitlines())


async def test_roles_and_confirmations(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        front = Front(rig)
        with pytest.raises(NotAuthorizedError):
            await front("mode", VIEWER, mode="auto")
        with pytest.raises(InvalidArgumentsError):
            await front("mode", OPERATOR, mode="on-gird")
        for verb, args in (("plan-set", {"file": encoded(PLAN)}), ("plan-abort", {})):
            with pytest.raises(NotAuthorizedError):
                await front(verb, OPERATOR, **args)
        with pytest.raises(ConfirmationRequiredError):
            await front("plan-set", file=encoded(PLAN))
        with pytest.raises(PlanError):
            await front("plan-set", file=encoded("nonsense"))
        with pytest.raises(PlanError, match="no UTF-8 text"):
            await front("plan-set", file="//8=")
        with pytest.raises(ConflictError, match="No power plan"):
            await front("plan-abort")
        with pytest.raises(ConflictError):
            await front("restore", OPERATOR)
        with pytest.raises(ConflictError):
            await front("acknowledge", OPERATOR)


async def test_plans_by_their_actions(tmp_path: Path) -> None:
    async with running(tmp_path, plan=None) as rig:
        front = Front(rig)
        shown = await front("plan-show", VIEWER)
        assert shown["document"].startswith("# What is given up")
        assert "stop-services" in text_of("power.plan-show", shown)
        assert (await front("plan-check", VIEWER, file=encoded(PLAN)))["stages"] == ["shed", "services", "nodes", "halt"]
        without = PLAN[: PLAN.rindex("[[stages]]")]
        assert "not halted" in (await front("plan-check", VIEWER, file=encoded(without)))["warning"]
        assert "drain-outbox" not in (await front("plan-check", VIEWER, file=encoded(PLAN)))["warning"]
        late = PLAN.replace('{ do = "drain-outbox" }', '{ do = "drain-outbox" }, { do = "stop-services", names = ["sources"] }')
        assert "shed: where Kafka is away drain-outbox" in (await front("plan-check", VIEWER, file=encoded(late)))["warning"]
        await front("plan-set", file=encoded(PLAN), confirm=True)
        assert [each.version for each in await front("plan-versions", VIEWER)] == [1]
        assert (await front("plan-show", VIEWER))["document"] == PLAN


async def test_a_simulation_does_nothing_and_says_what_it_assumes(tmp_path: Path) -> None:
    ups = FakeUps(runtime=1800.0)
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.grid)
        front = Front(rig)
        found = await front("simulate", VIEWER)
        assert (found.assumed.percent, found.assumed.runtime, found.assumed.runtime_from) == (90.0, 1800.0, "the UPS")
        assert found.happenings[0].what == "phase battery"
        assert "nothing is done" in text_of("power.simulate", found)
        half = await front("simulate", VIEWER, percent=45.0)
        assert half.assumed.runtime == 900.0
        assert rig.log == []
        assert rig.now.phase is Phase.grid
    async with running(tmp_path, FakeUps(percent=None)) as rig:
        await rig.phase(Phase.grid)
        with pytest.raises(ConflictError, match="No UPS tells a charge"):
            await Front(rig)("simulate", VIEWER)
        with pytest.raises(ConflictError, match="how long"):
            await Front(rig)("simulate", VIEWER, percent=50.0)


async def test_an_abort_is_confirmed_and_in_the_audit(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=8.0)
    async with running(tmp_path, ups) as rig:
        rig.services.slow = 60.0
        await wait_for(lambda: "stop inference" in rig.log)
        front = Front(rig)
        with pytest.raises(ConfirmationRequiredError, match="until its battery is empty"):
            await front("plan-abort")
        assert (await front("plan-abort", confirm=True)).state is RunState.aborted
        actions = [(row.action, row.outcome) for row in await rig.audit.entries(100)]
        assert ("power.plan-abort", "ok") in actions
        await rig.ground.teller.flush()
        told = await front("history", VIEWER)
        assert any("admin aborted the plan" in event.text for event in told)
        assert "aborted" in text_of("power.history", told)


async def test_a_cancelled_job_aborts_the_plan(tmp_path: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=8.0)
    async with running(tmp_path, ups) as rig:
        rig.services.slow = 60.0
        await wait_for(lambda: "stop inference" in rig.log and rig.service.runner.job_id)
        await wait_for(lambda: rig.jobs.get(rig.service.runner.job_id).progress is not None)
        await rig.jobs.cancel(rig.service.runner.job_id)
        assert rig.now.plan is not None
        assert rig.now.plan.state is RunState.aborted


async def test_alerts_and_numbers_know_the_power(tmp_path: Path) -> None:
    ups = FakeUps(voltage=12.5)
    async with running(tmp_path) as rig:
        await wait_for(lambda: rig.service.finder.searches)
        rig.service.show()
        assert [rule(rig.state)[0].value for rule in (battery, on_battery, upses)] == [None] * 3
        numbers = {sample.name: sample.value for sample in samples(rig.state)}
        assert "edge_power_on_battery" not in numbers, "unknown is neither"
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.grid)
        rig.service.show()
        assert [rule(rig.state)[0].value for rule in (battery, on_battery, upses)] == [90.0, 0.0, 0.0]
        numbers = {
            sample.name: sample.value for sample in samples(rig.state) if dict(sample.labels).get("phase", "grid") == "grid"
        }
        assert numbers["edge_battery_charge_ratio"] == 0.9
        assert numbers["edge_battery_volts"] == 12.5
        assert (numbers["edge_power_on_battery"], numbers["edge_power_phase"], numbers["edge_ups_up"]) == (0.0, 1.0, 1.0)
        ups.values.update(supply=Supply.battery, percent=85.0)
        await rig.phase(Phase.battery)
        assert on_battery(rig.state)[0].value == 1.0
        ups.error = DeviceError("gone.", "look.")
        await rig.phase(Phase.unknown)
        await wait_for(lambda: upses(rig.state)[0].value == 1.0)
        assert battery(rig.state)[0].value is None
        assert on_battery(rig.state)[0].value is None
        numbers = {sample.name: sample.value for sample in samples(rig.state)}
        assert numbers["edge_ups_up"] == 0.0
        assert "edge_battery_charge_ratio" not in numbers


def program(directory: Path, name: str, body: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


async def test_halting_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With programs of the test's own: nothing of this machine is called."""
    monkeypatch.setattr(poweroff.os.path, "isdir", lambda path: False)
    host = Poweroff(str(tmp_path))
    assert "neither a running systemd nor poweroff" in await host.missing()
    with pytest.raises(AbsentError):
        await host.halt()
    program(tmp_path, "poweroff", f'echo halted > "{tmp_path}/told"')
    monkeypatch.setattr(poweroff.os, "geteuid", lambda: 0)
    assert await host.missing() == ""
    assert "was carried out" in await host.halt()
    assert (tmp_path / "told").read_text() == "halted\n"
    program(tmp_path, "poweroff", "echo no; exit 1")
    with pytest.raises(DeviceError, match="did not halt this machine: no"):
        await host.halt()
    monkeypatch.setattr(poweroff.os, "geteuid", lambda: 1000)
    assert "may not halt" in await host.missing()
    program(tmp_path, "busctl", "echo 's \"challenge\"'")
    assert "may not halt" in await host.missing()
    program(tmp_path, "busctl", "echo 's \"yes\"'")
    assert await host.missing() == ""
    (tmp_path / "busctl").write_text("no program")
    assert "busctl cannot be run" in await host.missing(), "a fault of busctl is told, and breaks nothing"


async def test_an_own_command_is_run_without_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "geheim")
    async with running(tmp_path) as rig:
        hands = PlanHands(rig.ground.tools)
        out = tmp_path / "out"
        code = f"import os; open({str(out)!r}, 'w').write(os.environ.get('REDIS_PASSWORD', 'none'))"
        await hands.do(Step("run", command=(sys.executable, "-c", code)), ())
        assert out.read_text() == "none"
        with pytest.raises(ApplianceError, match="ended with 3: oh"):
            await hands.do(Step("run", command=("/bin/sh", "-c", "echo oh >&2; exit 3")), ())
        with pytest.raises(ApplianceError, match="cannot be run"):
            await hands.do(Step("run", command=("/nonexistent",)), ())


@pytest.fixture
async def reached(tmp_path: Path) -> AsyncIterator[Links]:
    """This machine as another one, over a real SSH server."""
    own = OwnKey(Secrets(tmp_path / "secrets", {}), "prime-spark@test")
    directory = Path(tempfile.mkdtemp(prefix="sshd-"))
    try:
        with SshServer(directory, own.public() + "\n") as server:
            access = Node(name="agent", host="127.0.0.1", port=server.port, user=server.user, host_key=server.fingerprint)
            gone = Node(name="gone", host="127.0.0.1", port=9, user=server.user, host_key=server.fingerprint)
            links = Links(FleetInventory([access, gone]), own)
            yield links
            await links.close()
    finally:
        shutil.rmtree(directory)


async def test_a_machine_is_powered_down_over_ssh(tmp_path: Path, reached: Links) -> None:
    async with running(tmp_path) as rig:
        rig.ground.tools.shell = reached
        hands, told = PlanHands(rig.ground.tools), tmp_path / "told"
        step = Step("power-down", node="agent", command=("touch", str(told)))
        assert hands.touches(step) == ("agent",)
        assert "was told" in await hands.do(step, ("agent",))
        assert told.exists()
        assert "switch it on by hand" in await hands.undo("power-down", ("agent",))
        with pytest.raises(ShellError, match="agent refuses"):
            await hands.do(Step("power-down", node="agent", command=("/bin/false",)), ())
        with pytest.raises(UnreachableError):
            await hands.do(Step("power-down", node="gone"), ())
        with pytest.raises(PlanError, match="no machine 'other'"):
            await hands.do(Step("power-down", node="other"), ())


async def test_a_disk_that_is_gone_holds_neither_phase_nor_plan(tmp_path: Path) -> None:
    ups = FakeUps()
    async with running(tmp_path, ups) as rig:
        await rig.phase(Phase.grid)
        rig.store.close()
        ups.values.update(supply=Supply.battery, percent=85.0)
        await rig.phase(Phase.battery)
        ups.values.update(percent=8.0)
        await wait_for(lambda: "halt" in rig.log, 30)
        report = await rig.service.health()
        assert report.reason
        assert rig.now.plan is not None
        assert "not on disk" in rig.now.plan.problem
        assert rig.service.runner.run is not None
        assert rig.service.runner.run.stages[-1].state in {StageState.done, StageState.running}
        rig.store.open()
        await rig.ground.teller.flush()
        kept = [event.after for event in await rig.service.events(50, None) if event.kind == "phase"]
        assert kept[-1] == "grid"
        assert "battery" in kept, "what the disk could not take is told later"


def test_the_plan_has_verbs_of_its_own_and_is_shown_without_one() -> None:
    called: list[str] = []
    group = Group("power")
    for name in ("plan-show", "plan-check", "status"):
        group.add_command(click.Command(name, callback=functools.partial(called.append, name)))
    verbs.nest(group)
    assert sorted(group.commands) == ["plan", "status"]
    for args in (["plan"], ["plan", "show"], ["plan", "check"]):
        assert CliRunner().invoke(group, args).exit_code == 0
    assert called == ["plan-show", "plan-show", "plan-check"]
