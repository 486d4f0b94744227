"""The whole VPN in namespaces: a hub with its database and service, and nodes that only have wireguard-tools."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from appliance.core.clock import SystemClock
from appliance.core.model import Severity
from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.core.vpn.book import PeerBook
from appliance.core.vpn.desk import Desk
from appliance.core.vpn.evidence import Examiner
from appliance.core.vpn.ladder import Pace
from appliance.core.vpn.nodes import Nodes
from appliance.core.vpn.otherside import OtherSide
from appliance.core.vpn.resolve import Resolver
from appliance.core.vpn.service import Ground, Rhythm, VpnService
from appliance.core.vpn.status import PeerState, PeerStatus
from appliance.core.vpn.wanted import Hub
from appliance.errors import ShellError, UnreachableError
from appliance.hw.wireguard.space import Space
from appliance.hw.wireguard.tunnel import WireGuardTunnel
from appliance.settingvpn import VpnSettings
from tests.servers.netns import Host, Net, Wire
from tests.support import wait_for

PORT = 51820
QUICK = Rhythm(look=0.1, providers=3600, pace=Pace(between=0.5, first=1, longest=2))


class Ran(NamedTuple):
    """Of ports.Ran."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class NamespaceShell:
    """A RemoteShell whose nodes are namespaces; links can be cut before, or in the middle of a command."""

    def __init__(self, hosts: dict[str, Host]) -> None:
        self.hosts = hosts
        self.ran: list[tuple[str, tuple[str, ...], bytes]] = []
        self.unreachable: set[str] = set()
        self.cut_after: float | None = None
        """Seconds after which the caller loses a command, which runs on."""
        self.only_cut: str = ""
        """A word of the commands that are cut."""
        self.clock_ahead = 0.0
        self.left: list[asyncio.subprocess.Process] = []

    def nodes(self) -> Sequence[str]:
        return tuple(self.hosts)

    async def run(self, node: str, command: Sequence[str], *, stdin: bytes = b"", limit: float = 30.0) -> Ran:
        self.ran.append((node, tuple(command), stdin))
        if node in self.unreachable:
            raise UnreachableError(f"{node} does not answer.", "is it on?")
        script = [part.replace("date +%s", f"expr $(date +%s) + {int(self.clock_ahead)}") for part in command]
        environ = {**os.environ, "WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go"}
        process = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", self.hosts[node].namespace, *script, env=environ,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        cut = self.cut_after if self.only_cut in " ".join(command) else None
        work = asyncio.create_task(process.communicate(stdin))
        done, _ = await asyncio.wait({work}, timeout=cut if cut is not None else limit)
        if not done:
            self.left.append(process)
            raise ShellError(f"The connection to {node} was lost.", "look what became of it.")
        out, err = work.result()
        return Ran(process.returncode or 0, out, err)


class Bench:
    """A hub and its tools."""

    def __init__(self, host: Host, tmp_path: Path, shell: NamespaceShell | None = None, **more: Any) -> None:
        self.host, self.home, self.shell = host, tmp_path, shell
        self.interface = host.interface()
        options: dict[str, Any] = {
            "enabled": True,
            "interface": self.interface,
            "ping_seconds": 0,
            "reconcile_seconds": 3600,
            "providers": False,
        }
        self.rhythm: Rhythm = more.pop("rhythm", QUICK)
        self.clock: Clock = more.pop("clock", None) or SystemClock()
        self.resolver: Resolver = more.pop("resolver", None) or Resolver()
        self.settings = VpnSettings(**{**options, **more})
        self.noted: list[tuple[str, dict[str, Any]]] = []
        self.state = LiveState(self.clock)
        self.store = Store(tmp_path / "appliance.sqlite")
        self.secrets = Secrets(tmp_path / "secrets", {})
        self._make()

    def _make(self) -> None:
        self.book = PeerBook(self.store, self.secrets, self.clock, Hub.of(self.settings).addresses)
        self.service = VpnService(Ground(
            self.settings, self.book, self.state, self.clock, self._note, self._tunnel, self.resolver, self.rhythm,
            self.home / "no-mark",
        ))  # fmt: skip
        folder = self.home / "etc-wireguard"
        folder.mkdir(exist_ok=True, mode=0o700)
        self.nodes = Nodes(self.shell, self.interface, str(folder))
        self.folder = folder
        self.desk, self.other = Desk(self.service, self.nodes), OtherSide(self.service, self.nodes)
        self.examiner = Examiner(self.service, self.nodes, Space(self.host.namespace).run, watch=1.0)

    def _tunnel(self, name: str) -> WireGuardTunnel:
        return WireGuardTunnel(name, netns=self.host.namespace)

    async def _note(self, event: str, severity: Severity, attributes: dict[str, Any]) -> None:
        self.noted.append((event, {**attributes, "severity": severity.value}))

    def peer(self, name: str) -> PeerStatus:
        return next(peer for peer in self.service.status().peers if peer.name == name)

    async def connected(self, name: str, timeout: float = 20) -> PeerStatus:
        await wait_for(lambda: self.peer(name).state is PeerState.connected, timeout, f"{name} is {self.peer(name)}")
        return self.peer(name)

    def renew(self) -> None:
        """The same hub in a new life of the program."""
        self.state = LiveState(self.clock)
        self._make()

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """The service runs."""
        await asyncio.to_thread(self.store.open)
        run: asyncio.Task[None] | None = None
        try:
            await self.service.start()
            run = asyncio.create_task(self.service.run())
            yield
        finally:
            if run is not None:
                run.cancel()
                await asyncio.wait({run})
                if not run.cancelled() and run.exception() is not None:
                    raise run.exception()  # type: ignore[misc]
            await self.service.stop()
            await asyncio.to_thread(self.store.close)

    async def remove(self) -> None:
        await self._tunnel(self.interface).remove()


class Spoke:
    """A node that has nothing of ours: a file and wg-quick."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self.folder = host, folder
        self.interface = host.interface()
        self.file = folder / f"{self.interface}.conf"

    async def up(self, text: str) -> None:
        """As its operator would: put the file there, `wg-quick up`."""
        self.folder.mkdir(exist_ok=True, mode=0o700)
        self.file.write_text(text)
        self.file.chmod(0o600)
        await asyncio.to_thread(self.host.run, "wg-quick", "up", str(self.file))

    def show(self, what: str) -> str:
        return self.host.run("wg", "show", self.interface, what)


async def ping(host: Host, address: str, count: int = 3, interval: float = 0.02) -> int:
    """How many of so many echo requests were answered."""
    text = await asyncio.to_thread(
        lambda: host.run("ping", "-n", "-c", str(count), "-i", str(interval), "-W", "1", address, check=False)
    )
    return int(text.split(" received")[0].rsplit(" ", 1)[1])


def star(net: Net, count: int) -> tuple[Host, list[Host], list[Wire]]:
    """A hub and nodes on one network: the hub is 192.0.2.1."""
    hub, nodes = net.host("hub"), [net.host(f"n{number}") for number in range(count)]
    return hub, nodes, net.switch([hub, *nodes])


def now() -> float:
    return time.time()
