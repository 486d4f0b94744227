"""Tasks on workers that are processes of their own, over a real broker."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from appliance.core.tasks.model import TaskState
from appliance.core.tasks.pipe import Pipe
from appliance.core.tasks.wire import BEAT, Seal
from tests.servers.fixtures import Topics
from tests.support import wait_for
from tests.tasks.far_rig import far
from tests.tasks.rig import Echo, Paper


async def test_tasks_go_to_who_has_least_to_do_and_come_back_done(tmp_path: Path, kafka: Topics) -> None:
    async with far(tmp_path, kafka) as rig:
        rig.launch("one")
        rig.launch("two")
        await rig.ready("one", "two")
        tasks = await asyncio.gather(*(rig.submit(payload={"n": n, "sleep": 0.05}) for n in range(60)))
        done = await asyncio.gather(*(rig.ended(task) for task in tasks))
        assert {each.state for each in done} == {TaskState.completed}
        assert {each.attempt for each in done} == {1}
        assert set(rig.times("begun").values()) == {1}
        share = [sum(each.worker == name for each in done) for name in ("one", "two")]
        assert min(share) >= 15, share
        await asyncio.to_thread(rig.workers["one"].stop, signal.SIGTERM, 10.0)
        await wait_for(lambda: rig.desk.roster.members["one"].worker.state.value == "stopping")


async def test_a_killed_worker_s_task_goes_to_another_one(tmp_path: Path, kafka: Topics) -> None:
    async with far(tmp_path, kafka) as rig:
        rig.launch("one", limit=1)
        await rig.ready("one")
        task = await rig.submit(payload={"sleep": 600})
        await wait_for(lambda: rig.times("begun")[task.task_id] == 1, 20.0)
        quick = await rig.submit(payload={"n": 1})
        rig.launch("two")
        await rig.ready("two")
        rig.workers["one"].send(signal.SIGKILL)
        assert (await rig.ended(quick)).worker == "two"
        await wait_for(lambda: rig.times("begun")[task.task_id] == 2, 20.0)
        await wait_for(lambda: rig.desk.live[task.task_id].task.attempt == 2)
        assert rig.desk.live[task.task_id].task.worker == "two"
        await rig.service.dispatcher.cancel(task.task_id, "anna")
        await wait_for(lambda: rig.times("stopped")[task.task_id] == 1)
        assert rig.desk.roster.members["one"].worker.state.value == "silent"


async def test_a_partitioned_worker_stops_what_others_may_have(tmp_path: Path, kafka: Topics) -> None:
    async with far(tmp_path, kafka) as rig:
        rig.launch("cut", limit=1, proxied=True)
        await rig.ready("cut")
        task = await rig.submit(payload={"sleep": 2.3})
        await wait_for(lambda: rig.times("begun")[task.task_id] == 1, 20.0)
        kafka.proxy.hang()
        rig.launch("well")
        await rig.ready("well")
        done = await rig.ended(task)
        assert (done.state, done.worker, done.attempt) == (TaskState.completed, "well", 2)
        assert [each["worker"] for each in rig.noted("ended")] == ["well"]
        assert [each["worker"] for each in rig.noted("stopped")] == ["cut"]
        order = [(each["what"], each["worker"]) for each in rig.noted()]
        assert order.index(("stopped", "cut")) < order.index(("begun", "well"))  # never both at once
        kafka.proxy.heal()
        await rig.ready("cut")
        again = await rig.submit(payload={"n": 2}, worker="cut")
        assert (await rig.ended(again)).worker == "cut"


async def test_kafka_gone_and_back_loses_nothing_and_stops_no_local_work(tmp_path: Path, kafka: Topics) -> None:
    here = Echo("here")
    async with far(tmp_path, kafka, handlers=[here]) as rig:
        rig.launch("one")
        await rig.ready("one")
        runs = await rig.submit(payload={"sleep": 0.5, "n": 1})
        await wait_for(lambda: rig.times("begun")[runs.task_id] == 1, 20.0)
        kafka.server.kill()
        waits = [await rig.submit(payload={"n": n}) for n in range(20)]
        assert (await rig.ended(await rig.submit("here"))).state is TaskState.completed
        await wait_for(lambda: not rig.remote.hears, 20.0)
        assert not rig.service.transport().up
        kafka.server.start()
        done = [await rig.ended(task) for task in (runs, *waits)]
        assert {each.state for each in done} == {TaskState.completed}
        assert all(count == 1 for task, count in rig.times("ended").items() if task != runs.task_id)


async def test_a_worker_that_is_stopped_gives_back_what_it_has(tmp_path: Path, kafka: Topics) -> None:
    async with far(tmp_path, kafka) as rig:
        rig.launch("one", limit=1)
        await rig.ready("one")
        tasks = [await rig.submit(payload={"sleep": 0.4}), await rig.submit()]
        await wait_for(lambda: rig.times("begun")[tasks[0].task_id] == 1, 20.0)
        await asyncio.to_thread(rig.workers["one"].stop, signal.SIGTERM, 10.0)
        await wait_for(lambda: len(rig.desk.waiting) == 1)
        rig.launch("two")
        done = [await rig.ended(task) for task in tasks]
        assert [(each.worker, each.attempt) for each in done] == [("one", 1), ("two", 1)]


async def test_nobody_without_the_key_is_heard_or_obeyed(tmp_path: Path, kafka: Topics) -> None:
    async with far(tmp_path, kafka) as rig:
        rig.launch("one")
        await rig.ready("one")
        forger = Seal(b"another-key-of-somebody")
        pipe = Pipe(rig.remote._pipe.access, rig.clock, forger, kafka.prefix, "agents.results", lambda _: None)
        sending = asyncio.create_task(pipe.run())
        paper = Paper("forged")
        await pipe.post(BEAT, paper.beat(), "forged")
        await wait_for(lambda: rig.remote.unusable)
        assert "forged" not in rig.desk.roster.members
        assert (await rig.ended(await rig.submit())).state is TaskState.completed
        sending.cancel()
        await asyncio.wait({sending})
