"""Deployments in a process of their own, to be killed: `killed.py BASE KEY PORT,FINGERPRINT… -- FIRST SECOND`.

The files FIRST and SECOND are specifications: the first is deployed to its end, then the second is begun. Says "first" and then
"shifted" as soon as the new version is to have all traffic.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from appliance.core.deploy.model import Stage
from appliance.core.fleet.keys import OwnKey
from appliance.core.secrets import Secrets
from tests.deploy.rig import Known, Rig
from tests.support import wait_for


async def main(base: Path, own: Path, places: list[str], first: Path, second: Path) -> None:
    """Deploy both; go on until killed."""
    nodes = {f"n{number}": Known(f"n{number}", Path(place), *told.split(",")) for number, (place, told) in enumerate(
        each.split("=", 1) for each in places
    )}  # fmt: skip
    rig = Rig(base, nodes, OwnKey(Secrets(own, {}), "prime-spark@test"))  # type: ignore[arg-type]
    await rig.start()
    await rig.deployed(first.read_text())
    sys.stdout.write("first\n")
    sys.stdout.flush()
    await rig.desk.apply(second.read_text(), "alice")
    await wait_for(lambda: rig.keeper.last is not None and rig.keeper.last.stage is Stage.soaking, 60)
    sys.stdout.write("shifted\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    at = sys.argv.index("--")
    files = [Path(each) for each in sys.argv[at + 1 :]]
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:at], *files))
