"""A terminal that comes before the appliance takes any: it waits, says so, and loses nothing to a loop that stands still."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import paths
from appliance.lock import Lock
from appliance.session import attach as server_side
from appliance.session.ui import UiThread
from tests.session.rig import Rig
from tests.session.test_attach import Pty, make, pty  # noqa: F401 a fixture
from tests.support import wait_for


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[Lock]:
    """Of an appliance that is starting."""
    found = Lock(paths.find({"PRIME_SPARK_HOME": str(tmp_path)}).lock)
    assert found.take()
    yield found
    found.release()


async def waiting(terminal: Pty, home: Path) -> asyncio.subprocess.Process:
    """A client that said that it waits."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "appliance", "attach", stdin=terminal.slave, stdout=terminal.slave,
        stderr=asyncio.subprocess.PIPE, start_new_session=True, env={**os.environ, "PRIME_SPARK_HOME": str(home)},
    )  # fmt: skip
    assert process.stderr is not None
    told = (await process.stderr.readline()).decode()
    assert f"(process {os.getpid()}) takes no terminal yet" in told
    return process


async def test_it_waits_until_the_appliance_takes_terminals(
    ui: UiThread,
    rig: Rig,
    tmp_path: Path,
    lock: Lock,
    pty: Pty,  # noqa: F811
) -> None:
    process = await waiting(pty, tmp_path)
    place = paths.find({"PRIME_SPARK_HOME": str(tmp_path)}).console_socket
    place.parent.mkdir(parents=True, exist_ok=True)
    service = make(ui, rig, place)
    await service.start()
    await wait_for(lambda: pty.shows("ready"))
    pty.press(b"\x11")
    assert await process.wait() == 0
    await service.stop()


async def test_it_ends_with_the_appliance_or_its_reader(tmp_path: Path, lock: Lock, pty: Pty) -> None:  # noqa: F811
    process = await waiting(pty, tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    assert (process.returncode, b"it took no terminal" in said) == (130, True)
    process = await waiting(pty, tmp_path)
    lock.release()
    _, said = await process.communicate()
    assert (process.returncode, b"no appliance runs here" in said) == (3, True)


async def test_a_loop_that_stood_still_takes_what_came_meanwhile(monkeypatch: pytest.MonkeyPatch, pty: Pty) -> None:  # noqa: F811
    monkeypatch.setattr(server_side, "HELLO_TIME", 0.01)
    ours, client = socket.socketpair()
    with ours, client:
        task = asyncio.create_task(server_side.receive_terminal(ours))
        await asyncio.sleep(0)  # it waits
        socket.send_fds(client, [b'{"environ": {}}\n'], [pty.slave, pty.slave])
        threading.Event().wait(0.1)  # as a slow machine's loop that loads modules
        hello, descriptors = await task
        assert hello.environ == {}
        for each in descriptors:
            os.close(each)
