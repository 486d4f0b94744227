"""A power service in the midst of its plan, to be killed: prints what it did to its stand-ins, one line each."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from appliance.core.power.model import Supply
from tests.power.rig import FakeDriver, FakeUps, Rig


async def main(directory: Path) -> None:
    ups = FakeUps(supply=Supply.battery, percent=8.0)
    rig = Rig(directory, lambda: [FakeDriver(ups)])
    rig.services.slow = 3600.0
    await rig.start()
    told = 0
    while True:
        for line in rig.log[told:]:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
            told += 1
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
