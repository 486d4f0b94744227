"""Files to and from nodes: one real sshd, whose files are this machine's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.core.fleet.files.places import Places
from appliance.core.fleet.files.progress import Meter
from appliance.core.fleet.files.service import FleetFiles
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import Node
from appliance.core.secrets import Secrets
from appliance.errors import NotFoundError
from tests.servers.sshd import SshServer


@contextmanager
def quiet_server(own: OwnKey) -> Iterator[SshServer]:
    """An sshd whose logins have an empty home: no start-up file of this machine runs, and nothing is written into it."""
    directory = Path(tempfile.mkdtemp(prefix="sshd-"))
    home = directory / "home"
    home.mkdir()
    try:
        with SshServer(directory, own.public() + "\n") as made:
            yield made
    finally:
        shutil.rmtree(directory)


class Machines:
    """An inventory of given machines (implements model.Inventory)."""

    def __init__(self, *nodes: Node) -> None:
        self._nodes = {node.name: node for node in nodes}

    def add(self, node: Node) -> None:
        self._nodes[node.name] = node

    def all(self) -> tuple[Node, ...]:
        return tuple(self._nodes.values())

    def get(self, name: str) -> Node:
        if name not in self._nodes:
            raise NotFoundError(f"There is no node {name}.", "name one of the inventory.")
        return self._nodes[name]

    def select(self, selector: Sequence[str]) -> tuple[Node, ...]:
        return self.all() if list(selector) == ["all"] else tuple(self.get(name) for name in selector)

    def groups(self) -> Mapping[str, tuple[str, ...]]:
        return {}


@dataclass
class Rig:
    """Two folders, "here" of the Control PC and "there" of the nodes."""

    files: FleetFiles
    links: Links
    machines: Machines
    here: Path
    there: Path
    reports: list[tuple[float | None, str]]

    def meter(self) -> Meter:
        return Meter(lambda *told: self.reports.append(told))


def node_of(server: Any, name: str = "agent", **other: Any) -> Node:
    """A node that is reached through this sshd."""
    given = {"host": "127.0.0.1", "port": server.port, "user": server.user, "host_key": server.fingerprint, **other}
    return Node(name=name, **given)


@asynccontextmanager
async def rig(tmp_path: Path, own: OwnKey, *nodes: Node) -> AsyncIterator[Rig]:
    """Links to these nodes, and folders."""
    machines = Machines(*nodes)
    links = Links(machines, own, Secrets(tmp_path / "passwords", {}))
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    places = Places(tmp_path / "data", tmp_path / "data" / "files")
    made = Rig(FleetFiles(links, places, rest=0.05), links, machines, here, there, [])
    try:
        yield made
    finally:
        await links.close()
