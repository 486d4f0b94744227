"""Compose projects as replicas, in real containers: podman and runc behind docker's command line and docker-compose."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance.core.deploy.model import Stage
from appliance.core.fleet.keys import OwnKey
from appliance.core.secrets import Secrets
from tests.deploy.rig import LONG, Load, NodeRig, Rig, make_base, needs
from tests.servers.child import Child
from tests.support import capability, needs_program, wait_for

pytestmark = [LONG, pytest.mark.timeout(400)]
CONF = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
"""
SPEC = """
name = "web"
version = "{version}"
kind = "compose"
replicas = 2
nodes = ["all"]
ports = {{ first = {first}, count = 40 }}
[compose]
file = '''
version: "2.4"
services:
  web:
    image: local/web:${{VERSION}}
    command: ["httpd", "-f", "-p", "127.0.0.1:${{PORT}}", "-h", "/www"]
    network_mode: host
    environment: {{ TOKEN: "${{TOKEN}}" }}
    stop_grace_period: 1s
'''
[secrets]
TOKEN = "deploy.web.token"
[front]
listen = {listen}
[health]
kind = "http"
path = "/health.json"
json = {{ status = "up" }}
interval = 0.5
start_interval = 0.3
timeout = 4
[rollout]
strategy = "{strategy}"
settle = 0.5
soak = 1
drain = 5
deadline = 120
"""


class Engine:
    """podman with a storage of its own, answering as Docker does; no interface of the machine is touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "containers.conf").write_text(CONF)
        self.socket = folder / "s"
        self.child = Child(folder / "podman.log")
        self.own = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]

    def podman(self, *arguments: str, check: bool = True) -> str:
        env = {**os.environ, "CONTAINERS_CONF": str(self.folder / "containers.conf")}
        made = subprocess.run(
            ["podman", *self.own, *arguments], check=check, env=env, capture_output=True, text=True, timeout=120
        )
        return made.stdout

    def image(self, version: str, status: str) -> None:
        """A web server that tells its version and how it is."""
        box = self.folder / f"box-{version}"
        for part in ("bin", "www", "etc"):
            (box / part).mkdir(parents=True)
        shutil.copy("/bin/busybox", box / "bin")
        for name in ("sh", "httpd"):
            (box / "bin" / name).symlink_to("busybox")
        (box / "www/index.html").write_text(f'{{"version": "{version}"}}')
        (box / "www/health.json").write_text(f'{{"status": "{status}"}}')
        archive = shutil.make_archive(str(box), "tar", box)
        self.podman("import", archive, f"local/web:{version}")

    def start(self) -> None:
        command = ["env", f"CONTAINERS_CONF={self.folder}/containers.conf", "podman", *self.own, "system", "service"]
        self.child.spawn([*command, "--time", "0", f"unix://{self.socket}"], self.socket.exists)

    def stop(self) -> None:
        self.podman("rm", "--all", "--force", "--time", "0", check=False)
        self.child.stop()


@pytest.fixture
def engine() -> Iterator[Engine]:
    needs()
    for program in ("podman", "docker", "docker-compose", "runc"):
        needs_program(program)
    capability(Path("/bin/busybox").exists(), "busybox-static")
    made = Engine(make_base())
    for version, status in (("1", "up"), ("2", "up"), ("3", "down")):
        made.image(version, status)
    made.start()
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture
async def rig(engine: Engine) -> AsyncIterator[Rig]:
    base = make_base()
    own = OwnKey(Secrets(base / "own", {}), "prime-spark@test")
    node = NodeRig("box", base, own.public() + "\n", f"DOCKER_HOST=unix://{engine.socket}")
    node.start()
    made = Rig(base, {"box": node}, own)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
        node.die()
        shutil.rmtree(base)


async def test_projects_go_blue_green_and_a_bad_image_goes_back(rig: Rig, engine: Engine) -> None:
    rig.secrets.put("deploy.web.token", b"it's $ecret")
    rig.spec("0")  # chooses the ports

    def document(version: str) -> str:
        return SPEC.format(version=version, strategy="blue-green", first=rig.first, listen=rig.listen)

    ended = await rig.deployed(document("1"), 180)
    assert ended.stage is Stage.completed, ended.reason
    name = engine.podman("ps", "--format", "{{.Names}}").split()[0]
    assert "TOKEN=it's $ecret" in engine.podman("inspect", "--format", "{{.Config.Env}}", name)
    async with Load(rig.listen, rate=20) as load:
        await wait_for(lambda: load.counts["1"] >= 10)
        assert (await rig.deployed(document("2"), 180)).stage is Stage.completed
        load.taken()
        await wait_for(lambda: load.counts["2"] >= 10)
        ended = await rig.deployed(document("3").replace("[rollout]", "start_period = 1\nretries = 2\n[rollout]"), 180)
        assert ended.stage is Stage.rolled_back
        assert "status is 'down'" in ended.trouble
        load.taken()
        await wait_for(lambda: load.counts["2"] >= 10)
        assert load.counts["3"] == 0
    assert load.failed == []
    assert len(engine.podman("ps", "--quiet").split()) == 2
    await rig.desk.remove("web", "alice")
    await wait_for(lambda: not rig.service.keepers, 120)
    assert engine.podman("ps", "--all", "--quiet") == ""
