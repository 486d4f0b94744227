"""A whole appliance with a real upsd: services really stop and start, the engine saves power; and kill -9 in the midst."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance import config, paths
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Health, Role
from appliance.core.model import Phase as ServicePhase
from appliance.core.power.model import Phase, RunState, Supply
from appliance.core.state import Section
from appliance.errors import NotFoundError
from appliance.runtime import Appliance
from tests.power.rig import FakeDriver, FakeUps, Log, Rig, StandInHost
from tests.servers.nut import NutServer
from tests.support import wait_for

CONFIG = """
[ups]
i2c = []
pisugar = false
[ups.nut.sim]
host = "{host}"
port = {port}
[power]
feeds = ["nut:sim"]
mains_seconds = 1
level_seconds = 1
grace_seconds = 5
low_minutes = 0
critical_minutes = 0
"""
PLAN = """
margin_seconds = 0
[[stages]]
name = "shed"
phase = "low"
limit_seconds = 20
steps = [{ do = "shed-inference" }, { do = "drain-outbox" }, { do = "stop-services", names = ["quality", "inference"] }]
[[stages]]
name = "halt"
phase = "shutdown"
steps = [{ do = "halt" }]
"""


@pytest.fixture
async def appliance(home: Path, nut: NutServer) -> AsyncIterator[Appliance]:
    """Running, watching upsd, with a machine that only records."""
    (home / "config.toml").write_text(CONFIG.format(host=nut.host, port=nut.port))
    where = paths.find()
    where.make()
    made = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    made.start([])
    assert made.supervisor is not None
    assert made.domains is not None
    made.domains.power.hands.tools.host = StandInHost(Log())
    await made.supervisor.settled()
    try:
        yield made
    finally:
        await made.stop()


def phase_of(appliance: Appliance, name: str) -> ServicePhase:
    assert appliance.supervisor is not None
    return appliance.supervisor.phase_of(name)


async def test_a_whole_appliance_through_an_outage(appliance: Appliance, nut: NutServer) -> None:
    assert appliance.domains is not None
    power, admin = appliance.domains.power, Actor("ada", Role.admin, "console")

    async def invoke(name: str, **args: Any) -> Any:
        return await appliance.dispatcher.invoke(name, args, admin, confirm=True)

    await wait_for(lambda: power.control.state.phase is Phase.grid, 30)
    await invoke("power.plan-set", file=base64.b64encode(PLAN.encode()).decode())
    for variable, value in (("ups.status", "OB DISCHRG"), ("battery.charge", "15")):
        await asyncio.to_thread(nut.set, "sim", variable, value)
    await wait_for(lambda: power.runner.run is not None and power.runner.run.state is RunState.holding, 40)
    assert phase_of(appliance, "quality") is ServicePhase.stopped
    assert phase_of(appliance, "inference") is ServicePhase.stopped
    assert appliance.supervisor is not None
    stopped = {status.name: status for status in appliance.supervisor.statuses()}["quality"]
    assert (stopped.health, stopped.reason) == (Health.degraded, "stopped by the power plan, until mains is back")
    assert power.engine_mode() == "power-saving"
    steps = power.status().plan.stages[0].steps  # type: ignore[union-attr]
    assert (steps[1].state, steps[1].detail) == ("skipped", "Kafka is not configured.")
    assert (await invoke("power.status"))["edge_only_mode"] is True
    await asyncio.to_thread(nut.set, "sim", "ups.status", "OL CHRG")
    await wait_for(lambda: power.runner.run is None, 40)
    assert phase_of(appliance, "quality") is ServicePhase.running
    assert phase_of(appliance, "inference") is ServicePhase.running
    assert power.engine_mode() is None
    await power._ground.teller.flush()
    rows = await invoke("audit.list")
    assert [row.args["after"] for row in reversed(rows) if row.action == "power.phase"] == ["grid", "battery", "low", "grid"]


async def test_a_service_that_is_stopped_says_nothing_of_mains(appliance: Appliance) -> None:
    assert appliance.domains is not None
    assert appliance.supervisor is not None
    power = appliance.domains.power
    await wait_for(lambda: power.control.state.phase is Phase.grid, 30)
    await appliance.supervisor.halt("power")
    told = appliance.state.get(Section.power).value
    assert (told.phase, told.supply, told.percent) == (Phase.unknown, Supply.unknown, None)
    with pytest.raises(NotFoundError):
        await appliance.supervisor.halt("powre")
    status = await appliance.supervisor.restart("power")
    assert status.health in {Health.healthy, Health.degraded, Health.absent}
    await wait_for(lambda: power.status().phase is Phase.grid, 30)


async def test_a_kill_in_the_midst_of_the_plan(tmp_path: Path) -> None:
    """What was done is known to the next life: nothing is done twice that must not be, and all of it is taken back."""
    child = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-m", "tests.power.killed", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        while (await asyncio.to_thread(child.stdout.readline)).strip() != "stop inference":
            assert child.poll() is None
    finally:
        child.kill()
        await asyncio.to_thread(child.wait)
        child.stdout.close()
    ups = FakeUps(supply=Supply.mains, percent=8.0)
    rig = Rig(tmp_path, lambda: [FakeDriver(ups)])
    rig.sources.enabled["yard"] = False
    await rig.start()
    try:
        assert rig.service.runner.run is not None
        touched = {name for stage in rig.service.runner.run.stages for step in stage.steps for name in step.touched}
        assert touched == {"yard", "inference", "sources"}
        await rig.phase(Phase.grid)
        await wait_for(lambda: rig.service.runner.run is None)
        assert "start source yard" in rig.log
        assert not any("agent" in line or line == "halt" for line in rig.log)
        assert (await rig.audit.verify()).intact
    finally:
        await rig.end()


async def test_a_job_that_only_watches_waits_for_no_other(tmp_path: Path) -> None:
    rig = Rig(tmp_path, list)
    await rig.start()
    jobs: Jobs = rig.jobs
    held = asyncio.Event()

    async def hold(_: JobHandle) -> None:
        await held.wait()

    async def watch(_: JobHandle) -> str:
        return "seen"

    for _ in range(4):
        await jobs.submit("slow", "ada", hold)
    job = await jobs.submit("watch", "power", watch, at_once=True)
    assert (await jobs.wait(job.job_id)).result == "seen"
    held.set()
    await rig.end()
