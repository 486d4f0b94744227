"""A process with the alert channels and one alert that fires, for a test that kills it: FOLDER URL."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from appliance.core.alerts.channels.ground import Ground
from appliance.core.alerts.channels.service import ChannelService
from appliance.core.clock import SystemClock
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from tests.alerts.rig import QUICK, alert, settings


async def main(folder: Path, url: str) -> None:
    """Run until killed."""
    wanted = settings(
        channels={"hook": {"kind": "webhook", "url": url, "timeout_seconds": 60}},
        routes={"all": {"channels": ["hook"], **QUICK}},
    )
    store = Store(folder / "spark.db")
    store.open()
    clock = SystemClock()
    state = LiveState(clock)
    state.put(Section.alerts, (alert(),))
    service = ChannelService(Ground(wanted, "pc", store, Secrets(folder / "secrets", {}), state, clock))
    await service.start()
    await service.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
