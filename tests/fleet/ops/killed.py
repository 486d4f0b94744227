"""Operations in the midst of one, to be killed: prints its id, and goes on until then."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.fleet.ops.rig import QUICK, Rig, folders, known


async def main(directory: Path) -> None:
    known()
    fleet = folders(directory / "nodes", "a", "b", "c")
    rig = Rig(directory, fleet, fleet)
    await rig.start()
    planned = await rig.service.plan("rig.set", {"value": "new"}, ["all"], QUICK, "alice")
    sys.stdout.write(f"{planned.operation_id}\n")
    sys.stdout.flush()
    await rig.service.apply(planned.operation_id, "alice")
    await rig.service.wait(planned.operation_id)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
