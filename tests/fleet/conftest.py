"""A machine that is reached over SSH: this one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance.core.catalog.fleet import Desk
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.link_login import Logins
from appliance.core.fleet.link_pace import Pace
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import Node
from appliance.core.fleet.sshconfig import SshFiles
from appliance.core.fleet.trust import Trust
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


@pytest.fixture
async def desk(server: SshServer, own: OwnKey, tmp_path: Path) -> AsyncIterator[Desk]:
    """What actions work on; the one machine of the configuration is this one."""
    made = desk_of(own, tmp_path, reach(server))
    yield made
    await made.links.close()


def desk_of(own: OwnKey, folder: Path, *configured: Node, known: SshFiles | None = None) -> Desk:
    """A desk whose inventory file is in this folder; the caller closes its links."""
    inventory = FleetInventory(configured, folder / "inventory.toml", known)
    inventory.load()
    secrets, logins = Secrets(folder / "secrets", {}), Logins(own, Pace())
    trust = Trust(inventory, logins, known.known if known else lambda _: ())
    logins.accepted = trust.accepted
    return Desk(inventory, Links(inventory, own, secrets, logins=logins), own, secrets, trust)


def links_to(own: OwnKey, *nodes: Node) -> Links:
    """Links to these machines; the caller closes them."""
    return Links(FleetInventory(nodes), own)


def reach(server: SshServer, name: str = "agent", **other: object) -> Node:
    """How it is reached, but for what is given otherwise."""
    known: dict[str, object] = {"host": "127.0.0.1", "port": server.port, "user": server.user, "host_key": server.fingerprint}
    return Node(name=name, **{**known, **other})  # type: ignore[arg-type]
