"""While the dispatcher cannot take in what workers say, no lease runs out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from appliance.core.store import Store
from appliance.core.tasks.model import TaskState
from appliance.errors import DiskFullError
from tests.servers.fixtures import Topics
from tests.support import wait_for
from tests.tasks.far_rig import LEASE, far


async def test_a_disk_that_is_full_for_longer_than_a_lease_takes_no_task_from_its_worker(
    tmp_path: Path, kafka: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with far(tmp_path, kafka) as rig:
        rig.launch("one")
        await rig.ready("one")
        long, short = await rig.submit(payload={"sleep": 600}), await rig.submit(payload={"sleep": 0.5})
        await wait_for(lambda: set(rig.times("begun")) == {long.task_id, short.task_id}, 20.0)
        await wait_for(lambda: rig.desk.live[long.task_id].task.state is TaskState.in_progress)
        before, lost = rig.desk.live[long.task_id].task, rig.desk.counts["lost"]
        whole, refused = Store.write, []

        async def full(*_: object) -> None:
            refused.append(time.monotonic())
            raise DiskFullError("No room.", "make some.")

        monkeypatch.setattr(Store, "write", full)
        await wait_for(lambda: refused and time.monotonic() > refused[0] + LEASE["lease_seconds"] + 1.0, 30.0)
        monkeypatch.setattr(Store, "write", whole)
        assert (await rig.ended(short)).state is TaskState.completed
        await wait_for(lambda: rig.remote.hears)
        await rig.service.dispatcher.look()
        assert rig.desk.live[long.task_id].task == before
        assert rig.desk.counts["lost"] == lost
