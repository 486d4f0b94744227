"""A machine that is reached over SSH: this one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import Node
from appliance.core.secrets import Secrets
from tests.servers.sshd import SshServer


@pytest.fixture
def own(tmp_path: Path) -> OwnKey:
    return OwnKey(Secrets(tmp_path / "secrets", {}), "prime-spark@test")


@pytest.fixture
def server(own: OwnKey) -> Iterator[SshServer]:
    directory = Path(tempfile.mkdtemp(prefix="sshd-"))
    try:
        with SshServer(directory, own.public() + "\n") as made:
            yield made
    finally:
        shutil.rmtree(directory)


@pytest.fixture
async def shell(server: SshServer, own: OwnKey) -> AsyncIterator[Links]:
    links = links_to(own, reach(server))
    yield links
    await links.close()


def links_to(own: OwnKey, *nodes: Node) -> Links:
    """Links to these machines; the caller closes them."""
    return Links(FleetInventory(nodes), own)


def reach(server: SshServer, name: str = "agent", **other: object) -> Node:
    """How it is reached, but for what is given otherwise."""
    known: dict[str, object] = {"host": "127.0.0.1", "port": server.port, "user": server.user, "host_key": server.fingerprint}
    return Node(name=name, **{**known, **other})  # type: ignore[arg-type]
