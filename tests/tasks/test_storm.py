"""Many tasks over real Kafka, while workers are killed and cut off at random. PRIME_SPARK_TASKS=10000 makes it as many."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest

from appliance.core.tasks.model import ENDED, Task, TaskState, Urgency
from tests.servers.fixtures import Topics
from tests.tasks.far_rig import FarRig, far

COUNT = int(os.environ.get("PRIME_SPARK_TASKS", "150"))
SECONDS = 60 + COUNT / 20
NAMES = ("one", "two", "cut")


async def storm(rig: FarRig, kafka: Topics, chance: random.Random) -> Counter[str]:
    """Kill a worker and start it again, or cut one off and let it back, until cancelled."""
    done: Counter[str] = Counter()
    try:
        for turn in itertools.count():
            name = chance.choice(NAMES) if turn else "cut"
            await asyncio.sleep(chance.uniform(0.2, 0.8))
            if name == "cut" and (not turn or chance.random() < 0.7):
                kafka.proxy.hang()
                done["cut off"] += 1
                await asyncio.sleep(chance.uniform(0.5, 3.5))
                kafka.proxy.heal()
            else:
                rig.workers[name].send(signal.SIGKILL)
                done["killed"] += 1
                await asyncio.sleep(chance.uniform(0.1, 1.0))
                await asyncio.to_thread(rig.workers[name].kill)
                rig.launch(name, proxied=name == "cut")
    except asyncio.CancelledError:
        return done


@pytest.mark.timeout(SECONDS + 60)
async def test_each_task_ends_once_whatever_happens_to_the_workers(tmp_path: Path, kafka: Topics) -> None:
    chance = random.Random(8)
    async with far(tmp_path, kafka, service={"keep": 100_000, "attempts": 5}) as rig:
        for name in NAMES:
            rig.launch(name, proxied=name == "cut")
        await rig.ready(*NAMES)
        wishes = [
            ({"n": n, "sleep": chance.choice((0.0, 0.01, 0.05)), "fail": n % 50 == 7}, chance.choice(list(Urgency)))
            for n in range(COUNT)
        ]
        tasks = await asyncio.gather(*(rig.submit(payload=payload, priority=urgency) for payload, urgency in wishes))
        waiting = [task for task in tasks if task.task_id in rig.desk.waiting and task.priority is Urgency.low]
        cancelled = [await rig.service.dispatcher.cancel(each.task_id, "anna") for each in waiting[: COUNT // 20]]
        raging = asyncio.create_task(storm(rig, kafka, chance))
        async with asyncio.timeout(SECONDS):
            while rig.desk.live or rig.desk.ending:
                await asyncio.sleep(0.1)
        raging.cancel()
        done = await raging
        kafka.proxy.heal()
        ends = await rig.desk.book.ended(COUNT)
        check(rig, tasks, ends, {each.task_id for each in cancelled})
        sys.stderr.write(f"{dict(done)} {rig.desk.counts} {ranks(rig, ends)}\n")


def check(rig: FarRig, tasks: list[Task], ends: list[Task], cancelled: set[str]) -> None:
    assert len(ends) == len({each.task_id for each in ends}) == len(tasks)
    assert all(each.state in ENDED for each in ends)
    assert {each.task_id for each in ends if each.state is TaskState.cancelled} == cancelled
    begun, ended = rig.times("begun"), rig.times("ended")
    assert not cancelled & set(begun)
    completed = {each.task_id for each in ends if each.state is TaskState.completed}
    assert completed <= set(ended)  # none is said to be done that was not
    assert rig.desk.counts["completed"] == len(completed)
    assert all(each.reason for each in ends if each.state is TaskState.failed)
    # each begin has a lease of its own, and no more of them were given than attempts are allowed
    leases = Counter((each["task"], each["lease"]) for each in rig.noted("begun"))
    assert max(leases.values()) == 1
    order = ranks(rig, ends)
    assert order["urgent"] < order["high"] < order["normal"] < order["low"], order


def ranks(rig: FarRig, ends: list[Task]) -> dict[str, float]:
    """Mean place (0…1) among the first beginnings, by priority."""
    first = list(dict.fromkeys(each["task"] for each in rig.noted("begun")))
    places = {task_id: index / len(first) for index, task_id in enumerate(first)}
    begun = [each for each in ends if each.task_id in places]
    return {
        urgency.name: round(mean(places[each.task_id] for each in begun if each.priority is urgency), 3) for urgency in Urgency
    }
