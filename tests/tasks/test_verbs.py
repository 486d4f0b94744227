"""Tasks and schedules on the command line of a running appliance, and a worker as `prime-spark agent` has it."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import msgspec

from appliance import paths
from appliance.agent.report import reports
from tests.integration.test_front import line
from tests.screens.conftest import Bench, bench  # noqa: F401
from tests.servers.child import Child
from tests.servers.fixtures import Topics
from tests.support import wait_for_sync
from tests.tasks.far_rig import KEY


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
    code, text = await line(bench, "schedule", "add", "never", "0 0 30 2 *", *flush)
    assert (code, "no schedule that ever comes" in text) == (2, True)
    code, text = await line(bench, "schedule", "run", "nightly")
    assert (code, "memory_management" in text) == (0, True)
    code, text = await line(bench, "schedule", "list")
    assert (code, "Europe/Berlin" in text or "30 3 * * *" in text) == (0, True)
    code, text = await line(bench, "schedule", "disable", "nightly", "--json")
    assert (code, msgspec.json.decode(text)["enabled"]) == (0, False)
    code, text = await line(bench, "schedule", "remove", "nightly")
    assert code == 5
    code, text = await line(bench, "schedule", "remove", "nightly", "--yes")
    assert code == 0


def test_the_role_worker_says_what_lacks_and_then_what_it_does(tmp_path: Path, kafka: Topics) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    env = {"PRIME_SPARK_HOME": str(home)}
    run = paths.find(env).run
    (home / "config.toml").write_text(
        f'[node]\ndevice_id = "spark-agent"\n[kafka]\nbootstrap_servers = "{kafka.bootstrap}"\n'
        '[tasks.commands.now]\nprogram = "/bin/date"\n'
    )
    command = [sys.executable, "-m", "appliance", "agent", "--role", "worker"]

    def told(health: str) -> str:
        found = [each["service"]["reason"] for each in reports(run, "worker") if each["service"]["health"] == health]
        return found[0] if found else ""

    child = Child(tmp_path / "agent.log")
    child.spawn(command, lambda: True, env=env)
    try:
        wait_for_sync(lambda: told("absent"), 60.0)
        assert "key of the Control PC's tasks is missing" in told("absent")
        child.stop(signal.SIGTERM, timeout=10.0)
        secrets = home / "data" / "secrets"
        secrets.mkdir(mode=0o700, exist_ok=True)
        (secrets / "tasks.key").write_text(KEY)
        (secrets / "tasks.key").chmod(0o600)
        child.spawn(command, lambda: True, env=env)
        wait_for_sync(lambda: told("healthy"), 60.0)
        assert told("healthy") == "spark-agent: command, task_execution"
        child.stop(signal.SIGTERM, timeout=10.0)
    finally:
        child.kill()
    assert reports(run) == []
