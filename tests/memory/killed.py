"""The child of test_kill: writes under load at each durability, and says what it was told, until it is killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from pathlib import Path

from appliance.core.memory.model import Durability
from tests.memory.rig import Rig

KEYS = 24
SIZES = (0, 10, 3000, 30_000, 65_300, 65_600, 120_000)


def value_of(number: int, size: int) -> bytes:
    """A value that tells its number, and whether it is whole."""
    return number.to_bytes(8, "big") + random.Random(number).randbytes(size)


def say(durability: str, key: str, number: int) -> None:
    """One line at once; the dot shows that it is whole."""
    os.write(1, f"{durability} {key} {number}.\n".encode())


async def write(rig: Rig, lane: int, numbers: itertools.count[int]) -> None:
    """One writer with keys of its own, so that its order is the order of their versions."""
    chance = random.Random()
    for number in numbers:
        key = f"k{lane}-{chance.randrange(KEYS // 4)}"
        if chance.random() < 0.1:
            say("begin", key, -number)
            await rig.memory.delete(key)
            say("edge", key, -number)
            continue
        say("begin", key, number)
        durability = chance.choice((Durability.memory, Durability.edge, Durability.edge))
        await rig.memory.set(key, value_of(number, chance.choice(SIZES)), durability=durability)
        say(durability.value, key, number)


async def main(home: Path, begin: int) -> None:
    """Until killed."""
    rig = Rig(home)
    await rig.start()
    os.write(1, b"ready\n")
    numbers = itertools.count(begin + 1)
    await asyncio.gather(*(write(rig, lane, numbers) for lane in range(4)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
