"""Nodes that are folders of this machine: commands run in them as real processes. Their links can be cut, and made to hang."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from appliance.core.fleet.model import LinkStatus, Node, Output, RemoteFiles, Selector, Terminal
from appliance.errors import NotFoundError, ShellError, UnreachableError


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class Fleet:
    """An inventory and a shell of such nodes.

    Args:
        root: Folder of the nodes' folders.
        nodes: Their entries.
        path: In front of the PATH of their commands: stand-ins.
    """

    def __init__(self, root: Path, nodes: Sequence[Node], path: str = "") -> None:
        self.root = root
        self._nodes = {node.name: node for node in nodes}
        self._path = f"{path}:/usr/bin:/bin" if path else "/usr/bin:/bin"
        self.dead: set[str] = set()
        self.running: dict[str, asyncio.subprocess.Process] = {}
        for name in self._nodes:
            (root / name).mkdir(parents=True, exist_ok=True)

    def put(self, node: Node) -> None:
        self._nodes[node.name] = node

    def nodes(self) -> Sequence[str]:
        return tuple(self._nodes)

    def all(self) -> tuple[Node, ...]:
        return tuple(self._nodes.values())

    def get(self, name: str) -> Node:
        if name not in self._nodes:
            raise NotFoundError(f"There is no machine {name}.")
        return self._nodes[name]

    node = get

    def select(self, selector: Selector) -> tuple[Node, ...]:
        return self.all() if "all" in selector else tuple(self.get(name) for name in selector)

    def groups(self) -> Mapping[str, tuple[str, ...]]:
        return {}

    def link(self, node: str) -> LinkStatus:
        self.get(node)
        return LinkStatus()

    def due(self, node: str) -> bool:
        self.get(node)
        return True

    def off(self, node: str, reason: str) -> None:
        self.get(node)

    def cut(self, node: str) -> None:
        """The link breaks: a command that runs there is lost sight of, and the next one does not get there."""
        self.dead.add(node)
        if process := self.running.get(node):
            os.killpg(process.pid, signal.SIGKILL)

    async def run(
        self, node: str, command: Sequence[str], *, stdin: bytes = b"", limit: float = 30.0, sudo: bool = False
    ) -> Ran:
        said: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        status = await self.stream(
            node, command, lambda name, data: said[name].extend(data), stdin=stdin, limit=limit, sudo=sudo
        )
        return Ran(status, bytes(said["stdout"]), bytes(said["stderr"]))

    async def stream(
        self, node: str, command: Sequence[str], output: Output, *, stdin: bytes = b"", limit: float | None = None,
        sudo: bool = False, most: int | None = None,
    ) -> int:  # fmt: skip
        if node in self.dead:
            raise UnreachableError(f"{node} does not answer.")
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.root / node, stdin=-1, stdout=-1, stderr=-1, start_new_session=True,
            env={"PATH": self._path, "NODE": str(self.root / node), "HOME": str(self.root / node)},
        )  # fmt: skip
        self.running[node] = process
        try:
            async with asyncio.timeout(limit):
                status = await _follow(process, output, stdin)
        except TimeoutError:
            raise ShellError(f"{node} did not end it within {limit:g} s.") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if node in self.dead:
            raise ShellError(f"{node} was cut off in the middle of the command; it may have run.")
        return status

    async def terminal(self, node: str, term: str, columns: int, rows: int, command: str = "") -> Terminal:
        raise NotImplementedError

    def files(self, node: str) -> AbstractAsyncContextManager[RemoteFiles]:
        raise NotImplementedError


async def _follow(process: asyncio.subprocess.Process, output: Output, stdin: bytes) -> int:
    async def pump(name: str, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (data := await stream.read(65536)):
            output(name, data)

    if process.stdin is not None:
        process.stdin.write(stdin)
        process.stdin.close()
    await asyncio.gather(pump("stdout", process.stdout), pump("stderr", process.stderr))
    return await process.wait()


def journal(fleet: Fleet) -> list[str]:
    """What was done on all nodes, in its order."""
    path = fleet.root / "journal"
    return path.read_text().splitlines() if path.exists() else []


def values(fleet: Fleet) -> dict[str, str]:
    """What each node's value is now."""
    return {path.parent.name: path.read_text().strip() for path in sorted(fleet.root.glob("*/value"))}
