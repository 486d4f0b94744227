"""Submits and does tasks until it is killed; writes down what was acknowledged, and what was done."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from appliance.core.tasks.wire import Order
from tests.tasks.rig import running


class Noting:
    """Writes down each run."""

    name = "echo"
    summary = "Note the task"

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def available(self) -> bool:
        return True

    async def run(self, payload: Any, order: Order) -> Any:
        os.write(self._file, f"{order.task_id} {order.lease}\n".encode())
        await asyncio.sleep(payload["sleep"])
        return {}


async def main(path: Path) -> None:
    acknowledged = os.open(path / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with running(path, handlers=[Noting(path / "runs")]) as rig:

        async def submit(number: int) -> None:
            while True:
                task = await rig.submit(payload={"sleep": 0.002 * (number % 5)})
                os.write(acknowledged, f"{task.task_id}\n".encode())
                await asyncio.sleep(0.005)

        await asyncio.gather(*(submit(number) for number in range(10)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
