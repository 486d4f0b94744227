"""A lab as its users have it: started, asked and ended; several side by side, by name."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from appliance.verbs.client import SocketClient
from tests.lab import boxed, cgroups
from tests.lab.box import FOR_CONTAINERS, GIVEN_UP
from tests.lab.node import cgroup_prefix
from tests.lab.plan import chosen
from tests.servers.netns import enter_path

CHECKOUT = Path(__file__).resolve().parents[2]
APPLIANCE = ".venv/bin/prime-spark"
STARTS = 120.0
FRESH = 30.0
"""Seconds in which a lab that is being started has its lock."""
NEEDED = ("unshare", "nsenter", "setpriv", "ip", "nft", "tc", "sshd", "wg", "wg-quick", "wireguard-go")
SBIN = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class LabError(Exception):
    """What happened, and the next step."""


def parent() -> Path:
    """Where the labs of this user lie."""
    return Path(tempfile.gettempdir()) / f"prime-spark-lab-{os.geteuid()}"


def missing() -> str:
    """Why there can be no lab here, and the next step; empty where there can."""
    if os.geteuid() != 0:
        return "The lab needs root for its namespaces and mounts; next: sudo make lab."
    gone = [name for name in NEEDED if shutil.which(name, path=SBIN) is None]
    if gone:
        return f"The lab needs {', '.join(gone)}; next: make setup."
    if not Path("/dev/net/tun").exists():
        return "The lab needs /dev/net/tun for its tunnels; next: modprobe tun."
    return ""


class Lab:
    """One lab.

    Args:
        name: Of it.
        directory: Where its files lie; by its name where it is None.
    """

    def __init__(self, name: str = "lab", directory: Path | None = None) -> None:
        self.name = name
        self.directory = directory or parent() / name
        self._client: SocketClient | None = None

    @property
    def home(self) -> Path:
        """The appliance's home in control-pc (there: /srv/prime-spark)."""
        return self.directory / "home"

    @property
    def key(self) -> Path:
        """The owner's private key, let in everywhere."""
        return self.directory / "id_ed25519"

    @property
    def running(self) -> bool:
        """Whether its keeper lives."""
        with contextlib.suppress(FileNotFoundError), (self.directory / "lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def up(self, *, full: bool = False, nodes: str = "", containers: str = "", pace: float = 0.0, bound: bool = False) -> bool:
        """Start it; whether it had to be. Raises LabError.

        Args:
            full: With the heavy servers.
            nodes: Names, separated by commas; empty for all.
            containers: Those of them that may run containers.
            pace: Seconds between the appliance's looks at a node; 0 for its own default.
            bound: End it with the process that starts it, however that ends.
        """
        if reason := missing():
            raise LabError(reason)
        try:
            chosen(nodes, containers)
        except ValueError as error:
            raise LabError(f"{error}.") from error
        if containers:
            self._can_contain()
        if self.running:
            self._wait()
            return False
        sweep(self.directory)
        self.directory.mkdir(parents=True, mode=0o700)
        options = {"full": full, "nodes": nodes, "containers": containers, "pace": pace, "bound": os.getpid() if bound else 0}
        with (self.directory / "lock").open("wb") as lock, (self.directory / "keeper.log").open("wb") as log:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # from now on it is the keeper's too
            (self.directory / "box").mkdir()
            keeper = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.lab.keeper",
                 str(self.directory),
                 str(lock.fileno()), json.dumps(options)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=CHECKOUT, start_new_session=True,
                pass_fds=[lock.fileno()],
            )  # fmt: skip
            self._wait(keeper)
        return True

    @staticmethod
    def _can_contain() -> None:
        if gone := boxed.missing():
            raise LabError(f"Containers need {gone}; next: make setup.")

    def _wait(self, keeper: subprocess.Popen[bytes] | None = None) -> None:
        ends = time.monotonic() + STARTS
        while not (self.directory / "keeper.sock").exists():
            if (keeper is not None and keeper.poll() is not None) or not (keeper or self.running):
                said = (self.directory / "keeper.log").read_text(errors="replace")[-3000:]
                raise LabError(f"The lab did not start; its log ends with:\n{said}")
            if time.monotonic() > ends:
                self.down()
                raise LabError(f"The lab did not start within {STARTS:g} s; next: see {self.directory}/keeper.log.")
            time.sleep(0.02)

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have the keeper do something. Raises LabError."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(STARTS)
            try:
                link.connect(str(self.directory / "keeper.sock"))
                link.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
                with link.makefile("rb") as stream:
                    reply = json.loads(stream.readline() or b'{"error": "the keeper ended"}')
            except OSError as error:
                raise LabError(f"No lab {self.name} runs here ({error.strerror}); next: make lab.") from error
        if "error" in reply:
            raise LabError(str(reply["error"]))
        return reply["result"]

    def status(self) -> dict[str, Any]:
        """What there is. Raises LabError."""
        return dict(self.ask("status"))

    def node(self, name: str) -> dict[str, Any]:
        """One node's part of it. Raises LabError."""
        nodes = {node["name"]: node for node in self.status()["nodes"]}
        if name not in nodes:
            raise LabError(f"There is no node {name}; next: choose from {', '.join(nodes)}.")
        return dict(nodes[name])

    def cut(self, first: str, second: str) -> None:
        """Let nothing pass between two nodes, and tell nobody."""
        self.ask("cut", first=first, second=second)

    def heal(self, first: str = "", second: str = "") -> None:
        """End cuts and slowness, all of them or those between two nodes."""
        self.ask("heal", first=first, second=second)

    def slow(self, first: str, second: str, *, rate: int = 0, delay: int = 0) -> None:
        """Let only `rate` kbit/s pass between two nodes, `delay` ms later."""
        self.ask("slow", first=first, second=second, rate=rate, delay=delay)

    def kill(self, name: str) -> None:
        """Cut a node's power."""
        self.ask("kill", node=name)

    def power_off(self, name: str) -> None:
        """Have a node shut down; returns when it is off."""
        self.exec(name, "poweroff")
        self.ask("ended", node=name)

    def start(self, name: str) -> None:
        """Switch a node on."""
        self.ask("start", node=name)

    def add(self, name: str, *, trusted: bool = False, containers: bool = False) -> dict[str, Any]:
        """A new, empty node: an SSH server that lets the owner in (trusted: the appliance too)."""
        if containers:
            self._can_contain()
        return dict(self.ask("add", node=name, trusted=trusted, containers=containers))

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """The command line that runs a command in a node, with the rights that root has there. Raises LabError."""
        node = self.node(name)
        if not node["pid"]:
            raise LabError(f"{name} is off; next: lab start {name}.")
        terminal = os.environ.get("TERM", "linux")
        dropped = GIVEN_UP if node["containers"] else GIVEN_UP | FOR_CONTAINERS
        return [
            "nsenter", f"--target={node['pid']}", "--all", "--root", "--wdns=/root", "env", "-i", f"TERM={terminal}",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8",
            *(["PRIME_SPARK_HOME=/srv/prime-spark"] if name == "control-pc" else []),
            "setpriv", "--bounding-set=" + ",".join(f"-{each}" for each in dropped), "--inh-caps=-all", "--", *command,
        ]  # fmt: skip

    def exec(self, name: str, *command: str, check: bool = True, text: str | None = None, limit: float = 60.0) -> str:
        """What a command says that runs in a node. Raises LabError where it fails."""
        done = subprocess.run(
            self.inside(name, command), input=text, capture_output=True, text=True, timeout=limit, check=False
        )  # fmt: skip
        if check and done.returncode:
            raise LabError(f"{' '.join(command)} on {name}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def appliance(self) -> None:
        """Start the appliance in control-pc where it does not run; it takes the tunnel over with all peers. Raises LabError."""
        hub = "control-pc"
        if self.exec(hub, "systemctl", "is-active", "prime-spark", check=False).strip() == "active":
            return
        self.exec(hub, "systemctl", "disable", "--now", "wg-quick@wg0")
        self.exec(hub, "systemctl", "start", "prime-spark")
        self._answers()
        if not (self.home / "tunnel-taken-over").exists():
            self._take_over()
            (self.home / "tunnel-taken-over").touch(mode=0o600)

    def _take_over(self) -> None:
        """The hub's peers become the appliance's, each with its node; a spoke would try its old session for 40 s."""
        text = self.exec("control-pc", "cat", "/etc/wireguard/wg0.conf")
        again: list[str] = []
        self.invoke("vpn.import", {"file": base64.b64encode(text.encode()).decode()}, confirm=True)
        for node in self.status()["nodes"]:
            if node["vpn_address"] and node["name"] != "control-pc":
                self.invoke("vpn.peer-change", {"name": node["name"], "node": node["name"]})
                if node["pid"]:
                    again.append(node["name"])
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: self.exec(name, "systemctl", "restart", "wg-quick@wg0"), again))

    def invoke(self, action: str, arguments: dict[str, Any] | None = None, *, confirm: bool = False) -> Any:
        """Have the appliance in control-pc carry an action out. Raises ApplianceError."""
        if self._client is None:
            self._client = SocketClient(self.home / "run/api.sock")
        return self._client.invoke(action, arguments or {}, confirm=confirm)

    def _answers(self) -> None:
        ends = time.monotonic() + STARTS
        while True:
            with contextlib.suppress(LabError):
                self.spark("status")
                return
            if (
                time.monotonic() > ends
                or self.exec("control-pc", "systemctl", "is-failed", "prime-spark", check=False) == "failed\n"
            ):
                said = self.exec("control-pc", "journalctl", "-u", "prime-spark", "-n", "30", "--no-pager", check=False)
                raise LabError(f"The appliance does not answer in control-pc; its log ends with:\n{said}")
            time.sleep(0.1)

    def cli(self, *words: str) -> list[str]:
        """The command line that runs the appliance's command line in control-pc. Raises LabError."""
        return self.inside("control-pc", [str(CHECKOUT / APPLIANCE), *words])

    def spark(self, *words: str, limit: float = 60.0) -> str:
        """What the appliance's command line says in control-pc. Raises LabError where it fails."""
        return self.exec("control-pc", str(CHECKOUT / APPLIANCE), *words, limit=limit)

    @contextlib.contextmanager
    def network_of(self, name: str) -> Iterator[None]:
        """Sockets that the calling thread makes meanwhile are that node's (also those of threads that it starts)."""
        with open("/proc/thread-self/ns/net", "rb") as own:
            enter_path(Path(f"/proc/{self.node(name)['pid']}/ns/net"))
            try:
                yield
            finally:
                enter_path(Path(f"/proc/self/fd/{own.fileno()}"))

    def down(self) -> None:
        """End it, and remove its files."""
        if self.running:
            with contextlib.suppress(LabError):  # it may be about to end by itself
                self.ask("down")
            ends = time.monotonic() + 20
            while self.running and time.monotonic() < ends:
                time.sleep(0.02)
            if self.running:
                self._kill_keeper()
        sweep(self.directory)

    def _kill_keeper(self) -> None:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                if b"tests.lab.keeper" in words and str(self.directory).encode() in words:
                    os.kill(int(entry.name), signal.SIGKILL)


def sweep(directory: Path) -> None:
    """Remove what a lab left that does not run any more: files only, all else went with its keeper."""
    if directory.exists():
        cgroups.remove(cgroup_prefix(directory))
        shutil.rmtree(directory)


def fresh(directory: Path) -> bool:
    """Whether somebody is just about to start a lab there."""
    with contextlib.suppress(FileNotFoundError):
        return not (directory / "lock").exists() and time.time() - directory.stat().st_mtime < FRESH
    return False


def sweep_all() -> list[str]:
    """Remove all such leftovers; the names of the labs."""
    stale = (
        [entry for entry in parent().glob("*") if entry.is_dir() and not fresh(entry) and not Lab(entry.name).running]
        if parent().exists()
        else []
    )
    for entry in stale:
        sweep(entry)
    return [entry.name for entry in stale]
