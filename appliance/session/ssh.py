"""The embedded SSH server: the console, its text twins, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import asyncssh

from appliance.core.model import Actor, Health, HealthReport, UserInfo
from appliance.core.secrets import write_private
from appliance.session.caps import caps_of
from appliance.session.limits import LoginLimiter
from appliance.session.manager import Session, Sessions
from appliance.session.ui import UiThread

log = logging.getLogger(__name__)

LOGIN_TIME = 30.0
HALF_OPEN = 32
"""Connections that may be open without a login."""
USAGE = "This is the console of a Prime Spark appliance. Use a terminal (ssh -t), or give a command such as: status\n"

TextCommand = Callable[[list[str], Actor, int], tuple[int, str]]
"""(arguments, actor, width) → (exit code, text); blocks."""


class Accounts(Protocol):
    """Who may come in; lives on the core loop."""

    async def check_password(self, name: str, password: str) -> UserInfo | None:
        """The user, if the password is right."""

    async def check_key(self, name: str, mark: str) -> UserInfo | None:
        """The user, if the key may log in as them."""


Note = Callable[[Actor, str, str], Awaitable[None]]
"""(actor, outcome, detail): writes a login into the audit; runs on the core loop."""


class Gate(asyncssh.SSHServer):
    """One connection: who it is, and what it may ask for."""

    def __init__(self, service: SshService) -> None:
        self._service = service
        self._conn: asyncssh.SSHServerConnection | None = None
        self.address = ""
        self.user: UserInfo | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Turn away locked addresses, and all where too many are half open."""
        self._conn = conn
        self.address = str((conn.get_extra_info("peername") or ("unknown",))[0])
        if self._service.limiter.locked(self.address) or len(self._service.half_open) >= HALF_OPEN:
            conn.abort()
            return
        self._service.half_open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._service.half_open.discard(self)
        self._conn = None

    def begin_auth(self, username: str) -> bool:
        """Everybody must log in."""
        return True

    def password_auth_supported(self) -> bool:
        """Passwords are checked."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are checked."""
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        """Check a password on the core loop."""
        if self._service.limiter.locked(self.address):
            self.hang_up()
            return False
        user = await self._service.on_core(self._service.accounts.check_password(username, password))
        return self._decided(username, user, "password")

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Check a key; offering an unknown one is no failure (RFC 4252, section 7)."""
        user = await self._service.on_core(self._service.accounts.check_key(username, key.get_fingerprint()))
        return self._decided(username, user, "key") if user is not None else False

    def _decided(self, username: str, user: UserInfo | None, how: str) -> bool:
        self.user = user
        if user is not None:
            self._service.limiter.succeeded(self.address)
            return True
        if self._service.limiter.failed(self.address):
            log.warning("%s is locked out after failed logins (last as %r)", self.address, username)
            self.hang_up()
        else:
            log.warning("login as %r from %s failed (%s)", username, self.address, how)
        return False

    def hang_up(self) -> None:
        """End the connection without a word."""
        if self._conn is not None:
            self._conn.abort()

    def auth_completed(self) -> None:
        """Somebody is in."""
        self._service.half_open.discard(self)
        actor = self.actor()
        log.info("%s logged in from %s as %s", actor.name, actor.origin, actor.role.name)
        self._service.note_login(actor)

    def actor(self) -> Actor:
        """Who this is. Raises RuntimeError before a login."""
        if self.user is None:
            raise RuntimeError("no login yet")
        return Actor(self.user.name, self.user.role, "ssh", self.address)

    def session_requested(self) -> SshSession:
        """A terminal or a command; forwarding and subsystems are refused by default."""
        return SshSession(self._service, self)


class SshSession(asyncssh.SSHServerSession[bytes]):
    """One channel of a connection: a console, or one command's answer."""

    def __init__(self, service: SshService, gate: Gate) -> None:
        self._service = service
        self._gate = gate
        self._chan: asyncssh.SSHServerChannel[bytes] | None = None
        self._session: Session | None = None
        self._command: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._pty = False

    @property
    def paused(self) -> bool:
        """The client does not read."""
        return self._paused

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is there."""
        self._chan = chan

    def pty_requested(self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Any) -> bool:
        """Terminals are welcome."""
        self._pty = True
        return True

    def shell_requested(self) -> bool:
        """The console takes a shell's place."""
        return True

    def exec_requested(self, command: str) -> bool:
        """One command of the text twin."""
        self._command = command
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        """No files are served here."""
        return False

    def session_started(self) -> None:
        """Begin."""
        work = self._answer(self._command) if self._command is not None else self._console() if self._pty else self._refuse(USAGE)
        self._task = asyncio.get_running_loop().create_task(work)

    async def _refuse(self, text: str) -> None:
        self.write(text.replace("\n", "\r\n" if self._pty else "\n").encode())
        self._exit(1)

    async def _console(self) -> None:
        chan = self._chan
        if chan is None:
            return
        if self._service.sessions.count("ssh") >= self._service.max_sessions:
            await self._refuse(f"All {self._service.max_sessions} SSH consoles are in use. Try again later.\n")
            return
        environ = {key: value for key, value in chan.get_environment().items() if isinstance(value, str)}
        caps = caps_of({**environ, "TERM": chan.get_terminal_type() or ""})
        columns, rows = chan.get_terminal_size()[:2]
        self._session = self._service.sessions.create(self._gate.actor(), self, caps, (columns, rows))
        await self._service.sessions.run(self._session)

    async def _answer(self, command: str) -> None:
        try:
            arguments = shlex.split(command)
        except ValueError as error:
            await self._refuse(f"error: this command line is not understood: {error}\n")
            return
        width = self._chan.get_terminal_size()[0] if self._chan is not None else 0
        code, text = await asyncio.to_thread(self._service.text_command, arguments, self._gate.actor(), width or 200)
        self.write((text.replace("\n", "\r\n") if self._pty else text).encode())
        self._exit(code)

    def data_received(self, data: bytes, datatype: Any) -> None:
        """Keys."""
        if self._session is not None:
            self._session.feed(data)

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """Another size."""
        if self._session is not None:
            self._session.resize(width, height)

    def eof_received(self) -> bool:
        """No more keys: the console ends, an answer goes on."""
        if self._session is not None:
            self._session.end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._chan = None
        if self._session is not None:
            self._session.end()
            self._session = None

    def pause_writing(self) -> None:
        """The client does not keep up: frames are dropped from here on."""
        self._paused = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        if self._session is not None:
            self._session.resumed()

    def write(self, data: bytes) -> None:
        """Send (driver.Channel)."""
        if self._chan is not None and not self._chan.is_closing():
            self._chan.write(data)

    def close(self) -> None:
        """End the channel (driver.Channel)."""
        self._exit(0)

    def _exit(self, code: int) -> None:
        if self._chan is not None and not self._chan.is_closing():
            self._chan.exit(code)


class SshService:
    """The server (implements ports.Service); it runs on the UI loop.

    Args:
        ui: The UI thread.
        sessions: Opens consoles.
        accounts: Who may come in.
        core: The core loop, where accounts and the audit live.
        text_command: Answers a command.
        note: Writes logins into the audit.
        host: Address to listen on.
        port: TCP port; 0 picks a free one.
        host_key: The server's key; made where missing.
        max_sessions: Consoles at one time.
    """

    name = "ssh"
    summary = "The console and its text twins over SSH"
    depends = ("accounts",)

    def __init__(
        self,
        *,
        ui: UiThread,
        sessions: Sessions,
        accounts: Accounts,
        core: asyncio.AbstractEventLoop,
        text_command: TextCommand,
        note: Note,
        host: str,
        port: int,
        host_key: Path,
        max_sessions: int,
    ) -> None:
        self.sessions = sessions
        self.accounts = accounts
        self.text_command = text_command
        self.max_sessions = max_sessions
        self.limiter = LoginLimiter(time.monotonic)
        self.half_open: set[Gate] = set()
        self._ui = ui
        self._core = core
        self._note = note
        self._host, self._port, self._host_key = host, port, host_key
        self._server: asyncssh.SSHAcceptor | None = None
        self.port = 0
        """The port in use; 0 while not listening."""

    async def on_core(self, work: Any) -> Any:
        """Await a coroutine of the core loop; called on the UI loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._core))

    def note_login(self, actor: Actor) -> None:
        """Have a login audited."""
        asyncio.run_coroutine_threadsafe(self._note(actor, "ok", f"logged in from {actor.origin}"), self._core)

    async def start(self) -> None:
        """Make the host key where missing, and listen. Raises OSError."""
        key = await asyncio.to_thread(load_host_key, self._host_key)
        self._server = await self._ui.call(self._listen(key))
        self.port = self._server.get_port()

    async def _listen(self, key: asyncssh.SSHKey) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            self._host, self._port, server_factory=lambda: Gate(self), server_host_keys=[key], encoding=None, line_editor=False,
            login_timeout=LOGIN_TIME, keepalive_interval=30, keepalive_count_max=4, agent_forwarding=False, allow_scp=False,
            x11_forwarding=False, server_version="PrimeSpark", reuse_address=True,
        )  # fmt: skip

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Close the port and all SSH consoles."""
        server, self._server, self.port = self._server, None, 0
        if server is not None:
            await self._ui.call(self._shut(server))

    async def _shut(self, server: asyncssh.SSHAcceptor) -> None:
        server.close()
        await server.wait_closed()

    async def health(self) -> HealthReport:
        """Where it listens, and how logins go."""
        if self._server is None:
            return HealthReport(Health.unhealthy, "not listening", "prime-spark service restart ssh")
        details = {"port": self.port, "failed_logins": self.limiter.failures, "refused": self.limiter.refused}
        open_ = self.sessions.count("ssh")
        return HealthReport(Health.healthy, f"{self._host}:{self.port}, {open_} of {self.max_sessions} consoles", details=details)


def load_host_key(path: Path) -> asyncssh.SSHKey:
    """The server's key, Ed25519; made and kept, mode 0600, where missing. Raises OSError, asyncssh.KeyImportError."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, asyncssh.generate_private_key("ssh-ed25519", comment="prime-spark").export_private_key())
    return asyncssh.read_private_key(path)
