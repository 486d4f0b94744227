"""The lab's keeper: one process, in a mount namespace of its own, that has all nodes as its children. When it ends, however it
ends, everything of the lab ends with it: the kernel kills the nodes, and namespaces, mounts and files in memory go with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.lab import base, box, boxed, furniture, units, wake
from tests.lab.furniture import Keys
from tests.lab.node import CHECKOUT, LabNode, NodeError, python_home
from tests.lab.plan import HUB, Plan, added, chosen
from tests.lab.wires import WireError, Wires
from tests.servers.netns import Net

log = logging.getLogger("lab")
PR_SET_PDEATHSIG = 1
Command = Callable[[dict[str, Any]], Awaitable[Any]]


class Keeper:
    """Everything of one lab.

    Args:
        directory: The lab's.
        options: As `lab up` was called.
    """

    def __init__(self, directory: Path, options: dict[str, Any]) -> None:
        self.directory, self.options = directory, options
        self.memory = directory / "box"
        self.nodes: dict[str, LabNode] = {}
        self.over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Make the networks and start the nodes."""
        Path("/run/netns").mkdir(mode=0o755, exist_ok=True)  # where no namespace was ever named it is not there yet
        box.mount("tmpfs", "/run/netns", "tmpfs", box.MS_NOSUID, "mode=0755")
        box.mount("tmpfs", self.memory, "tmpfs", 0, "mode=0755")
        base.make(self.memory / "base")
        self.keys = Keys(self.directory)
        self.net = Net()
        self.wires = Wires(self.net)
        plans = chosen(self.options["nodes"], self.options["containers"])
        for plan in plans:
            self._make(plan)
        furniture.tunnels([node for node in self.nodes.values() if node.plan.vpn], self.memory)
        if self.options["full"]:
            for node in self.nodes.values():
                furniture.servers(node)
        for switch in self.wires.switches.values():
            wake.listen(switch.host.within(wake.listener), self._woken)
        await self._start_all()
        if HUB.name in self.nodes:
            furniture.home(self.directory, [node.told() for node in self.nodes.values()], self.options)

    async def _start_all(self) -> None:
        if HUB.name in self.nodes:
            await self.nodes[HUB.name].start()  # first: a spoke that calls a hub which is not there tries again after 5 s
        await asyncio.gather(*(node.start() for node in self.nodes.values()))

    def _make(self, plan: Plan, *, trusted: bool = True) -> LabNode:
        self.wires.add(plan)
        binds: list[tuple[str, str, bool]] = []
        if plan.checkout:
            (self.directory / "home").mkdir(exist_ok=True, mode=0o700)
            binds = [(str(self.directory / "home"), furniture.HOME, True), (python_home(), python_home(), False)]
            if base.is_hidden(CHECKOUT):
                binds.append((str(CHECKOUT), str(CHECKOUT), False))
        if plan.containers:
            store = self.memory / "containers" / plan.name
            store.mkdir(parents=True, mode=0o700)
            binds.append((str(store), "/var/lib/containers", True))
        if self.options["full"]:
            binds += [each for name in plan.services for each in units.binds(name)]
        folder = self.memory / "nodes" / plan.name
        node = LabNode(plan, folder, self.directory / f"{plan.name}.log", self.wires, self.memory / "base", binds)
        private, public, node.fingerprint = furniture.host_key()
        let_in = [self.keys.owner, *([self.keys.appliance] if trusted else [])]
        plans = [plan, *(each.plan for each in self.nodes.values())]
        base.furnish(node.top, plan, private, public, let_in, furniture.hosts(plans))
        if plan.checkout:
            furniture.appliance(node)
        if plan.containers:
            boxed.furnish(node)
        self.nodes[plan.name] = node
        return node

    def _woken(self, card: str) -> None:
        for node in self.nodes.values():
            if node.plan.mac == card and node.state == "off":
                log.info("%s was woken", node.plan.name)
                task = asyncio.create_task(self._start(node))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _start(node: LabNode) -> None:
        try:
            await node.start()
        except NodeError:
            log.exception("it did not start")

    def node(self, name: str) -> LabNode:
        """A node by its name. Raises WireError."""
        if name not in self.nodes:
            raise WireError(f"there is no node {name}; next: choose from {', '.join(self.nodes)}")
        return self.nodes[name]

    async def do_status(self, asked: dict[str, Any]) -> Any:
        """What there is."""
        return {
            "nodes": [node.told() for node in self.nodes.values()], "cuts": sorted(self.wires.cuts), "keeper": os.getpid(),
            "slow": [[*pair, told] for pair, told in sorted(self.wires.slow.items())], "options": self.options,
            "directory": str(self.directory),
        }  # fmt: skip

    async def do_cut(self, asked: dict[str, Any]) -> Any:
        """Let nothing pass between two nodes."""
        self.wires.cut(asked["first"], asked["second"])

    async def do_heal(self, asked: dict[str, Any]) -> Any:
        """End cuts and slowness."""
        self.wires.heal(asked["first"], asked["second"])

    async def do_slow(self, asked: dict[str, Any]) -> Any:
        """Let little pass between two nodes."""
        self.wires.slow_down(asked["first"], asked["second"], asked["rate"], asked["delay"])

    async def do_kill(self, asked: dict[str, Any]) -> Any:
        """A power cut."""
        await self.node(asked["node"]).kill()

    async def do_start(self, asked: dict[str, Any]) -> Any:
        """Switch a node on."""
        await self.node(asked["node"]).start()

    async def do_ended(self, asked: dict[str, Any]) -> Any:
        """Wait until a node that was told to go down is down."""
        await self.node(asked["node"]).ended()

    async def do_add(self, asked: dict[str, Any]) -> Any:
        """An empty node."""
        name = asked["node"]
        if name in self.nodes or name in self.wires.plans:
            raise WireError(f"there is a node {name} already; next: take another name")
        plan = added(name, {node.plan.number for node in self.nodes.values()}, containers=asked["containers"])
        node = self._make(plan, trusted=asked["trusted"])
        await node.start()
        return node.told()

    async def do_down(self, asked: dict[str, Any]) -> Any:
        """End the lab."""
        self.over.set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question of the command line."""
        with contextlib.suppress(ConnectionError):
            asked = json.loads(await reader.readline())
            command: Command = getattr(self, f"do_{asked['do']}")
            try:
                reply = {"result": await command(asked)}
            except (WireError, NodeError, AssertionError) as error:
                reply = {"error": str(error)}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def close(self) -> None:
        """Cut the power of all; the rest goes with this process."""
        await asyncio.gather(*(node.kill() for node in self.nodes.values()))


async def keep(directory: Path, options: dict[str, Any]) -> None:
    """Be the keeper until `lab down`."""
    keeper = Keeper(directory, options)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, keeper.over.set)
    await keeper.open()
    server = await asyncio.start_unix_server(keeper.answer, directory / "keeper.sock", limit=1 << 20)
    log.info("the lab is up: %s; checkout %s", ", ".join(keeper.nodes), CHECKOUT)
    await keeper.over.wait()
    server.close()
    await keeper.close()


def bind_to(parent: int) -> None:
    """Have the kernel end this process with the thread that started it (a test run's main one), however that ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL):
        raise SystemExit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        raise SystemExit("the process that started the lab is gone")


def main() -> None:
    """Started by `lab up`, with the lab's lock as an open file: it is held as long as this process lives."""
    directory, held, options = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.set_inheritable(held, False)
    if options["bound"]:
        bind_to(options["bound"])
    asyncio.run(keep(directory, options))


if __name__ == "__main__":
    main()
