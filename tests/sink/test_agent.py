"""The role as a process: what it says, and how it ends."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from appliance import cli, paths
from appliance.agent.report import reports
from tests.servers.child import Child
from tests.support import wait_for_sync


def test_a_role_without_configuration_says_what_lacks_and_ends_on_sigterm(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    child = Child(tmp_path / "agent.log")
    child.spawn(
        [sys.executable, "-m", "appliance", "agent", "--role", "sink"], lambda: True, env={"PRIME_SPARK_HOME": str(home)}
    )
    run = paths.find({"PRIME_SPARK_HOME": str(home)}).run
    try:
        wait_for_sync(lambda: [each for each in reports(run) if each["service"]["health"] == "absent"], 30.0)
        (told,) = reports(run, "sink")
        assert told["pid"] == child.pid
        assert "No Kafka" in told["service"]["reason"]
        child.stop(signal.SIGTERM, timeout=10.0)
    finally:
        child.kill()
    assert reports(run) == []


def test_an_unknown_role_is_told(tmp_path: Path) -> None:
    context = cli.make_context({"PRIME_SPARK_HOME": str(tmp_path)})
    with (tmp_path / "err").open("w") as err:
        assert cli.run(["agent", "--role", "sing"], context, err) == 1
    assert "sink" in (tmp_path / "err").read_text()
