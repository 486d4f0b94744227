"""Nodes with a real sshd and a mount namespace of their own, a load that counts, and deployments over all of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.core.clock import SystemClock
from appliance.core.deploy.balancer import Balancer
from appliance.core.deploy.book import DeployBook
from appliance.core.deploy.composes import Composes
from appliance.core.deploy.desk import Desk
from appliance.core.deploy.ground import Ground
from appliance.core.deploy.hands import Remote
from appliance.core.deploy.keeper import Keeper
from appliance.core.deploy.model import ENDED, Deployed, Kind, Rollout
from appliance.core.deploy.probes import Probes
from appliance.core.deploy.service import DeployService
from appliance.core.deploy.traffic import Traffic
from appliance.core.deploy.units import Units
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.link_pace import Pace
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import Node, NodeMetrics
from appliance.core.model import Severity
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.core.store import Store
from tests.servers.sshd import PROGRAM, SshServer
from tests.support import capability, free_port, needs_program, wait_for

HERE = Path(__file__).parent
LONG = pytest.mark.skipif(not os.environ.get("PRIME_SPARK_LONG_TESTS"), reason="many seconds: set PRIME_SPARK_LONG_TESTS=1")
"""What is proven in less time by another test too."""
PATIENT = Pace(login=3.0, first=0.1, longest=0.5, keepalive=2.0)
SPEC = """
name = "{name}"
version = "{version}"
kind = "unit"
replicas = {replicas}
nodes = ["all"]
ports = {{ first = {first}, count = 40 }}
replace_after = {replace}
restart_after = {restart}
[unit]
command = "{python} -S {server} {{port}} {{version}} {folder}"
{front}
[health]
kind = "http"
path = "/health"
json = {{ status = "up" }}
interval = 0.3
start_interval = 0.1
timeout = {timeout}
retries = 2
start_period = 5.0
[rollout]
strategy = "{strategy}"
settle = 0.3
soak = {soak}
step_seconds = 1.0
steps = [10, 50]
drain = 5.0
deadline = {deadline}
{more}
"""


class NodeRig(SshServer):
    """A machine: sshd in a mount namespace of its own, with its own files and a systemctl that starts real programs."""

    def __init__(self, name: str, base: Path, authorized: str, variables: str = "") -> None:
        self.name = name
        self.base = base
        self.own = base / f"node-{name}"
        self.variables = f"SetEnv HOME={self.own} {variables}\n"  # logins read no start-up files of whoever runs the tests
        for part in ("units", "state", "deploy"):
            (self.own / part).mkdir(parents=True)
        super().__init__(base / f"ssh-{name}", authorized)
        self.here = base / "here"
        self.here.mkdir(exist_ok=True)
        self.program = base / "systemctl"
        self.program.write_text((HERE / "systemctl.py").read_text().replace("@HERE@", str(self.here)))
        self.program.chmod(0o755)

    def start(self) -> None:
        """See Server: sshd sees its own files, and our systemctl where the machine's is."""
        config = self.directory / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.directory / 'host_key'}\nPidFile none\n"
            f"AuthorizedKeysFile {self.authorized}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "Subsystem sftp internal-sftp\nPermitRootLogin prohibit-password\nKbdInteractiveAuthentication no\n"
            f"MaxStartups 200\nMaxSessions 200\n{self.variables}"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        real = shutil.which("systemctl") or "/usr/bin/systemctl"
        script = f'mount --bind "{self.own}" "{self.here}" && mount --bind "{self.program}" "{real}" && exec "$@"'
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        self.child.spawn([*command, str(PROGRAM), "-D", "-e", "-f", str(config)], self._listens)

    def pids(self) -> list[int]:
        """Of its services."""
        return [int(path.read_text()) for path in (self.own / "state").glob("*.pid")]

    def die(self) -> None:
        """As by a power cut: sshd and all of its services are gone at once."""
        self.kill()
        self.end_services()

    def end_services(self, which: str = "*") -> None:
        """Kill the programs, and what watches each; of these units (a pattern)."""
        for path in (self.own / "state").glob(f"{which}.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.killpg(int(path.read_text()), signal.SIGKILL)
            path.unlink(missing_ok=True)

    def node(self) -> Node:
        """Its entry in the inventory."""
        return Node(name=self.name, host="127.0.0.1", port=self.port, user=self.user, host_key=self.fingerprint)


@dataclass(frozen=True)
class Known:
    """A node that another process started: where its files are seen, its port, user and fingerprint."""

    name: str
    here: Path
    port: str
    user: str
    fingerprint: str

    def node(self) -> Node:
        """Its entry in the inventory."""
        return Node(name=self.name, host="127.0.0.1", port=int(self.port), user=self.user, host_key=self.fingerprint)


@dataclass
class Load:
    """Requests at a steady rate, counted by the version that answered; every failed one is kept."""

    port: int
    rate: float = 40.0
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Load:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *args: object) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=10)

    async def _run(self) -> None:
        while True:
            task = asyncio.create_task(self.ask())
            self._open.add(task)
            task.add_done_callback(self._open.discard)
            await asyncio.sleep(1 / self.rate)

    async def ask(self) -> None:
        """One request on a connection of its own."""
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
            head, _, body = answer.partition(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0]:
                self.failed.append(head.split(b"\r\n")[0].decode() or "an empty answer")
                return
            self.counts[str(json.loads(body)["version"]) if body.startswith(b"{") else body.split()[-1].decode()] += 1
        except (OSError, TimeoutError, ValueError, IndexError) as error:
            self.failed.append(f"{type(error).__name__}: {error}")

    def taken(self) -> Counter[str]:
        """What was counted since the last call."""
        now, self.counts = self.counts, Counter()
        return now


class Rig:
    """Deployments over some nodes."""

    def __init__(self, base: Path, nodes: dict[str, NodeRig], own: OwnKey) -> None:
        self.base, self.nodes, self.own = base, nodes, own
        self.here = next(iter(nodes.values())).here
        self.listen, self.first = free_port(), 0
        self.clock, self.state = SystemClock(), LiveState(SystemClock())
        self.store = Store(base / "appliance.sqlite")
        self.secrets = Secrets(base / "secrets", {})
        self.told: list[tuple[str, dict[str, object]]] = []
        self.metrics: dict[str, NodeMetrics] = {}
        self.moods = base / "moods"
        self.moods.mkdir(exist_ok=True)
        self.left: list[Balancer] = []
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """As the appliance does it."""
        self.store.open()
        inventory = FleetInventory([node.node() for node in self.nodes.values()])
        self.links = Links(inventory, self.own, pace=PATIENT)
        remote = Remote(self.links, str(self.here / "deploy"))
        balancer = Balancer(self.base / "balancer", needs_program("haproxy"))
        self.traffic = Traffic(balancer, self.clock)
        self.ground = Ground(
            DeployBook(self.store, self.clock), inventory, self.silent, self.metrics.get,
            {Kind.unit: Units(remote, str(self.here / "units")), Kind.compose: Composes(remote)},
            Probes(remote), self.traffic, self.secrets, self.clock, self._tell, self._poke, turn=0.1,
        )  # fmt: skip
        self.service = DeployService(self.ground, self.state)
        self.desk = Desk(self.service)
        await self.service.start()
        self._task = asyncio.create_task(self.service.run())

    def silent(self, name: str) -> bool:
        """By the link, as the appliance knows it."""
        return self.links.link(name).reach in {"unreachable", "off"}

    async def _tell(self, event: str, severity: Severity, facts: dict[str, object]) -> None:
        del severity
        self.told.append((event, facts))

    def _poke(self) -> None:
        self.service.poke()

    async def restart(self) -> None:
        """As the supervisor does it: the service alone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.service.stop()
        await self.service.start()
        self._task = asyncio.create_task(self.service.run())

    async def crash(self) -> None:
        """As kill -9: nothing is told to anybody; HAProxy and the replicas go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for keeper in self.service.keepers.values():
            await keeper._let_go()
        for task in self.service._tasks.values():
            task.cancel()
        await asyncio.gather(*self.service._tasks.values(), return_exceptions=True)
        await self.links.close()
        await self.ground.probes.close()
        self.store.close()
        self.left.append(self.traffic.balancer)  # else its process would be ended with the object

    async def stop(self) -> None:
        """End it with all programs that it started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.service.stop()
        await self.links.close()
        self.store.close()

    # -- what tests ask

    def spec(self, version: str, strategy: str = "rolling", *, replicas: int = 2, front: bool = True, **other: Any) -> str:
        """A specification."""
        if not self.first:
            self.first = free_range()
        listen = f"[front]\nlisten = {self.listen}\n" if front else ""
        values = {
            "name": "web", "soak": 0.6, "deadline": 60, "timeout": 4, "replace": 1.0, "restart": 1.0, "more": "",
            "python": sys.executable,
            "server": HERE / "server.py", "folder": self.moods, "first": self.first,
        } | other  # fmt: skip
        return SPEC.format(version=version, strategy=strategy, replicas=replicas, front=listen, **values)

    def mood(self, version: str, mood: str) -> None:
        """How a version is from now on."""
        (self.moods / f"{version}.mood").write_text(mood)

    @property
    def keeper(self) -> Keeper:
        """Of the only service."""
        return self.service.keepers["web"]

    def web(self) -> Deployed:
        """The only service as screens see it."""
        return next(each for each in self.service.status().services if each.name == "web")

    async def ended(self, timeout: float = 60.0) -> Rollout:
        """The newest rollout, when it has ended."""
        await wait_for(
            lambda: self.keeper.last is not None and self.keeper.last.stage in ENDED, timeout, "the rollout ends", every=0.05
        )
        assert self.keeper.last is not None
        return self.keeper.last

    async def deployed(self, document: str, timeout: float = 60.0) -> Rollout:
        """Deploy, and wait for the end."""
        assert await self.desk.apply(document, "alice") is not None
        return await self.ended(timeout)

    def versions(self) -> Counter[str]:
        """Healthy replicas by version."""
        rows = self.web().replicas
        return Counter(row.replica.label for row in rows if row.fitness == "healthy" and row.replica.state == "running")


def free_range() -> int:
    """First of 40 ports on which nothing listens, below those that connections are given by themselves."""
    for first in random.sample(range(20_000, 30_000, 50), 50):
        with ExitStack() as held:
            try:
                for port in range(first, first + 40):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no 40 free ports in a row")


def make_base() -> Path:
    """A folder with a short name: sockets lie in it."""
    return Path(tempfile.mkdtemp(prefix="dp-"))


def needs() -> None:
    """Skip where there can be no nodes."""
    capability(os.geteuid() == 0, "root, for mount namespaces")
    needs_program("haproxy")
    needs_program("unshare")


__all__ = ["LONG", "Load", "NodeRig", "Rig", "make_base", "needs"]
