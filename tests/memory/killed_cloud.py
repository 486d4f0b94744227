"""The child of test_kill_cloud: delivers, synchronises or settles, and says what it was told, until it is killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import time
from pathlib import Path

from appliance.core.memory.conflicts import Choice
from appliance.core.memory.documents import DocumentReplica
from appliance.core.memory.machinery import SyncPlan
from appliance.core.memory.model import Durability
from appliance.core.memory.strategy import Strategy
from appliance.errors import TierUnavailableError
from tests.memory.rig import Rig
from tests.support import ManualClock

KEYS = tuple(f"k{number}" for number in range(6))
CHOICES: tuple[Choice, ...] = ("mine", "theirs", "both")


def appliance(home: Path, dsn: str, device: str, strategy: Strategy) -> Rig:
    """One that shares a database with another one, with its clock as it is now."""
    clock = ManualClock(time.time())
    return Rig(
        home, [DocumentReplica(dsn, device)], device=device, plan=SyncPlan(interval=3600, strategy=strategy), clock=clock
    )


def say(*words: object) -> None:
    """One line at once; the dot shows that it is whole."""
    os.write(1, (" ".join(map(str, words)) + ".\n").encode())


async def raise_own(rig: Rig, key: str, number: int, durability: Durability) -> bool:
    """Give one's own field of a document a number; the other one's field stays what one knows of it.

    Returns False where a conflict waits. Raises TierUnavailableError where it is at the edge only.
    """
    async with rig.parts.replicas.alone("documents"):  # nothing is merged in between reading and writing
        value = await rig.memory.get(key) or {}
        rig.clock.move(0.001)
        await rig.memory.set(key, {**value, rig.parts.device_id: number})
    if durability is Durability.cloud:
        return await rig.machinery.deliverers["documents"].deliver_now("default", key)
    return True


async def write(rig: Rig, begin: int) -> None:
    """Write for ever."""
    chance = random.Random()
    for number in itertools.count(begin):
        key, durability = chance.choice(KEYS), chance.choice((Durability.edge, Durability.cloud))
        say("begin", key, number)
        try:
            if not await raise_own(rig, key, number, durability):
                durability = Durability.edge
        except TierUnavailableError:
            durability = Durability.edge
        say(durability.value, key, number)


async def synchronise(rig: Rig) -> None:
    """Synchronise for ever."""
    while True:
        await rig.machinery.synchroniser.run_all()


async def settle(rig: Rig, seed: int) -> None:
    """Decide all that waits."""
    chance = random.Random(seed)
    for each in await rig.parts.ledger.conflicts():
        choice = chance.choice(CHOICES)
        say("begin", each.conflict_id, choice)
        await rig.machinery.settler.resolve(each.conflict_id, choice)
        say("done", each.conflict_id, choice)
    await asyncio.Event().wait()


async def main(home: Path, dsn: str, work: str, begin: int) -> None:
    """Until killed."""
    rig = appliance(home, dsn, "pc", Strategy.manual if work == "settle" else Strategy.merge)
    await rig.start()
    os.write(1, b"ready\n")
    if work == "settle":
        await rig.halt()
        await settle(rig, begin)
    elif work == "write":
        await write(rig, begin)
    else:
        await asyncio.gather(write(rig, begin), synchronise(rig))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
