"""The power service through a real upsd: mains lost and back, low battery, orders, stale data, a dead server."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from appliance.core.model import Health
from appliance.core.power.model import Phase, RunState, Supply
from appliance.hw.ups import nut as driver
from tests.power.rig import PLAN, QUICK, Rig
from tests.power.test_power_service import BACK, FORWARD
from tests.servers.nut import NutServer
from tests.support import wait_for


@asynccontextmanager
async def watched(directory: Path, server: NutServer, **wanted: Any) -> AsyncIterator[Rig]:
    """The service on all UPSes of a server."""
    where = driver.NutServer(server.host, server.port)
    rig = Rig(directory, lambda: [driver.NutDriver([where])], QUICK, **{"probe_seconds": 0.5, **wanted})
    await rig.start(PLAN)
    try:
        yield rig
    finally:
        await rig.end()


@pytest.fixture
def fresh() -> Iterator[NutServer]:
    """A server of the test's own, which it may kill."""
    with tempfile.TemporaryDirectory(prefix="prime-spark-nut-") as short, NutServer(Path(short)) as server:
        yield server


async def put(server: NutServer, **values: str) -> None:
    """Set variables; `ups_status` is ups.status."""
    for name, value in values.items():
        await asyncio.to_thread(server.set, "sim", name.replace("_", "."), value)


async def test_an_outage_and_its_end(tmp_path: Path, nut: NutServer) -> None:
    async with watched(tmp_path, nut) as rig:
        await rig.phase(Phase.grid)
        assert (rig.now.percent, rig.now.runtime, rig.now.runtime_by) == (90.0, 1800.0, "ups")
        await put(nut, ups_status="OB DISCHRG")
        await rig.phase(Phase.battery)
        await put(nut, battery_charge="80", battery_runtime="1500")
        await wait_for(lambda: rig.now.percent == 80.0)
        await put(nut, battery_charge="9")
        await wait_for(lambda: "halt" in rig.log, 30)
        assert rig.log == FORWARD
        await put(nut, ups_status="OL CHRG")
        await rig.phase(Phase.grid)
        await wait_for(lambda: rig.service.runner.run is None)
        assert rig.log[len(FORWARD) :] == BACK
        told = await rig.events()
        phases = [(row.args["before"], row.args["after"]) for row in told if row.action == "power.phase"]
        assert phases[0] == ("unknown", "grid")
        assert phases[-1] == ("shutdown", "grid")
        assert all(one[1] == other[0] for one, other in pairwise(phases)), "none is left out"
        assert len(phases) == rig.now.transitions
        assert (await rig.audit.verify()).intact


async def test_mains_back_in_the_midst(tmp_path: Path, nut: NutServer) -> None:
    async with watched(tmp_path, nut) as rig:
        await rig.phase(Phase.grid)
        rig.services.slow = 60.0
        await put(nut, ups_status="OB LB")
        await wait_for(lambda: "stop inference" in rig.log, 30)
        assert rig.now.phase in {Phase.critical, Phase.shutdown}
        assert any("says that its battery is low" in event.text for event in rig.now.events)
        await put(nut, ups_status="OL")
        await wait_for(lambda: rig.service.runner.run is None, 30)
        assert rig.log[-2:] == ["start inference", "start source yard"]
        assert "halt" not in rig.log
        assert rig.now.plan is not None
        assert rig.now.plan.state is RunState.ready


async def test_an_order_of_the_ups_manager_is_obeyed(tmp_path: Path, nut: NutServer) -> None:
    async with watched(tmp_path, nut) as rig:
        await rig.phase(Phase.grid)
        await put(nut, ups_status="OL FSD")
        await wait_for(lambda: "halt" in rig.log, 30)
        assert rig.now.phase is Phase.shutdown
        assert "FSD" in rig.now.reason


async def test_a_server_that_dies_and_comes_back(tmp_path: Path, fresh: NutServer) -> None:
    async with watched(tmp_path, fresh) as rig:
        await rig.phase(Phase.grid)
        await asyncio.to_thread(fresh.kill)
        await rig.phase(Phase.unknown)
        report = await rig.service.health()
        assert report.health is Health.unhealthy
        assert rig.now.supply is Supply.unknown
        await asyncio.to_thread(fresh.start)
        await rig.phase(Phase.grid, 40)
        texts = [event.text for event in rig.now.events if event.kind == "ups"]
        assert any("does not answer" in text for text in texts)
        assert rig.log == [], "ignorance does nothing"


async def test_a_driver_that_dies_on_battery_shuts_nothing_down(tmp_path: Path, fresh: NutServer) -> None:
    async with watched(tmp_path, fresh) as rig:
        await rig.phase(Phase.grid)
        await put(fresh, ups_status="OB DISCHRG")
        await rig.phase(Phase.battery)
        await asyncio.to_thread(fresh.kill_driver, "sim")
        await rig.phase(Phase.unknown, 40)
        assert "its driver does not run" in rig.now.upses[0].reason
        assert rig.log == []
        await asyncio.to_thread(fresh.start_driver, "sim")
        await put(fresh, ups_status="OL")
        await rig.phase(Phase.grid, 40)


async def test_stale_data_is_no_mains() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="prime-spark-nut-") as short,
        tempfile.TemporaryDirectory() as own,
        NutServer(Path(short), {"sim": {"ups.status": "OL", "battery.charge": "90"}}, stale_seconds=2) as server,
    ):
        async with watched(Path(own), server) as rig:
            await rig.phase(Phase.grid)
            await asyncio.to_thread(server.pause_driver, "sim")
            await rig.phase(Phase.unknown, 40)
            assert "stale" in rig.now.upses[0].reason


async def test_two_that_disagree_give_the_worse(tmp_path: Path) -> None:
    upses = {
        "one": {"ups.status": "OL", "battery.charge": "90"},
        "two": {"ups.status": "OB", "battery.charge": "60"},
    }
    with tempfile.TemporaryDirectory(prefix="prime-spark-nut-") as short, NutServer(Path(short), upses) as server:
        async with watched(tmp_path, server, feeds=("nut:one", "nut:two")) as rig:
            await rig.phase(Phase.battery)
            assert rig.now.percent == 60.0
            assert "disagree" in rig.now.feeds
        (tmp_path / "other").mkdir()
        async with watched(tmp_path / "other", server, feeds=("nut:one",)) as rig:
            await rig.phase(Phase.grid)
            assert {each.name.split("@")[0]: each.feeds_us for each in rig.now.upses} == {"nut:one": True, "nut:two": False}
