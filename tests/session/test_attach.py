"""Terminals handed over to the running appliance; real pseudo-terminals, real client processes."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest

from appliance.core.model import Actor, Health, Role
from appliance.session import attach as server_side
from appliance.session.attach import AttachService
from appliance.session.escapes import RESTORE
from appliance.session.ui import UiThread
from tests.session.rig import Rig
from tests.support import wait_for

CLIENT = """
import os, signal, sys
from appliance.session.handover import attach
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it (nohup)
sys.exit(attach(sys.argv[1], os.environ))
"""


class Pty:
    """A terminal whose screen the test reads."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.master, self.slave = os.openpty()
        self.received = bytearray()
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.set_size(columns, rows)
        self.before = termios.tcgetattr(self.slave)

    def set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def read(self) -> None:
        asyncio.get_running_loop().add_reader(self.master, self._take)

    def _take(self) -> None:
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self.master)
        self.received += data
        self._stream.feed(data)

    def shows(self, text: str) -> bool:
        return text in "\n".join(self.screen.display)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before


@pytest.fixture
async def pty() -> AsyncIterator[Pty]:
    terminal = Pty()
    terminal.read()
    yield terminal
    asyncio.get_running_loop().remove_reader(terminal.master)
    for descriptor in (terminal.master, terminal.slave):
        try:
            os.close(descriptor)
        except OSError:
            assert descriptor  # closed by the test


@pytest.fixture
async def service(ui: UiThread, rig: Rig, tmp_path: Path) -> AsyncIterator[AttachService]:
    made = make(ui, rig, tmp_path / "console.sock")
    await made.start()
    yield made
    ui.loop.call_soon_threadsafe(rig.sessions.end_all)
    await wait_for(lambda: len(rig.sessions) == 0)
    await made.stop()


def make(ui: UiThread, rig: Rig, path: Path) -> AttachService:
    def bind() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(path))
        path.chmod(0o600)
        return sock

    return AttachService(ui, rig.sessions, lambda name: Actor(name, Role.admin, "console"), path, bind)


class Clients:
    """Client processes, each on a terminal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, pty: Pty, **environ: str) -> subprocess.Popen[bytes]:
        keep = {key: value for key, value in os.environ.items() if key not in ("COLORTERM", "LANG", "LC_ALL", "LC_CTYPE")}
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(self.path)],
            stdin=pty.slave, stdout=pty.slave, stderr=subprocess.PIPE, start_new_session=True,
            env={**keep, "TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parents[2]), **environ},
        )  # fmt: skip
        self.running.append(process)
        return process


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    made = Clients(tmp_path / "console.sock")
    yield made
    for process in made.running:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, said = await asyncio.to_thread(process.communicate, None, 20)
    return process.returncode, said.decode()


async def test_a_console_on_a_terminal_that_was_handed_over(
    service: AttachService, clients: Clients, pty: Pty, rig: Rig
) -> None:
    process = clients.start(pty)
    await wait_for(lambda: pty.shows("ready"))
    assert (await service.health()).health is Health.healthy
    pty.press("hé\x1b[A".encode())
    await wait_for(lambda: pty.shows("keys: h é up at 80x24"))
    pty.set_size(100, 30)
    process.send_signal(signal.SIGWINCH)
    pty.press(b"k")
    await wait_for(lambda: tuple(rig.apps[0]().screen.size) == (100, 30))  # type: ignore[union-attr]
    pty.press(b"\x11")
    assert await ended(process) == (0, "")
    assert pty.received.endswith(b"\x1b[?1049l\x1b[?25h")
    assert pty.restored
    await wait_for(lambda: rig.alive() == 0)


async def test_whose_console_ends_with_the_appliance_is_told(
    service: AttachService, clients: Clients, pty: Pty, ui: UiThread, rig: Rig
) -> None:
    process = clients.start(pty)
    await wait_for(lambda: pty.shows("ready"))
    await service.stop()
    ui.loop.call_soon_threadsafe(rig.sessions.end_all)
    assert await ended(process) == (0, f"{server_side.STOPPED}\n")
    assert pty.restored


async def test_the_environment_of_the_client_decides(service: AttachService, clients: Clients, pty: Pty) -> None:
    clients.start(pty, TERM="linux", COLORTERM="truecolor")
    await wait_for(lambda: pty.shows("ready ███ + o"))
    assert b"8;2;" not in pty.received


async def test_two_terminals_at_once_and_one_quits(service: AttachService, clients: Clients, pty: Pty, rig: Rig) -> None:
    other = Pty()
    other.read()
    first, _ = clients.start(pty), clients.start(other)
    await wait_for(lambda: pty.shows("ready") and other.shows("ready"), 20)
    pty.press(b"\x11")
    assert (await ended(first))[0] == 0
    other.press(b"k")
    await wait_for(lambda: other.shows("keys: k"))
    assert len(rig.sessions) == 1
    asyncio.get_running_loop().remove_reader(other.master)
    os.close(other.slave)
    os.close(other.master)  # the terminal is hung up


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
async def test_a_client_that_ends_ends_its_console(
    service: AttachService, clients: Clients, pty: Pty, rig: Rig, number: signal.Signals
) -> None:
    process = clients.start(pty)
    await wait_for(lambda: pty.shows("ready"))
    process.send_signal(number)
    await ended(process)
    await wait_for(lambda: len(rig.sessions) == 0)
    if number is signal.SIGTERM:
        assert pty.restored


async def test_a_terminal_that_takes_nothing_is_bounded_and_left(
    service: AttachService, clients: Clients, pty: Pty, rig: Rig
) -> None:
    process = clients.start(pty)
    await wait_for(lambda: pty.shows("ready"))
    app = rig.apps[0]()
    assert app is not None
    asyncio.get_running_loop().remove_reader(pty.master)
    pty.press(b"\x0e")
    driver: Any = app._driver
    await wait_for(lambda: driver.dropped_frames > 20, 60)
    channel = driver._channel
    assert channel._waiting < 2 * 256 * 1024
    process.send_signal(signal.SIGTERM)
    assert (await ended(process))[0] in {0, 1}
    await wait_for(lambda: len(rig.sessions) == 0)
    await wait_for(lambda: not channel._thread.is_alive())


async def test_a_client_survives_the_appliance(clients: Clients, pty: Pty) -> None:
    """It gives the terminal back when the appliance is killed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(clients.path))
        listener.listen()
        process = clients.start(pty)
        connection, _ = await asyncio.to_thread(listener.accept)
        _, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, connection, 4096, 2)
        os.write(descriptors[1], b"\x1b[?1049h painted")
        await wait_for(lambda: pty.shows("painted"))
        for descriptor in descriptors:
            os.close(descriptor)
        connection.close()
    code, said = await ended(process)
    assert code == 1
    assert "without closing this console" in said
    assert pty.restored
    assert pty.received.endswith(RESTORE.encode())


async def test_nobody_listens(tmp_path: Path, clients: Clients, pty: Pty) -> None:
    code, said = await ended(clients.start(pty))
    assert code == 1
    assert "FileNotFoundError" in said
    assert pty.restored


async def test_attaching_never_starts_an_appliance(tmp_path: Path, pty: Pty) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "appliance", "attach", stdin=pty.slave, stdout=pty.slave, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PRIME_SPARK_HOME": str(tmp_path)},
    )  # fmt: skip
    _, said = await child.communicate()
    assert (child.returncode, list(tmp_path.iterdir())) == (3, [])
    assert b"no appliance runs here" in said


async def test_a_stale_socket_is_taken_over(ui: UiThread, rig: Rig, tmp_path: Path, clients: Clients, pty: Pty) -> None:
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(str(clients.path))
    stale.close()
    made = make(ui, rig, clients.path)
    await made.start()
    clients.start(pty)
    await wait_for(lambda: pty.shows("ready"))
    assert clients.path.stat().st_mode & 0o777 == 0o600
    pty.press(b"\x11")
    await wait_for(lambda: len(rig.sessions) == 0)
    await made.stop()
    assert not clients.path.exists()


async def _answer(path: Path, data: bytes, descriptors: list[int]) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        socket.send_fds(sock, [data], descriptors)
        return str(json.loads(await asyncio.to_thread(sock.recv, 4096))["end"])


@pytest.mark.parametrize("data", [b"junk\n", b"[]\n", b'{"environ": 3}\n', b"{}", b"x" * 5000, b"\n"])
async def test_strange_first_lines_are_refused(service: AttachService, clients: Clients, pty: Pty, data: bytes) -> None:
    assert "could not attach" in await _answer(clients.path, data, [pty.slave, pty.slave])


async def test_what_is_no_terminal_is_refused(service: AttachService, clients: Clients) -> None:
    with Path("/dev/null").open("rb") as null:
        assert "no terminal was handed over" in await _answer(clients.path, b'{"environ": {}}\n', [null.fileno()] * 2)


async def test_a_silent_client_is_sent_away(service: AttachService, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_side, "HELLO_TIME", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(str(clients.path))
        assert b"nothing came" in await asyncio.to_thread(sock.recv, 4096)


async def test_too_many_terminals_are_refused(
    service: AttachService, clients: Clients, pty: Pty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_side, "MOST", 0)
    code, said = await ended(clients.start(pty))
    assert code == 1
    assert "attached already" in said
    assert pty.restored


OTHER_USER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1]); print(sock.recv(4096).decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_refused(ui: UiThread, rig: Rig) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory) / "s"
        made = make(ui, rig, path)
        await made.start()
        path.chmod(0o666)  # even where the mode does not hold
        command = ["/usr/bin/python3", "-c", OTHER_USER, str(path)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=20)
        await made.stop()
    assert "belongs to user 65534" in done.stdout, done.stderr
    assert len(rig.sessions) == 0
