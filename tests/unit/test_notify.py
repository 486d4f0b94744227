"""Telling the service manager: a real socket hears what it would."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.notify import Notifier
from tests.support import wait_for


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_tells_all_lines_in_one_datagram(manager: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": manager.getsockname()}).tell("READY=1", "STATUS=9 healthy")
    assert heard(manager) == ["READY=1\nSTATUS=9 healthy"]


def test_reaches_an_abstract_socket() -> None:
    name = f"prime-spark-notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.setblocking(False)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1")
        assert heard(sock) == ["READY=1"]


def test_says_nothing_where_nobody_asked(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"WATCHDOG_USEC": "60000000"})
    notifier.tell("READY=1")
    assert notifier.interval is None
    assert caplog.records == []


def test_logs_a_manager_that_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")
    assert "was not told READY=1" in caplog.text


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
    ids=["for-all", "for-us", "for-another", "not-a-number", "not-wanted"],
)
def test_beats_three_times_in_the_time_given(environ: dict[str, str], interval: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/nowhere", **environ}).interval == interval


async def test_beats_from_the_loop_until_cancelled(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000"})
    task = asyncio.create_task(notifier.beat())
    said: list[str] = []

    def beaten() -> bool:
        said.extend(heard(manager))
        return len(said) >= 3

    await wait_for(beaten)
    task.cancel()
    assert set(said) == {"WATCHDOG=1"}


async def test_a_loop_that_hangs_gives_no_sign(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000"})
    task = asyncio.create_task(notifier.beat())
    await wait_for(lambda: bool(heard(manager)))
    manager.settimeout(0.1)
    with pytest.raises(TimeoutError):
        manager.recv(4096)  # this loop stands still here, as one that hangs
    task.cancel()


async def test_returns_at_once_where_nobody_waits() -> None:
    await Notifier({}).beat()


async def test_is_ready_only_when_the_start_is_complete(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    started, asked = asyncio.Event(), asyncio.Event()

    async def settled() -> None:
        asked.set()
        await started.wait()

    task = asyncio.create_task(notifier.attend(settled))
    await asked.wait()
    assert heard(manager) == []
    started.set()
    await task
    assert heard(manager) == ["READY=1"]
