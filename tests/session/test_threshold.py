"""The SSH port before anybody came: open, and nothing behind it is loaded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from appliance.core.auth import Accounts
from appliance.core.model import Health
from appliance.errors import StoreError
from appliance.session.ssh import SshService
from appliance.session.ui import UiThread
from tests.session.rig import Rig, connect, listen_on, make_service

STARTED = """
import asyncio, os, sys
from appliance import config, launch, paths
from appliance.core.logs import LogRing
from appliance.runtime import Appliance
from appliance.session.ui import UiThread

async def main():
    where, ui = paths.find(), UiThread()
    where.make()
    ui.start()
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    fronts = launch._fronts(appliance, ui, launch._make_sessions(appliance, ui, launch.Owners()))
    appliance.start(fronts)
    async with asyncio.timeout(60):
        await appliance.supervisor.settled()
    ssh = next(each for each in fronts if each.name == "ssh")
    print(*sorted(sys.modules))
    reader, writer = await asyncio.open_connection("127.0.0.1", ssh.port)
    async with asyncio.timeout(60):
        print((await reader.readline()).decode().strip(), "asyncssh" in sys.modules)
    writer.close()
    await appliance.stop()
    await asyncio.to_thread(ui.stop)

asyncio.run(main())
"""
ONLY_WHEN_USED = {
    "PIL", "aiokafka", "asyncpg", "asyncssh", "av", "confluent_kafka", "cryptography.hazmat", "cv2", "evdev", "gpiozero",
    "minio", "numpy", "onnxruntime", "pyarrow", "pyroute2", "quixstreams", "segno", "simplejpeg", "sounddevice", "soxr",
    "tomlkit",
}  # fmt: skip
"""What an appliance with nothing configured has not loaded when all of its services are up."""


def test_what_nobody_asked_for_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[ssh]\nport = 0\n")
    command = [sys.executable, "-c", STARTED]
    environ = {**os.environ, "PRIME_SPARK_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    loaded, greeting = done.stdout.splitlines()
    assert {"asyncio", "duckdb"} <= set(loaded.split()), "the services did not start: the rest of this would prove nothing"
    assert ONLY_WHEN_USED & set(loaded.split()) == set()
    assert greeting == "SSH-2.0-PrimeSpark True"


@pytest.fixture
def service(ui: UiThread, rig: Rig, accounts: Accounts, tmp_path: Path) -> SshService:
    """A server that was not started."""
    return make_service(ui, rig, accounts, listen_on(tmp_path))


async def test_all_who_come_before_it_is_loaded_are_let_in(service: SshService) -> None:
    await service.start()
    assert (await service.health()).health is Health.healthy
    connections = await asyncio.gather(*(connect(service) for _ in range(5)))
    assert len(service.keeper.connections) == 5
    for each in connections:
        each.close()
    await service.stop()


async def test_a_port_that_nobody_came_to_is_closed_at_the_stop(service: SshService) -> None:
    await service.start()
    port = service.port
    await service.stop()
    await service.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await service.start()
    async with await connect(service) as conn:
        assert conn.get_server_host_key() is not None
    await service.stop()


@pytest.mark.parametrize("damage", ["", "not a key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r"])
async def test_a_key_that_is_none_is_told_at_the_start(service: SshService, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ssh" / "host_key"
    path.parent.mkdir()
    path.write_text(damage)
    with pytest.raises(StoreError, match="cannot be used"):
        await service.start()
    await service.stop()


async def test_a_key_that_only_looks_good_ends_the_service_when_it_is_read(service: SshService, tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "host_key"
    path.parent.mkdir()
    whole = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode().splitlines()
    path.write_text("\n".join([whole[0], *reversed(whole[1:-1]), whole[-1], ""]))
    await service.start()
    port, run = service.port, asyncio.create_task(service.run())
    with pytest.raises((asyncssh.Error, OSError)):
        await connect(service)
    with pytest.raises(StoreError, match="cannot be used"):
        await asyncio.wait_for(run, 30)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await service.stop()
    with pytest.raises(StoreError, match="cannot be used"):
        await service.start()  # once it was wrong it is proven before anybody comes
    path.unlink()
    await service.start()
    async with await connect(service) as conn:
        assert conn.get_server_host_key() is not None
    await service.stop()
