"""kill -9 at random moments under load: the next start is clean, nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from appliance import paths
from appliance.errors import ApplianceError
from appliance.verbs.client import SocketClient
from appliance.verbs.static import audit_verify_offline
from tests.support import wait_for_sync

ROUNDS = int(os.environ.get("PRIME_SPARK_KILLS", "6"))
"""50 for the long proof."""


class Running:
    """A real appliance process."""

    def __init__(self, home: Path) -> None:
        self.where = paths.find({"PRIME_SPARK_HOME": str(home)})
        command = [sys.executable, "-c", "from appliance.cli import main; main()", "headless"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_sync(lambda: self.process.poll() is None and self._healthy(), 30, "the appliance is well")

    def client(self) -> SocketClient:
        return SocketClient(self.where.api_socket)

    def _healthy(self) -> bool:
        try:
            found = self.client().invoke("service.list", {})
        except ApplianceError:
            return False
        return all(each["phase"] == "running" and each["health"] != "unhealthy" for each in found)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def load(client: SocketClient, prefix: str, done: list[str]) -> None:
    """Acknowledged user names, until the appliance is gone."""
    for index in range(10_000):
        name = f"{prefix}{index}"
        try:
            client.invoke("user.add", {"name": name})
        except ApplianceError:
            return
        done.append(name)


@pytest.mark.serial
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost(home: Path) -> None:
    (home / "config.toml").write_text("[ssh]\nport = 0\n")
    acknowledged: list[str] = []
    for round_ in range(ROUNDS):
        running = Running(home)
        try:
            users = {user["name"] for user in running.client().invoke("user.list", {})}
            assert set(acknowledged) <= users
            audited = _audited(running.client(), len(acknowledged))
            assert set(acknowledged) <= audited
            writers = [
                threading.Thread(target=load, args=(running.client(), f"u{round_}x{writer}x", acknowledged), daemon=True)
                for writer in range(3)
            ]
            before = len(acknowledged)
            for writer in writers:
                writer.start()
            wait_for_sync(lambda: len(acknowledged) >= before + random.randrange(1, 40), 30)  # noqa: B023
        finally:
            running.kill()
        for writer in writers:
            writer.join(10)
        verdict = audit_verify_offline(running.where, {})
        assert verdict["intact"], verdict
    last = Running(home)
    try:
        assert set(acknowledged) <= {user["name"] for user in last.client().invoke("user.list", {})}
        assert len(acknowledged) >= ROUNDS
    finally:
        last.kill()


def _audited(client: SocketClient, least: int) -> set[str]:
    rows: list[dict[str, Any]] = client.invoke("audit.list", {"limit": min(10_000, 4 * least + 100)})
    return {row["args"]["name"] for row in rows if row["action"] == "user.add" and row["outcome"] == "ok"}
