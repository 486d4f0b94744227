"""Compose projects and containers of a node with real containers: podman behind docker's command line and docker-compose."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.core.fleet.model import Node
from appliance.core.fleet.operations import reads
from appliance.core.fleet.operations.model import Stage
from tests.fleet.ops.local import Fleet
from tests.fleet.ops.rig import QUICK, Rig, states
from tests.servers.child import Child
from tests.support import capability, needs_program

CONF = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
"""
PROJECT = """version: "3"
services:
  web:
    image: local/operations:1
    command: sleep 1000
    network_mode: none
    stop_grace_period: 1s
  worker:
    image: local/operations:1
    command: sleep 1000
    network_mode: none
    stop_grace_period: 1s
"""

WAY = msgspec.structs.replace(QUICK, limit=60.0)


class Engine:
    """podman with a storage of its own, answering as Docker does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "containers.conf"
        self.conf.write_text(CONF)
        self.socket = folder / "s"
        self.child = Child(folder / "podman.log")

    def podman(self, *arguments: str, check: bool = True) -> None:
        own = ["--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", "--storage-driver", "vfs"]
        env = {**os.environ, "CONTAINERS_CONF": str(self.conf)}
        subprocess.run(["podman", *own, *arguments], check=check, env=env, capture_output=True, timeout=60)

    def start(self) -> None:
        box = self.folder / "box/bin"
        box.mkdir(parents=True)
        shutil.copy("/bin/busybox", box)
        for name in ("sh", "sleep"):
            (box / name).symlink_to("busybox")
        archive = shutil.make_archive(str(self.folder / "box"), "tar", self.folder / "box")
        self.podman("import", archive, "local/operations:1")
        own = ["--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", "--storage-driver", "vfs"]
        command = [
            "env",
            f"CONTAINERS_CONF={self.conf}",
            "podman",
            *own,
            "system",
            "service",
            "--time",
            "0",
            f"unix://{self.socket}",
        ]
        self.child.spawn(command, self.socket.exists)

    def stop(self) -> None:
        self.podman("rm", "--all", "--force", "--time", "0", check=False)
        self.child.stop()


@pytest.fixture
def engine() -> Iterator[Engine]:
    for program in ("podman", "docker", "docker-compose", "runc"):
        needs_program(program)
    capability(os.geteuid() == 0 and Path("/bin/busybox").exists(), "root, and busybox-static")
    folder = Path(tempfile.mkdtemp(prefix="ops-"))
    made = Engine(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def rig(tmp_path: Path, engine: Engine) -> AsyncIterator[Rig]:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("docker", "docker-compose"):
        (tools / name).write_text(f'#!/bin/sh\nDOCKER_HOST=unix://{engine.socket} exec {shutil.which(name)} "$@"\n')
        (tools / name).chmod(0o755)
    fleet = Fleet(tmp_path / "nodes", [Node(name="a", host="127.0.0.1")], str(tools))
    (fleet.root / "a/docker-compose.yml").write_text(PROJECT)
    made = Rig(tmp_path, fleet, fleet)
    await made.start()
    yield made
    await made.stop()


@pytest.mark.skipif(not os.environ.get("PRIME_SPARK_LONG_TESTS"), reason="half a minute and more: set PRIME_SPARK_LONG_TESTS=1")
async def test_a_real_project_goes_up_is_listed_and_is_taken_back(rig: Rig, tmp_path: Path) -> None:
    folder = str(tmp_path / "nodes/a")
    planned = await rig.service.plan("compose.up", {"project": "opstest", "folder": folder}, ["a"], WAY, "alice")
    assert planned.runs[0].diff == "- web: absent\n+ web: running\n- worker: absent\n+ worker: running", planned
    await rig.service.apply(planned.operation_id, "alice")
    up = await rig.service.wait(planned.operation_id)
    assert (up.stage, states(up)) == (Stage.completed, {"a": "ok"}), up
    told = await reads.ask(rig.ground.shell, rig.ground.inventory.all(), reads.projects)
    assert told[0].rows == [{"project": "opstest", "services": {"web": "running", "worker": "running"}, "running": 2}], told
    again = await rig.service.plan("compose.up", {"project": "opstest"}, ["a"], WAY, "alice")
    assert again.reason == "there is nothing to do: it is so already"
    stopped = await rig.done("container.stop", ["a"], WAY, container="opstest_web_1")
    assert stopped.stage is Stage.completed, stopped
    await rig.service.undo(stopped.operation_id, "alice")
    assert (await rig.service.wait(stopped.operation_id)).stage is Stage.undone
    await rig.service.undo(up.operation_id, "alice")
    back = await rig.service.wait(up.operation_id)
    assert back.stage is Stage.undone, back
    told = await reads.ask(rig.ground.shell, rig.ground.inventory.all(), reads.containers)
    assert told[0].rows == []
