"""Tasks on workers that are processes of their own, over a real broker."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from appliance.core.tasks.model import TaskState
from tests.servers.fixtures import Topics
from tests.support import wait_for
from tests.tasks.far_rig import far


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
        rig.workers["one"].stop(signal.SIGTERM, timeout=10.0)
        await wait_for(lambda: rig.desk.roster.members["one"].worker.state.value == "stopping")
