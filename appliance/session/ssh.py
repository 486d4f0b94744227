"""The embedded SSH server: the console, its text twins, and nothing else.

The SSH library takes 15 MB. The port is open from the start; the library is loaded when somebody first connects.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.core.model import Health, HealthReport
from appliance.session.answers import TextCommand
from appliance.session.desk import Desk
from appliance.session.doorkeeper import Accounts, Doorkeeper, Note
from appliance.session.hostkey import load_host_key, looks_good
from appliance.session.manager import Sessions
from appliance.session.threshold import Threshold
from appliance.session.ui import UiThread

if TYPE_CHECKING:
    import asyncssh

    from appliance.session.gate import Gate

log = logging.getLogger(__name__)

LOGIN_TIME = 30.0
"""Seconds in which a login must be complete."""
BANNER = "Prime Spark appliance. For its users only; logins are recorded.\n"
LAST_WORDS = 1.0
"""Seconds that a connection has for its answers after its account was changed."""
GRACE = 2.0
"""Seconds that consoles have to give their terminals back when the server stops."""


@dataclass(frozen=True)
class Listen:
    """Where and for how many the server is there.

    Args:
        host: Address to listen on.
        port: TCP port; 0 picks a free one.
        host_key: The server's key; made where missing.
        max_sessions: Consoles at one time.
        banner: What everybody reads before the login; "" for nothing.
    """

    host: str
    port: int
    host_key: Path
    max_sessions: int = 8
    banner: str = BANNER


class SshService:
    """The server (implements ports.Service); it runs on the UI loop.

    Args:
        ui: The UI thread.
        sessions: Opens consoles.
        accounts: Who may come in.
        core: The core loop, where accounts and the audit live.
        text_command: Answers a command.
        note: Writes logins into the audit.
        listen: Where and for how many it is there.
    """

    name = "ssh"
    summary = "The console and its text twins over SSH"
    depends: tuple[str, ...] = ("accounts",)

    def __init__(
        self,
        *,
        ui: UiThread,
        sessions: Sessions,
        accounts: Accounts,
        core: asyncio.AbstractEventLoop,
        text_command: TextCommand,
        note: Note,
        listen: Listen,
    ) -> None:
        self.keeper = Doorkeeper(accounts, core, note, listen.banner)
        self.desk = Desk(sessions, listen.max_sessions, text_command)
        self._ui = ui
        self._listen = listen
        self.address = (listen.host, listen.port)
        """Where it shall listen; the supervisor tells why it cannot."""
        self._accounts = accounts
        self._deaf: Callable[[], None] = lambda: None
        self._core = core
        self._threshold = Threshold(self._knocked)
        self._servers: list[asyncssh.SSHAcceptor] = []
        self._serving: asyncio.Task[None] | None = None
        self._trouble: Exception | None = None
        self._in_trouble = asyncio.Event()
        self.port = 0
        """The port in use; 0 while not listening."""

    async def start(self) -> None:
        """Look at the host key, and listen. Raises OSError, StoreError."""
        good = await asyncio.to_thread(looks_good, self._listen.host_key)
        if self._trouble is not None or not good:
            await asyncio.to_thread(load_host_key, self._listen.host_key)
        self._trouble = None
        self._in_trouble.clear()
        self.port = await self._ui.call(self._threshold.open(self._listen.host, self._listen.port))
        self._deaf = self._accounts.listen(self._revoked)

    def _knocked(self) -> None:
        self._serving = asyncio.get_running_loop().create_task(self._serve(), name="ssh load")

    async def _serve(self) -> None:
        """Load the server, and let in who waits; on the UI loop."""
        sockets: list[socket.socket] = []
        try:
            key = await asyncio.to_thread(_load, self._listen.host_key)
            sockets = self._threshold.hand_over()
            for sock in sockets:
                self._servers.append(await self._accept(sock, key))
        except Exception as error:  # noqa: BLE001 whatever it is: the service ends with it, and the supervisor tells
            log.error("nobody can log in over SSH: %s", error)
            self._threshold.close()
            self._close_servers()
            for sock in sockets:
                sock.close()
            self._core.call_soon_threadsafe(self._give_up, error)

    def _close_servers(self) -> None:
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()

    def _give_up(self, error: Exception) -> None:
        self._trouble = error
        self._in_trouble.set()

    def _revoked(self, name: str) -> None:
        self._ui.loop.call_soon_threadsafe(self._end_user, name)

    def _end_user(self, name: str) -> None:
        """End whatever a user has open, after a moment for the last words; on the UI loop."""
        self.desk.sessions.end_all("ssh", name)
        for gate in self.keeper.gates_of(name):
            log.info("the connection of %s from %s ends: the account was changed", name, gate.address)
            self._ui.loop.call_later(LAST_WORDS, gate.hang_up, "This account was changed. Log in again.")

    async def _accept(self, sock: socket.socket, key: asyncssh.SSHKey) -> asyncssh.SSHAcceptor:
        import asyncssh

        return await asyncssh.listen(
            sock=sock,
            server_factory=self._gate,
            server_host_keys=[key],
            server_version="PrimeSpark",
            login_timeout=LOGIN_TIME,
            keepalive_interval=30,
            keepalive_count_max=4,
            encoding=None,
            line_editor=False,
            reuse_address=True,
            agent_forwarding=False,
            x11_forwarding=False,
            allow_scp=False,
            kbdint_auth=False,
            gss_host=None,
        )

    def _gate(self) -> Gate:
        from appliance.session.gate import Gate
        from appliance.session.sshchannel import SshSession

        return Gate(self.keeper, lambda gate: SshSession(self.desk, gate))

    async def run(self) -> None:
        """Serve until cancelled. Raises what kept the server from being loaded."""
        await self._in_trouble.wait()
        if self._trouble is not None:
            raise self._trouble

    async def stop(self) -> None:
        """Close the port, all SSH consoles and all connections."""
        self._deaf()
        listened, self.port = self.port, 0
        if listened:
            await self._ui.call(self._shut())

    async def _shut(self) -> None:
        self._threshold.close()
        serving, self._serving = self._serving, None
        if serving is not None:
            await asyncio.wait({serving}, timeout=GRACE)
        self._close_servers()
        self.desk.sessions.end_all("ssh")
        self.desk.answers.close()
        if self.desk.tasks:
            await asyncio.wait(set(self.desk.tasks), timeout=GRACE)
        self.keeper.emptied.clear()
        for gate in list(self.keeper.connections):
            gate.hang_up("The appliance closes its SSH server.")
        try:
            if self.keeper.connections:
                async with asyncio.timeout(GRACE):
                    await self.keeper.emptied.wait()
        except TimeoutError:
            log.warning("%d SSH connections did not close in time and were cut", len(self.keeper.connections))
        for gate in list(self.keeper.connections):
            gate.abort()

    async def health(self) -> HealthReport:
        """Where it listens, and how logins go; unhealthy where its loop hangs."""
        if not self.port:
            return HealthReport(Health.unhealthy, "not listening", "prime-spark service restart ssh")
        if not await self._ui.answers():
            return HealthReport(Health.unhealthy, "the UI loop takes no turns: nobody is served", "restart the appliance.")
        limiter = self.keeper.limiter
        details = {"port": self.port, "failed_logins": limiter.failures, "refused": limiter.refused,
                   "commands": len(self.desk.answers)}  # fmt: skip
        text = f"{self._listen.host}:{self.port}, {self.desk.sessions.count('ssh')} of {self.desk.max_sessions} consoles"
        return HealthReport(Health.healthy, text, details=details)


def _load(path: Path) -> asyncssh.SSHKey:
    """The library and what stands on it, and the key. Raises OSError, StoreError."""
    import appliance.session.sshchannel  # noqa: F401

    return load_host_key(path)
