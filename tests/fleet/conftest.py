"""A machine that is reached over SSH: this one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.link import Access, SshShell
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
def shell(server: SshServer, own: OwnKey) -> SshShell:
    return SshShell({"agent": reach(server)}, own)


def reach(server: SshServer, **other: object) -> Access:
    """How it is reached, but for what is given otherwise."""
    known: dict[str, object] = {"port": server.port, "user": server.user, "host_key": server.fingerprint}
    return Access("127.0.0.1", **{**known, **other})  # type: ignore[arg-type]
