"""A hundred real sshd processes on loopback addresses; Ansible beside them; and a thousand nodes that are not there."""

from __future__ import annotations

import asyncio
import getpass
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Answer, Links
from appliance.core.fleet.model import LinkStatus, Node, Reach
from appliance.core.secrets import Secrets
from tests.fleet.record_golden import GOLDEN, MARK
from tests.servers.child import Child
from tests.support import free_port, wait_for_sync

SSHD = Path("/usr/sbin/sshd")
ANSIBLE = Path(sys.executable).with_name("ansible")
FORKS = 50


def missing() -> str:
    """Why nothing can be measured; empty where all is there."""
    if not SSHD.exists():
        return "there is no sshd: sudo apt-get install openssh-server"
    return "" if ANSIBLE.exists() else "there is no ansible: pip install -r requirements/dev.txt"


@dataclass
class Hosts:
    """The servers, and how they are reached.

    Attributes:
        nodes: As the inventory has them.
        own: The key that all let in.
        folder: Their files.
    """

    nodes: tuple[Node, ...]
    own: OwnKey
    folder: Path

    def links(self) -> Links:
        """Fresh links to all; nothing is connected yet."""
        return Links(FleetInventory(self.nodes), self.own)

    def ansible(self, module: str, *arguments: str, pipelining: bool = False) -> float:
        """Seconds that Ansible takes for a module on all hosts. Raises CalledProcessError."""
        inventory = self.folder / "hosts.ini"
        inventory.write_text("".join(
            f"{node.name} ansible_host={node.host} ansible_port={node.port} ansible_user={node.user}\n" for node in self.nodes
        ))  # fmt: skip
        key = self.folder / "key"
        if not key.exists():
            key.write_bytes(self.own.private())
            key.chmod(0o600)
        home = tempfile.mkdtemp(dir=self.folder)  # nothing that another run kept, no connection of another run
        environment = {
            "PATH": os.environ["PATH"], "HOME": home, "LANG": "C.UTF-8", "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_PIPELINING": str(pipelining), "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3", "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{home}/cp",
        }  # fmt: skip
        command = [
            str(ANSIBLE),
            "all",
            "-i",
            str(inventory),
            "-f",
            str(FORKS),
            "--private-key",
            str(key),
            "-m",
            module,
            *arguments,
        ]
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=1200)
        took = time.perf_counter() - began
        answered = len(re.findall(r"^\S+ \| (?:SUCCESS|CHANGED)", done.stdout, re.MULTILINE))
        assert answered == len(self.nodes), f"{answered} of {len(self.nodes)} answered Ansible"
        self._let_go(home)
        return took

    def _let_go(self, home: str) -> None:
        """End the connections that Ansible keeps for a minute, so that they cost nobody else anything."""
        for socket in Path(home, "cp").glob("*"):
            subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "any"], capture_output=True, check=False)


@contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    """So many sshd processes on 127.0.1.1 and on, each with its own host key."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-"))
    own, port, user = OwnKey(Secrets(folder / "secrets", {}), "bench"), free_port(), getpass.getuser()
    (folder / "authorized_keys").write_text(own.public() + "\n")
    children: list[Child] = []
    Path("/run/sshd").mkdir(exist_ok=True)
    try:
        nodes = []
        for number in range(1, count + 1):
            host = f"127.0.1.{number}"
            children.append(Child(folder / f"{number}.log"))
            fingerprint = _serve(children[-1], folder, host, port, number)
            nodes.append(Node(name=f"h{number:03}", host=host, port=port, user=user, host_key=fingerprint))
        wait_for_sync(lambda: all(child.running for child in children), 30)
        yield Hosts(tuple(nodes), own, folder)
    finally:
        for child in children:
            child.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _serve(child: Child, folder: Path, host: str, port: int, number: int) -> str:
    key, home = folder / f"key{number}", folder / f"home{number}"
    home.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    config = folder / f"{number}.conf"
    config.write_text(
        f"ListenAddress {host}\nPort {port}\nHostKey {key}\nPidFile none\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nSetEnv HOME={home}\n"
        "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    child.spawn([str(SSHD), "-D", "-e", "-f", str(config)], lambda: _listens(host, port))
    told = subprocess.run(["ssh-keygen", "-lf", key], check=True, capture_output=True, text=True)
    return told.stdout.split()[1]


def _listens(host: str, port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


class Simulated:
    """A transport without machines, for what the scheduler itself costs: each answers as a Raspberry Pi 5 would.

    Args:
        nodes: Which.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._chance = random.Random(7)
        texts = {kind: (GOLDEN / f"pi-os-pi5.{kind}.txt").read_bytes() for kind in ("metrics", "host")}
        self._texts = {b"mark files\ngrep -as . /proc/loadavg": texts["metrics"], b"": texts["host"]}
        self._began = time.monotonic()
        self.runs = 0

    def due(self, node: str) -> bool:
        """Always."""
        return node in self._nodes

    def link(self, node: str) -> LinkStatus:
        """Always up."""
        assert node in self._nodes
        return LinkStatus(Reach.up, since=self._began, answered=time.monotonic(), latency_ms=1.0)

    async def run(self, node: str, command: Sequence[str], *, stdin: bytes = b"", limit: float = 30.0, **_: Any) -> Answer:
        """An answer after a network's time."""
        assert node in self._nodes, (command, limit)
        await asyncio.sleep(self._chance.uniform(0.005, 0.05))
        self.runs += 1
        text = next(text for part, text in self._texts.items() if part in stdin[:600])
        uptime, ticks = 1000 + time.monotonic() - self._began, int(1e6 + 400 * (time.monotonic() - self._began))
        text = text.replace(MARK.encode(), stdin[2:26]).replace(b"354213.38", f"{uptime:.2f}".encode())
        load = self._chance.randint(0, 100)
        text = text.replace(b"4123456 1234", f"{ticks * load // 100} 1234".encode()).replace(b"138022110", str(ticks).encode())
        return Answer(0, text, b"")
