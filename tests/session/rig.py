"""What the session tests share: a small App, terminals that read the screen, real services around them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import asyncssh
import pyte
from textual.app import App, ComposeResult
from textual.events import Key, Paste
from textual.widgets import Static

from appliance.core.actions import ActionRegistry
from appliance.core.auth import Accounts
from appliance.core.clock import SystemClock
from appliance.core.console import Console
from appliance.core.dispatch import Dispatcher
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Role
from appliance.core.presence import Presence
from appliance.core.state import LiveState, Section
from appliance.screens.glyphs import Caps
from appliance.session.answers import Errand
from appliance.session.manager import Session, Sessions
from appliance.session.ssh import Listen, SshService
from appliance.session.ui import UiThread

ACTOR = Actor("ada", Role.admin, "test", "here")
SECRET = "hunter2-is-a-secret"


class SmallApp(App[str]):
    """Shows the keys it got; some keys do more."""

    CSS = "#keys { background: #204060; color: #ffaa33; } #noise { height: 1fr; background: #0a7b4c; }"
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, console: Console, caps: Caps, driver_class: Any) -> None:
        super().__init__(driver_class=driver_class)
        self.seen = console
        self.caps = caps
        self.pressed: list[str] = []
        self.pasted: list[str] = []
        self.ticks = 0

    def compose(self) -> ComposeResult:
        yield Static("keys:", id="keys")
        yield Static("ready ▂▄█ ✓ ○", id="noise")

    def on_mount(self) -> None:
        self.seen.watch([Section.queues], lambda _: self.post_message(Key("f12", None)))  # nobody closes it but the manager

    def on_key(self, event: Key) -> None:
        self.pressed.append(event.key)
        if event.key == "ctrl+q":
            self.exit()
        elif event.key == "ctrl+x":
            password = SECRET
            raise ValueError(f"no {len(password)}")
        elif event.key == "ctrl+n":
            self.set_interval(0.01, self.tick)
        self.query_one("#keys", Static).update(f"keys: {' '.join(self.pressed)} at {self.size.width}x{self.size.height}")

    def on_paste(self, event: Paste) -> None:
        self.pasted.append(event.text)

    def tick(self) -> None:
        self.ticks += 1
        line = "".join(chr(33 + (self.ticks * 7 + each * 13) % 90) for each in range(78))
        self.query_one("#noise", Static).update("\n".join(line[each:] + line[:each] for each in range(22)))


class Memory:
    """A channel that keeps what was written (driver.Channel)."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.paused = False
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    @property
    def text(self) -> str:
        return self.written.decode()


class NoAudit:
    """An audit that forgets."""

    async def record(self, actor: Actor, action: str, args: dict[str, Any], outcome: str, detail: str) -> None:
        """Nothing is kept."""


class Rig:
    """Real sessions; weak references to all Apps ever made."""

    def __init__(self, core: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self.state = LiveState(SystemClock())
        self.presence = Presence(self.state)
        self.dispatcher = Dispatcher(ActionRegistry(), NoAudit())
        self.apps: list[weakref.ref[SmallApp]] = []
        self.sessions = Sessions(self.make, self.console, self.presence, core)
        self.logins: list[tuple[Actor, str]] = []

    def make(self, console: Console, caps: Caps, driver_class: Any) -> SmallApp:
        app = SmallApp(console, caps, driver_class)
        self.apps.append(weakref.ref(app))
        return app

    def console(self, actor: Actor, session_id: str) -> Console:
        return Console(self.state, self.dispatcher, LogRing(), self.presence, self.core, actor, session_id)

    async def note(self, actor: Actor, outcome: str, detail: str) -> None:
        self.logins.append((actor, outcome))

    def open(self, caps: Caps | None = None, size: tuple[int, int] = (80, 24)) -> Opened:
        """A console on a channel in memory, on the running loop."""
        channel = Memory()
        session = self.sessions.create(ACTOR, channel, caps or Caps(), size)
        return Opened(session, channel, asyncio.ensure_future(self.sessions.run(session)))

    def alive(self) -> int:
        """Apps that were not collected."""
        for _ in range(3):
            gc.collect()
        return sum(each() is not None for each in self.apps)


class Opened:
    """An open console in memory."""

    def __init__(self, session: Session, channel: Memory, run: asyncio.Future[str | None]) -> None:
        self.session, self.channel, self.run = session, channel, run

    @property
    def app(self) -> SmallApp:
        app = self.session.app
        assert isinstance(app, SmallApp)
        return app

    @property
    def ready(self) -> bool:
        return "ready" in self.channel.text

    async def end(self) -> None:
        self.session.end()
        await asyncio.wait_for(self.run, 10)


def screen_of(data: bytes, columns: int = 80, rows: int = 24) -> list[str]:
    """What a terminal shows after these bytes."""
    screen = pyte.Screen(columns, rows)
    pyte.ByteStream(screen).feed(data)
    return list(screen.display)


class Terminal:
    """An SSH client with a terminal, as a person has one."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], columns: int, rows: int) -> None:
        self.process = process
        self.received = bytearray()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._task = asyncio.create_task(self._pump())

    async def _pump(self) -> None:
        while data := await self.process.stdout.read(65536):
            self.received += data
            self._stream.feed(data)

    def shows(self, text: str) -> bool:
        return text in "\n".join(self._screen.display)

    def press(self, keys: bytes) -> None:
        self.process.stdin.write(keys)

    def resize(self, columns: int, rows: int) -> None:
        self._screen.resize(rows, columns)
        self.process.change_terminal_size(columns, rows)


async def connect(
    service: SshService, user: str = "ada", password: str = "correct horse", **more: Any
) -> asyncssh.SSHClientConnection:
    """A client of the server, logged in."""
    return await asyncssh.connect(
        "127.0.0.1", service.port, username=user, password=password, known_hosts=None, config=None, agent_path=None,
        client_keys=more.pop("client_keys", None), **more,
    )  # fmt: skip


async def terminal(
    conn: asyncssh.SSHClientConnection, term: str = "xterm-256color", columns: int = 80, rows: int = 24, **more: Any
) -> Terminal:
    """A console over a connection."""
    process = await conn.create_process(term_type=term, term_size=(columns, rows), encoding=None, **more)
    return Terminal(process, columns or 80, rows or 24)


def twin(arguments: list[str], actor: Actor, width: int, errand: Errand) -> tuple[int, str]:
    """A text command."""
    if arguments[:1] == ["fail"]:
        raise RuntimeError("as asked")
    if arguments[:1] == ["wait"]:
        errand.wait(Future())
    if arguments[:1] == ["read"]:
        return 0, f"read {errand.line()}\n"
    return (0 if arguments[:1] == ["status"] else 2), f"{actor.name} {actor.role.name} {' '.join(arguments)}\n"


def listen_on(directory: Path, **more: Any) -> Listen:
    """A free port of loopback, the key in a directory."""
    return Listen("127.0.0.1", 0, directory / "ssh" / "host_key", **more)


def make_service(ui: UiThread, rig: Rig, accounts: Accounts, listen: Listen) -> SshService:
    """The server, not started."""
    return SshService(
        ui=ui, sessions=rig.sessions, accounts=accounts, core=rig.core, text_command=twin, note=rig.note, listen=listen
    )
