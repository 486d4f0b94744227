"""A worker as a process of its own: does the type echo, and writes down what it begins and ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from appliance.core.clock import SystemClock
from appliance.core.streams.kafka import Access
from appliance.core.tasks.faraway import FarWorker
from appliance.core.tasks.wire import Order, Seal
from appliance.errors import TaskError
from appliance.settings import KafkaSettings
from appliance.settingtasks import TaskSettings


class Noting:
    """Sleeps as the payload says, and notes each begin, end and stop in a file."""

    name = "echo"
    summary = "Note the task"

    def __init__(self, file: Path, worker: str) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._worker = worker

    def available(self) -> bool:
        return True

    def note(self, what: str, order: Order) -> None:
        line = {"what": what, "task": order.task_id, "lease": order.lease, "worker": self._worker, "priority": order.priority}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    async def run(self, payload: Any, order: Order) -> Any:
        self.note("begun", order)
        if payload.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            await asyncio.sleep(payload.get("sleep", 0))
        except asyncio.CancelledError:
            self.note("stopped", order)
            raise
        if payload.get("fail"):
            raise TaskError("it was asked to fail")
        self.note("ended", order)
        return {"n": payload.get("n"), "worker": self._worker}


async def main(given: dict[str, Any]) -> None:
    """Work until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    access = Access(KafkaSettings(bootstrap_servers=given["bootstrap"]), "", given["name"])
    handler = Noting(Path(given["file"]), given["name"])
    settings = TaskSettings(**given["settings"])
    worker = FarWorker(
        given["name"], access, Seal(given["key"].encode()), {"echo": handler}, settings, SystemClock(), given["prefix"]
    )
    await worker.start()
    running = asyncio.create_task(worker.run())
    await asyncio.wait({running, asyncio.create_task(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    running.cancel()
    await asyncio.wait({running})
    await worker.stop()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
