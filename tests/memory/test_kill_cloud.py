"""kill -9 while an appliance delivers, synchronises or settles: nothing acknowledged is lost, nothing is settled twice."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.core.memory.documents import DocumentReplica
from appliance.core.memory.listing import Query
from appliance.core.memory.model import Durability
from appliance.core.memory.strategy import Strategy
from tests.memory.killed_cloud import CHOICES, KEYS, appliance, raise_own
from tests.memory.rig import Rig, running

ROUNDS = int(os.environ.get("PRIME_SPARK_EXAMPLES", "4"))


def told(home: Path, dsn: str, work: str, begin: int, seconds: float) -> list[list[str]]:
    """Run the child for some time from its third line on, kill it, and return the words of each line that it said."""
    command = [sys.executable, "-m", "tests.memory.killed_cloud", str(home), dsn, work, str(begin)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        said = b"".join(child.stdout.readline() for _ in range(3))
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            if select.select([child.stdout], [], [], left)[0]:
                said += os.read(child.stdout.fileno(), 65536)
        os.kill(child.pid, signal.SIGKILL)
        said += child.stdout.read()
        assert child.wait(10) == -signal.SIGKILL
    return [line[:-1].split() for line in said.decode().splitlines() if line.endswith(".")]


class Known:
    """What each key's field of one appliance must be at least, and may be at most."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.in_cloud: dict[str, int] = {}
        self.begun: dict[str, int] = {}

    def hear(self, what: str, key: str, number: int) -> None:
        """A line of the child's, or one's own."""
        self.begun[key] = max(number, self.begun.get(key, 0))
        if what != "begin":
            self.kept[key] = max(number, self.kept.get(key, 0))
        if what == "cloud":
            self.in_cloud[key] = max(number, self.in_cloud.get(key, 0))

    def fits(self, key: str, value: Any, device: str) -> bool:
        """Whether a document may be the one."""
        number = (value or {}).get(device, 0)
        return bool(self.kept.get(key, 0) <= number <= self.begun.get(key, 0))


async def test_a_delivery_that_is_killed_loses_nothing(tmp_path: Path, postgres: str) -> None:
    chance, known = random.Random(3), Known()
    for begin in range(1, 1 + ROUNDS * 10_000, 10_000):
        for what, key, number in await asyncio.to_thread(told, tmp_path, postgres, "write", begin, chance.uniform(0.1, 0.6)):
            known.hear(what, key, int(number))
        cloud = DocumentReplica(postgres, "reader")
        for key, least in known.in_cloud.items():
            record = await cloud.get("default", key)
            assert record is not None
            assert b'"pc":' in record.value
            assert int(record.value.rpartition(b":")[2].strip(b"}")) >= least
        async with running(appliance(tmp_path, postgres, "pc", Strategy.manual)) as rig:
            for key in KEYS:
                assert known.fits(key, await rig.memory.get(key), "pc"), key
            await rig.delivered()
            assert (rig.machinery.settler.detected, await rig.parts.ledger.conflicts()) == (0, [])
            for key in known.kept:
                row, there = await rig.parts.edge.row("default", key), await cloud.get("default", key)
                assert row is not None
                assert there is not None
                assert there.meta.version == row.meta.version
        await cloud.close()
    assert known.in_cloud


async def agree(*rigs: Rig) -> None:
    """Synchronise until nobody has anything new."""
    for rig in (*rigs, *rigs):
        rig.clock.wall_now = time.time()
        for run in await rig.machinery.synchroniser.run_all():
            assert not run.error, run.error
            assert not run.waiting, run


async def raise_all_the_time(agent: Rig, known: Known, begin: int) -> None:
    """The other appliance's part: it writes the same documents, and synchronises."""
    chance, number = random.Random(begin), begin
    while True:
        number, key = number + 1, chance.choice(KEYS)
        known.hear("begin", key, number)
        await raise_own(agent, key, number, chance.choice((Durability.edge, Durability.cloud)))
        known.hear("edge", key, number)
        await agent.machinery.synchroniser.run_all()


async def test_a_synchronisation_that_is_killed_loses_nothing_and_merges_once(tmp_path: Path, postgres: str) -> None:
    """Each appliance writes its own field of common documents: every conflict has a clean merge, with all that was written."""
    chance, mine, theirs = random.Random(4), Known(), Known()
    home, agent = tmp_path / "pc", appliance(tmp_path / "agent", postgres, "agent", Strategy.merge)
    async with running(agent):
        for key in KEYS:
            await agent.memory.set(key, {"agent": 0, "pc": 0}, durability=Durability.cloud)
        async with running(appliance(home, postgres, "pc", Strategy.merge)) as rig:
            await agree(rig)
        for begin in range(1, 1 + ROUNDS * 10_000, 10_000):
            beside = asyncio.create_task(raise_all_the_time(agent, theirs, begin))
            for what, key, number in await asyncio.to_thread(told, home, postgres, "both", begin, chance.uniform(0.1, 0.8)):
                mine.hear(what, key, int(number))
            beside.cancel()
            await asyncio.wait({beside})
            assert beside.cancelled(), beside.exception()
            async with running(appliance(home, postgres, "pc", Strategy.merge)) as rig:
                await agree(rig, agent)
                for key in KEYS:
                    values = [await each.memory.get(key) for each in (rig, agent)]
                    assert values[0] == values[1], key
                    assert mine.fits(key, values[0], "pc"), (key, values, mine.kept, mine.begun)
                    assert theirs.fits(key, values[0], "agent"), (key, values, theirs.kept, theirs.begun)
    assert mine.kept


async def quarrel(home: Path, agent: Rig, dsn: str, number: int) -> dict[str, str]:
    """Both change all keys; returns the conflicts that wait, with their keys."""
    async with running(appliance(home, dsn, "pc", Strategy.manual)) as rig:
        keys = [f"{key}-{number}" for key in KEYS]
        for each in (rig, agent):
            await each.halt()
            each.clock.wall_now = time.time()
        await rig.memory.set_many(dict.fromkeys(keys, "both"))
        await agree(rig, agent)
        await agent.memory.set_many(dict.fromkeys(keys, "theirs"))
        await agree(agent)
        await rig.memory.set_many(dict.fromkeys(keys, "mine"))
        await rig.machinery.synchroniser.run_all()
        names = {each.conflict_id: each.theirs.key for each in await rig.parts.ledger.conflicts() if each.theirs is not None}
        assert sorted(names.values()) == keys
        return names


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_a_settlement_that_is_killed_is_done_once_or_waits(tmp_path: Path, postgres: str, number: int) -> None:
    home, agent = tmp_path / "pc", appliance(tmp_path / "agent", postgres, "agent", Strategy.manual)
    async with running(agent):
        names = await quarrel(home, agent, postgres, number)
        seconds = random.Random(number).uniform(0.0, 0.08)
        lines = await asyncio.to_thread(told, home, postgres, "settle", number, seconds)
        done = {words[1] for words in lines if words[0] == "done"}
        choices = {words[1]: words[2] for words in lines}
        async with running(appliance(home, postgres, "pc", Strategy.manual)) as rig:
            await rig.halt()
            waiting = {each.conflict_id for each in await rig.parts.ledger.conflicts()}
            assert not waiting & done
            assert waiting | choices.keys() == names.keys()
            for conflict_id in waiting:
                choice = next(each for each in CHOICES if each == choices.setdefault(conflict_id, "mine"))
                await rig.machinery.settler.resolve(conflict_id, choice)
            await agree(rig, agent)
            for conflict_id, key in names.items():
                wanted = "theirs" if choices[conflict_id] == "theirs" else "mine"
                assert [await each.memory.get(key) for each in (rig, agent)] == [wanted, wanted], choices[conflict_id]
                for each in (rig, agent):
                    page = await each.memory.scan(Query(prefix=f"{key}.theirs-"))
                    beside = [await each.memory.get(entry.meta.key) for entry in page.entries]
                    assert beside == ["theirs"] * (choices[conflict_id] == "both")
