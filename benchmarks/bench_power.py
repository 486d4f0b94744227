"""From upsd's word to the mode change, and what watching costs: a real upsd, the real driver, store, audit and policy.

The floor is the same look without the appliance: how long one `LIST VAR` takes on a bare socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import tempfile
import time
from pathlib import Path

from appliance.core.figures import percentile
from appliance.core.power.model import Phase
from appliance.core.power.policy import Limits
from appliance.hw.ups import nut as driver
from benchmarks.rows import Figure, at_most
from tests.power.rig import PLAN, Rig
from tests.servers.nut import NutServer
from tests.support import wait_for

ROUNDS = 12
IDLE = 15.0
"""Seconds over which the cost is measured."""
BACK = Limits(mains_after=1.0)
"""As it ships, but for the way back, which would make every round ten seconds longer."""


def run() -> list[Figure]:
    """All figures."""
    with (
        tempfile.TemporaryDirectory(prefix="ps-nut-") as short,
        tempfile.TemporaryDirectory() as own,
        NutServer(Path(short)) as server,
    ):
        return asyncio.run(_run(server, Path(own)))


async def _run(server: NutServer, directory: Path) -> list[Figure]:
    where = driver.NutServer(server.host, server.port)
    rig = Rig(directory, lambda: [driver.NutDriver([where])], BACK, metrics_seconds=10.0, probe_seconds=30.0)
    await rig.start(PLAN)
    try:
        await rig.phase(Phase.grid)
        changes = [await _outage(server, rig) for _ in range(ROUNDS)]
        idle = await _cost(rig)
    finally:
        await rig.end()
    floor = await asyncio.to_thread(_bare, server)
    return [
        at_most("upsd tells → mode changed, median", percentile(changes, 0.5), "s", 1.0, "bare LIST VAR", floor),
        at_most("upsd tells → mode changed, longest of 12", max(changes), "s", 1.0, "bare LIST VAR", floor),
        at_most("watching one UPS: CPU of one core", idle, "%", 1.0),
    ]


async def _outage(server: NutServer, rig: Rig) -> float:
    """Seconds from the moment at which upsd tells of the outage to the phase that every front sees."""
    began: list[float] = []

    def cut() -> None:
        server.set("sim", "ups.status", "OB DISCHRG")
        began.append(time.monotonic())

    changed = asyncio.create_task(wait_for(lambda: rig.now.phase is Phase.battery and time.monotonic(), 20.0, every=0.002))
    await asyncio.to_thread(cut)
    took = max(0.0, float(await changed) - began[0])
    await asyncio.to_thread(server.set, "sim", "ups.status", "OL")
    await rig.phase(Phase.grid)
    return took


async def _cost(rig: Rig) -> float:
    """Percent of one core that the whole service takes on mains."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    await asyncio.sleep(IDLE)
    after, took = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    assert rig.now.phase is Phase.grid
    return 100.0 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / took


def _bare(server: NutServer) -> float:
    """Seconds of one look without the appliance; the median of 50."""
    times = []
    with (
        contextlib.closing(socket.create_connection((server.host, server.port), timeout=5.0)) as link,
        link.makefile("rwb") as io,
    ):
        for _ in range(50):
            began = time.perf_counter()
            io.write(b"LIST VAR sim\n")
            io.flush()
            while not io.readline().startswith(b"END"):
                pass
            times.append(time.perf_counter() - began)
    return percentile(times, 0.5)
