"""Tasks and schedules on the command line of a running appliance, and a worker as `prime-spark agent` has it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from appliance import config, paths
from appliance.agent.report import reports
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Role
from appliance.core.state import Section
from appliance.core.tasks.model import TaskState, WorkerState
from appliance.runtime import Appliance
from tests.integration.test_front import line
from tests.screens.conftest import Bench, bench  # noqa: F401
from tests.servers.child import Child
from tests.servers.fixtures import Topics
from tests.support import wait_for, wait_for_sync


async def test_tasks_and_schedules_on_the_command_line(bench: Bench) -> None:  # noqa: F811
    await life_of_a_task(bench)
    await life_of_a_schedule(bench)


async def life_of_a_task(bench: Bench) -> None:  # noqa: F811
    code, text = await line(bench, "task", "list")
    assert (code, "task submit TYPE PAYLOAD" in text) == (0, True)
    code, text = await line(
        bench, "task", "submit", "memory_management", '{"do": "set", "key": "a", "value": 1}', "--priority", "high", "--json"
    )
    task = msgspec.json.decode(text)
    assert (code, task["state"], task["priority"], bool(task["owner"])) == (0, "pending", 3, True)
    code, text = await line(bench, "task", "wait", task["task_id"][-8:], "--json")
    assert (code, msgspec.json.decode(text)["task"]["state"]) == (0, "completed")
    code, text = await line(bench, "task", "show", task["task_id"][-8:])
    assert (code, "completed" in text, "attempt 1 begun" in text) == (0, True, True), text
    code, text = await line(bench, "task", "list")
    assert (code, task["task_id"][-6:] in text, "high" in text) == (0, True, True)
    for arguments, told in (
        (("cancel", task["task_id"]), "has ended"), (("retry", task["task_id"]), "was completed"),
        (("show", "nothing-such"), "No task has the id"), (("submit", "memory_managment"), "did you mean memory_management?"),
        (("submit", "memory_management", "{"), "this is no JSON"), (("worker-forget", "control-pc"), "is ready"),
    ):  # fmt: skip
        code, text = await line(bench, "task", *arguments)
        assert (code in {1, 2}, told in text) == (True, True), text
    code, text = await line(bench, "task", "workers")
    assert (code, bool(re.search(r"control-pc +ready +0/10", text))) == (0, True)
    code, text = await line(bench, "task", "key")
    assert (code, len(text.strip()) >= 40) == (0, True)


async def life_of_a_schedule(bench: Bench) -> None:  # noqa: F811
    code, text = await line(bench, "schedule", "list")
    assert (code, "nothing is scheduled" in text) == (0, True)
    flush = ("memory_management", '{"do": "flush"}')
    code, text = await line(bench, "schedule", "add", "nightly", "30 3 * * *", *flush, "--zone", "Europe/Berlin")
    assert code == 0, text
    assert re.search(r"^nightly +on +30 3 \* \* \* +Europe/Berlin .* normal +0", text, re.MULTILINE), text
    code, text = await line(bench, "schedule", "add", "never", "0 0 30 2 *", *flush)
    assert (code, "no schedule that ever comes" in text) == (2, True)
    code, text = await line(bench, "schedule", "run", "nightly")
    assert (code, "memory_management" in text) == (0, True)
    code, text = await line(bench, "schedule", "list")
    assert (code, "Europe/Berlin" in text or "30 3 * * *" in text) == (0, True)
    code, text = await line(bench, "schedule", "disable", "nightly", "--json")
    assert (code, msgspec.json.decode(text)["enabled"]) == (0, False)
    code, text = await line(bench, "schedule", "remove", "nightly", "--yes")
    assert code == 0


async def test_a_task_of_the_appliance_is_done_by_the_role_worker(home: Path, tmp_path: Path, kafka: Topics) -> None:
    """The appliance with Kafka, its key, an agent with that key: a command runs there and its output comes back."""
    (home / "config.toml").write_text(f'[kafka]\nbootstrap_servers = "{kafka.bootstrap}"\n[tasks]\nbeat_seconds = 0.3\n')
    where = paths.find()
    where.make()
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    appliance.start([])
    child = Child(tmp_path / "agent.log")
    try:
        assert appliance.supervisor is not None
        await appliance.supervisor.settled()
        admin = Actor("ada", Role.admin, "console")
        key = (await appliance.dispatcher.invoke("task.key", {}, admin))["key"]
        far_away = tmp_path / "far-away"
        await asyncio.to_thread(begin_agent, child, far_away, kafka.bootstrap, key)
        await wait_for(lambda: "spark-agent" in workers(appliance), 60.0)
        task = await appliance.dispatcher.invoke("task.submit", {"type": "command", "payload": {"command": "hello"}}, admin)
        detail = await appliance.dispatcher.invoke("task.wait", {"task_id": task.task_id}, admin)
        assert (detail.task.state, detail.task.worker) == (TaskState.completed, "spark-agent")
        assert detail.result["stdout"] == "hello from far away\n"
        assert appliance.state.get(Section.tasks).value.transport.up
        run = paths.find({"PRIME_SPARK_HOME": str(far_away)}).run
        wanted = "spark-agent: command, task_execution"
        await wait_for(lambda: [each for each in reports(run, "worker") if each["service"]["reason"] == wanted], 30.0)
        long = await appliance.dispatcher.invoke("task.submit", {"type": "command", "payload": {"command": "rests"}}, admin)
        asked = {"task_id": long.task_id}

        async def state() -> TaskState:
            return TaskState((await appliance.dispatcher.invoke("task.show", asked, admin)).task.state)

        await until(state, TaskState.in_progress)
        await asyncio.to_thread(child.stop, signal.SIGTERM, 30.0)
        await wait_for(lambda: workers(appliance)["spark-agent"] is WorkerState.stopping)
        await until(state, TaskState.pending)
        given_back = (await appliance.dispatcher.invoke("task.show", asked, admin)).task
        assert given_back.attempt == 0, given_back
    finally:
        child.kill()
        await appliance.stop()


async def until(state: Callable[[], Awaitable[TaskState]], wanted: TaskState) -> None:
    """Return when a task is in that state."""
    async with asyncio.timeout(60.0):
        while await state() is not wanted:
            await asyncio.sleep(0.1)


def workers(appliance: Appliance) -> dict[str, WorkerState]:
    """The workers that the appliance shows."""
    shown = appliance.state.get(Section.tasks).value
    return {each.name: each.state for each in shown.workers} if shown is not None else {}


def begin_agent(child: Child, home: Path, bootstrap: str, key: str) -> None:
    """Start it without the key, which it misses, then with it."""
    home.mkdir(mode=0o700)
    env = {"PRIME_SPARK_HOME": str(home)}
    (home / "config.toml").write_text(
        f'[node]\ndevice_id = "spark-agent"\n[kafka]\nbootstrap_servers = "{bootstrap}"\n[tasks]\nbeat_seconds = 0.3\n'
        '[tasks.commands.hello]\nprogram = "/bin/echo"\narguments = ["hello from far away"]\n'
        '[tasks.commands.rests]\nprogram = "/bin/sleep"\narguments = ["600"]\nlimit_seconds = 900\n'
    )
    run, command = paths.find(env).run, [sys.executable, "-m", "appliance", "agent", "--role", "worker"]
    child.spawn(command, lambda: True, env=env)
    wait_for_sync(lambda: [each for each in reports(run, "worker") if each["service"]["health"] == "absent"], 60.0)
    assert "key of the Control PC's tasks is missing" in reports(run, "worker")[0]["service"]["reason"]
    child.stop(signal.SIGTERM, timeout=10.0)
    secrets = home / "data" / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    (secrets / "tasks.key").write_text(key)
    (secrets / "tasks.key").chmod(0o600)
    child.spawn(command, lambda: True, env=env)
