"""The child of test_outbox_kill: puts events in, sends to a file, and says what it was told, until it is killed."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.core.streams.model import Message, Refused
from appliance.errors import LinkDownError
from tests.streams.outbox_rig import Broker, Rig, event


class FileBroker(Broker):
    """Keeps what it has in a file; goes down and up by itself."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def send(self, messages: Sequence[Message]) -> list[Refused]:
        await asyncio.sleep(0.001)
        if random.random() < 0.3:
            raise LinkDownError("No broker answers.")
        os.write(self._file, b"".join(each.value + b"\n" for each in messages))
        return []


async def writer(rig: Rig, kind: str, first: int) -> None:
    """One topic, numbered."""
    for number in range(first, first + 1_000_000):
        made = event(kind, number, 0, 1_800_000_000.0)
        if made.durable:
            await rig.journal.append(made)
            os.write(1, f"{kind} {number}.\n".encode())
        else:
            rig.outbox.offer(made)
            await asyncio.sleep(0.0005)


async def main(home: Path, first: int) -> None:
    """Until killed."""
    rig = Rig(home, FileBroker(home / "broker"))
    await rig.open()
    rig.run()
    os.write(1, b"ready\n")

    async def time() -> None:
        while True:
            rig.clock.move(random.uniform(0, 30))
            rig.outbox._wake()
            await asyncio.sleep(0.005)

    await asyncio.gather(time(), *(writer(rig, kind, first) for kind in ("note", "result", "telemetry")))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
