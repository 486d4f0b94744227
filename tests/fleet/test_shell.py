"""Shells on a node in real terminals: attached ones, those of SSH sessions, and from inside a console."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.core.actions import ActionRegistry
from appliance.core.auth import Accounts
from appliance.core.catalog.fleet_shell import shell_actions
from appliance.core.console import Console
from appliance.core.dispatch import Dispatcher
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Links
from appliance.core.fleet.terminals import ShellEnd, Terminals
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Role
from appliance.errors import ApplianceError, NotAuthorizedError, NotFoundError
from appliance.screens.glyphs import Caps
from appliance.session.attach import AttachService
from appliance.session.remote import IDLE, Bridge
from appliance.session.ssh import SshService
from appliance.session.ui import UiThread
from tests.fleet.conftest import links_to, reach
from tests.fleet.files_rig import quiet_server
from tests.servers.proxy import FaultyProxy
from tests.servers.sshd import SshServer
from tests.session.conftest import accounts, ui  # noqa: F401
from tests.session.rig import ACTOR, NoAudit, Rig, SmallApp, connect, listen_on, make_service, terminal
from tests.session.test_attach import Pty, make, pty  # noqa: F401
from tests.support import wait_for

CLIENT = "import os, sys; from appliance.session.handover import attach; sys.exit(attach(sys.argv[1], os.environ, sys.argv[2]))"
QUIET = b" unset HISTFILE; PS1='$ '\n"
"""First of all, so that nothing of a test stays in this machine's history."""


class ShellApp(SmallApp):
    """A console that opens a shell on Ctrl-T."""

    ends: list[ShellEnd | str]

    async def on_key(self, event: Any) -> None:
        if event.key == "ctrl+t":
            self.run_worker(self._shell(), exit_on_error=False)
        elif event.key == "ctrl+g":
            self.set_interval(0.01, self.tick)

    async def _shell(self) -> None:
        assert self.seen.hand_over is not None
        try:
            self.ends.append(await self.seen.hand_over("agent"))
        except ApplianceError as error:
            self.ends.append(error.message)


class ShellRig(Rig):
    """Sessions that can open shells on nodes."""

    def __init__(self, core: asyncio.AbstractEventLoop, links: Links) -> None:
        super().__init__(core)
        self.told: list[dict[str, object]] = []
        self.ends: list[ShellEnd | str] = []
        self.terminals = Terminals(self.tell, waits=5.0)
        registry = ActionRegistry()
        registry.add(*shell_actions(links, self.terminals))
        self.dispatcher = Dispatcher(registry, NoAudit())

    async def tell(self, _: str, facts: dict[str, object]) -> None:
        self.told.append(facts)

    def make(self, console: Console, caps: Caps, driver_class: Any) -> SmallApp:
        app = ShellApp(console, caps, driver_class)
        app.ends = self.ends
        return app

    def console(self, actor: Actor, session_id: str) -> Console:
        return Console(self.state, self.dispatcher, LogRing(), self.presence, self.core, actor, session_id, self.terminals)


@dataclass
class Desk:
    """A rig, its console socket, and clients on it."""

    rig: ShellRig
    path: Path
    running: list[subprocess.Popen[bytes]]

    def start(self, pty: Pty, node: str = "", term: str = "xterm-256color") -> subprocess.Popen[bytes]:  # noqa: F811
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(self.path), node], stdin=pty.slave, stdout=pty.slave, stderr=subprocess.PIPE,
            start_new_session=True, env={**os.environ, "TERM": term, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        self.running.append(process)
        return process

    async def ended(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Exit code, and what it said on standard error."""
        await wait_for(lambda: process.poll() is not None)
        assert process.stderr is not None
        return int(process.returncode), process.stderr.read().decode()


@pytest.fixture
def server(own: OwnKey) -> Iterator[SshServer]:
    with quiet_server(own) as made:
        yield made


@pytest.fixture
def proxy(server: SshServer) -> Iterator[FaultyProxy]:
    with FaultyProxy("127.0.0.1", server.port) as made:
        yield made


@pytest.fixture
async def rig(server: SshServer, proxy: FaultyProxy, own: OwnKey) -> AsyncIterator[ShellRig]:
    links = links_to(own, reach(server, port=proxy.port))
    yield ShellRig(asyncio.get_running_loop(), links)
    await links.close()


@pytest.fixture
async def desk(ui: UiThread, rig: ShellRig, tmp_path: Path) -> AsyncIterator[Desk]:  # noqa: F811
    path = tmp_path / "console.sock"
    service: AttachService = make(ui, rig, path)
    await service.start()
    made = Desk(rig, path, [])
    yield made
    ui.loop.call_soon_threadsafe(rig.sessions.end_all)
    await wait_for(lambda: len(rig.sessions) == 0 and len(rig.terminals) == 0)
    await service.stop()
    for process in made.running:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


async def ready(pty: Pty) -> None:  # noqa: F811
    """The shell has spoken, and what it is told is not kept."""
    await wait_for(lambda: pty.shows("Ctrl-] comes back"))
    pty.press(QUIET + b"echo re''ady\n")
    await wait_for(lambda: pty.shows("ready"))


async def test_a_terminal_becomes_one_of_the_node_and_is_given_back(desk: Desk, pty: Pty) -> None:  # noqa: F811
    process = desk.start(pty, "agent", term="screen-256color")
    await ready(pty)
    pty.press(b'echo "T=$TERM S=$(stty size)"\n')
    await wait_for(lambda: pty.shows("T=screen-256color S=24 80"))
    pty.set_size(100, 30)
    os.kill(process.pid, 28)  # SIGWINCH, as the kernel sends it to whoever has the terminal
    pty.press(b'until [ "$(stty size)" = "30 100" ]; do :; done; echo si""zed\n')
    await wait_for(lambda: pty.shows("sized"))
    assert [(info.user, info.screen) for info in desk.rig.state.get("sessions").value] == [("root", "shell agent")]  # type: ignore[arg-type]
    pty.press(b"exit 7\n")
    assert await desk.ended(process) == (7, "")
    assert pty.restored
    await wait_for(lambda: desk.rig.told)
    assert desk.rig.told[0]["node"] == "agent"
    assert not desk.rig.state.get("sessions").value  # type: ignore[arg-type]


async def test_ctrl_bracket_leaves_and_ends_the_shell_there(desk: Desk, pty: Pty) -> None:  # noqa: F811
    process = desk.start(pty, "agent")
    await ready(pty)
    pty.press(b"sh -c 'echo \"pid:$$:\"; exec sleep 1000'\n")
    await wait_for(lambda: pty.shows("pid:") and pty.received.rpartition(b"pid:")[2].partition(b":")[0].isdigit())
    pid = int(pty.received.rpartition(b"pid:")[2].partition(b":")[0])
    pty.press(b"\x1d")
    code, said = await desk.ended(process)
    assert (code, "left with Ctrl-]" in said) == (0, True)
    await wait_for(lambda: not Path(f"/proc/{pid}").exists())
    assert pty.restored


async def test_one_that_nobody_uses_is_ended(desk: Desk, pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    assert Bridge.__init__.__kwdefaults__["idle"] == IDLE
    monkeypatch.setitem(Bridge.__init__.__kwdefaults__, "idle", 0.3)
    code, said = await desk.ended(desk.start(pty, "agent"))
    assert (code, "nothing happened for" in said) == (0, True), said
    assert pty.restored


async def test_a_broken_link_gives_the_terminal_back_with_the_reason(
    desk: Desk, pty: Pty, proxy: FaultyProxy  # noqa: F811
) -> None:  # fmt: skip
    process = desk.start(pty, "agent")
    await ready(pty)
    proxy.cut_now()
    code, said = await desk.ended(process)
    assert (code, "cut off" in said, "next:" in said) == (1, True, True), said
    assert pty.restored


async def test_what_cannot_be_opened_is_told(desk: Desk, pty: Pty, proxy: FaultyProxy) -> None:  # noqa: F811
    assert "nowhere" in (await desk.ended(desk.start(pty, "nowhere")))[1]
    proxy.refuse()
    code, said = await desk.ended(desk.start(pty, "agent"))
    assert (code, "error: agent" in said) == (1, True), said
    assert pty.restored


async def test_a_console_gives_its_terminal_and_paints_it_anew(desk: Desk, pty: Pty) -> None:  # noqa: F811
    desk.start(pty)
    await wait_for(lambda: pty.shows("keys:"))
    pty.press(b"\x07\x14")  # Ctrl-G: it paints a hundred times a second; Ctrl-T: a shell
    await ready(pty)
    before = len(pty.received)
    pty.press(b"printf '\\033[?1000h\\033[?25l'; read x; echo g''ot:$x\n" + b"typed here\n")
    await wait_for(lambda: pty.shows("got:typed here"))
    shown = bytes(pty.received[before:])
    assert b"\x1b[?1049h" not in shown  # nothing of the console is painted meanwhile
    assert len(shown) < 2000
    pty.set_size(90, 20)
    os.kill(desk.running[0].pid, 28)
    pty.press(b"\x1b[93;5u")  # Ctrl-] of a terminal with Kitty's keys
    await wait_for(lambda: pty.received.rfind(b"\x1b[?1049h") > before)
    assert before < pty.received.rfind(b"\x1b[?1000l") < pty.received.rfind(b"\x1b[?1000h")  # the program's off, ours on again
    await wait_for(lambda: pty.received.rfind(b"keys:") > pty.received.rfind(b"\x1b[?1049h"))
    await wait_for(lambda: desk.rig.ends)
    assert isinstance(desk.rig.ends[0], ShellEnd)
    assert "left with Ctrl-]" in desk.rig.ends[0].reason
    pty.press(b"\x14")
    await ready(pty)  # and once more
    pty.press(b"exit 3\n")
    await wait_for(lambda: len(desk.rig.ends) == 2)
    assert desk.rig.ends[1] == ShellEnd("agent", "it ended with exit status 3", 3)


async def test_the_end_of_a_session_ends_its_shell(desk: Desk, pty: Pty) -> None:  # noqa: F811
    process = desk.start(pty)
    await wait_for(lambda: pty.shows("keys:"))
    pty.press(b"\x14")
    await ready(pty)
    (info,) = desk.rig.state.get("sessions").value  # type: ignore[arg-type]
    desk.rig.presence.close(info.session_id)
    assert (await desk.ended(process))[0] == 0
    await wait_for(lambda: len(desk.rig.terminals) == 0)
    assert pty.restored


async def test_a_shell_that_cannot_be_opened_leaves_the_console_as_it_is(
    desk: Desk, pty: Pty, proxy: FaultyProxy  # noqa: F811
) -> None:  # fmt: skip
    proxy.refuse()
    desk.start(pty)
    await wait_for(lambda: pty.shows("keys:"))
    pty.press(b"\x14")
    await wait_for(lambda: desk.rig.ends)
    assert "agent" in str(desk.rig.ends[0])
    assert pty.shows("keys:")


@pytest.mark.parametrize("way", ["console", "command"])
async def test_over_ssh(
    ui: UiThread, rig: ShellRig, accounts: Accounts, tmp_path: Path, way: str  # noqa: F811
) -> None:  # fmt: skip
    service: SshService = make_service(ui, rig, accounts, listen_on(tmp_path))
    await service.start()
    try:
        async with await connect(service) as conn:
            far = await terminal(conn, **({} if way == "console" else {"command": "fleet shell agent"}))
            if way == "console":
                await wait_for(lambda: far.shows("keys:"))
                far.press(b"\x14")
            await wait_for(lambda: far.shows("Ctrl-] comes back"))
            far.press(QUIET + b'echo "T=$TERM S=$(stty size)"\n')
            await wait_for(lambda: far.shows("T=xterm-256color S=24 80"))
            far.resize(70, 22)
            far.press(b'until [ "$(stty size)" = "22 70" ]; do :; done; echo si""zed\n')
            await wait_for(lambda: far.shows("sized"))
            far.press(b"exit 5\n")
            if way == "console":
                await wait_for(lambda: far.shows("keys:"))
                assert rig.ends == [ShellEnd("agent", "it ended with exit status 5", 5)]
            else:
                await wait_for(lambda: far.process.exit_status is not None)
                assert far.process.exit_status == 5
    finally:
        await service.stop()
    await wait_for(lambda: len(rig.terminals) == 0)


async def test_a_shell_that_nobody_takes_is_ended_and_only_its_owner_takes_it(rig: ShellRig) -> None:
    rig.terminals._waits = 0.2
    told = await rig.dispatcher.invoke("fleet.shell", {"node": "agent"}, ACTOR)
    with pytest.raises(NotFoundError):
        rig.terminals.take(told["terminal"], Actor("eve", Role.admin, "socket"))
    await wait_for(lambda: len(rig.terminals) == 0)
    with pytest.raises(NotFoundError):
        rig.terminals.take(told["terminal"], ACTOR)


async def test_only_an_administrator_opens_one(rig: ShellRig) -> None:
    with pytest.raises(NotAuthorizedError):
        await rig.dispatcher.invoke("fleet.shell", {"node": "agent"}, Actor("op", Role.operator, "console"))
    assert len(rig.terminals) == 0
