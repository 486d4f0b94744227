"""The first start of a service may take longer than the later ones: then all of them load at once."""

from __future__ import annotations

from appliance.core.clock import SystemClock
from appliance.core.model import ServiceStatus
from appliance.core.services import Supervisor
from appliance.core.state import LiveState
from tests.support import wait_for
from tests.unit.test_supervision import QUICK, Hanging


async def test_the_first_start_has_three_times_as_long() -> None:
    told = list[str]()

    def noted(_: ServiceStatus, after: ServiceStatus) -> None:
        told.append(after.reason)

    supervisor = Supervisor([Hanging("slow")], LiveState(SystemClock()), SystemClock(), QUICK, noted)
    supervisor.start()
    try:
        await wait_for(lambda: "start took longer than 0.1 s" in supervisor.statuses()[0].reason)
        assert "start took longer than 0.3 s (1 failure," in told[0]
    finally:
        await supervisor.stop()
