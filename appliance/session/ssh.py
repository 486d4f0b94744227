"""The embedded SSH server: the console, its text twins, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from appliance.core.model import Health, HealthReport
from appliance.core.secrets import write_private
from appliance.errors import StoreError
from appliance.session.answers import TextCommand
from appliance.session.gate import Accounts, Doorkeeper, Gate, Note
from appliance.session.manager import Sessions
from appliance.session.sshchannel import Desk, SshSession
from appliance.session.ui import UiThread

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
        self._server: asyncssh.SSHAcceptor | None = None
        self.port = 0
        """The port in use; 0 while not listening."""

    async def start(self) -> None:
        """Make the host key where missing, and listen. Raises OSError, StoreError."""
        key = await asyncio.to_thread(load_host_key, self._listen.host_key)
        self._server = await self._ui.call(self._open(key))
        self.port = self._server.get_port()
        self._deaf = self._accounts.listen(self._revoked)

    def _revoked(self, name: str) -> None:
        self._ui.loop.call_soon_threadsafe(self._end_user, name)

    def _end_user(self, name: str) -> None:
        """End whatever a user has open, after a moment for the last words; on the UI loop."""
        self.desk.sessions.end_all("ssh", name)
        for gate in self.keeper.gates_of(name):
            log.info("the connection of %s from %s ends: the account was changed", name, gate.address)
            self._ui.loop.call_later(LAST_WORDS, gate.hang_up, "This account was changed. Log in again.")

    async def _open(self, key: asyncssh.SSHKey) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            self._listen.host,
            self._listen.port,
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
        return Gate(self.keeper, lambda gate: SshSession(self.desk, gate))

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Close the port, all SSH consoles and all connections."""
        self._deaf()
        server, self._server, self.port = self._server, None, 0
        if server is not None:
            await self._ui.call(self._shut(server))

    async def _shut(self, server: asyncssh.SSHAcceptor) -> None:
        server.close()
        self.desk.sessions.end_all("ssh")
        self.desk.answers.close()
        if self.desk.tasks:
            await asyncio.wait(set(self.desk.tasks), timeout=GRACE)
        self.keeper.emptied.clear()
        for gate in list(self.keeper.connections):
            gate.hang_up("The appliance closes its SSH server.")
        try:
            if self.keeper.connections:
                await asyncio.wait_for(self.keeper.emptied.wait(), GRACE)
        except TimeoutError:
            log.warning("%d SSH connections did not close in time and were cut", len(self.keeper.connections))
        for gate in list(self.keeper.connections):
            gate.abort()

    async def health(self) -> HealthReport:
        """Where it listens, and how logins go; unhealthy where its loop hangs."""
        if self._server is None:
            return HealthReport(Health.unhealthy, "not listening", "prime-spark service restart ssh")
        if not await self._ui.answers():
            return HealthReport(Health.unhealthy, "the UI loop takes no turns: nobody is served", "restart the appliance.")
        limiter = self.keeper.limiter
        details = {"port": self.port, "failed_logins": limiter.failures, "refused": limiter.refused,
                   "commands": len(self.desk.answers)}  # fmt: skip
        text = f"{self._listen.host}:{self.port}, {self.desk.sessions.count('ssh')} of {self.desk.max_sessions} consoles"
        return HealthReport(Health.healthy, text, details=details)


def load_host_key(path: Path) -> asyncssh.SSHKey:
    """The server's key, Ed25519; made and kept, mode 0600, where missing. Raises OSError, StoreError."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, asyncssh.generate_private_key("ssh-ed25519", comment="prime-spark").export_private_key())
    if path.stat().st_mode & 0o077:
        log.warning("the SSH host key %s could be read by others; now it cannot, but make a new one", path)
        path.chmod(0o600)
    try:
        return asyncssh.read_private_key(path)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise StoreError(
            f"The SSH host key {path} cannot be used: {error}.", f"restore it, or remove it to have a new one made: rm {path}"
        ) from error
