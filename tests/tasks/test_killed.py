"""kill -9 of the Control PC while tasks come and go: nothing acknowledged is lost, and nothing counts twice."""

from __future__ import annotations

import random
import signal
import sys
from collections import Counter
from pathlib import Path

from appliance.core.tasks.model import TaskState
from tests.servers.child import Child
from tests.support import wait_for
from tests.tasks.rig import Echo, running


def lines(path: Path) -> list[str]:
    """Whole lines."""
    return path.read_text().splitlines() if path.exists() else []


async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    chance = random.Random()
    for round_ in range(1, 4):
        child = Child(tmp_path / f"{round_}.log")
        child.spawn([sys.executable, "-m", "tests.tasks.killed", str(tmp_path)], lambda: True, env=env)
        try:
            wanted = len(lines(tmp_path / "acknowledged")) + chance.randrange(50, 200)
            await wait_for(lambda wanted=wanted: len(lines(tmp_path / "acknowledged")) > wanted, 60.0)  # type: ignore[misc]
        finally:
            child.send(signal.SIGKILL)
            child.kill()
    acknowledged = lines(tmp_path / "acknowledged")
    async with running(tmp_path, handlers=[Echo()]) as rig:
        await wait_for(lambda: not rig.desk.live and not rig.desk.ending, 60.0)
        ends = {each.task_id: each for each in await rig.desk.book.ended(5000)}
        assert set(acknowledged) <= set(ends)
        assert {each.state for each in ends.values()} == {TaskState.completed}
        again = [each for each in ends.values() if each.attempt > 1]
        runs = Counter(line.split()[0] for line in lines(tmp_path / "runs"))
        leases = Counter(lines(tmp_path / "runs"))
        assert max(leases.values()) == 1  # each run has a lease of its own
        assert {task for task, count in runs.items() if count > 1} <= {each.task_id for each in again}
