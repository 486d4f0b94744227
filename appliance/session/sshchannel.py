"""One channel of an SSH connection: a console, or one command's answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
from typing import Any

import asyncssh

from appliance.errors import ApplianceError
from appliance.errortext import error_text
from appliance.session.answers import Errand
from appliance.session.caps import caps_of, size_of
from appliance.session.desk import Desk
from appliance.session.gate import Gate
from appliance.session.manager import Session
from appliance.session.remote import Bridge

log = logging.getLogger(__name__)

USAGE = "This is the console of a Prime Spark appliance. Use a terminal (ssh -t), or give a command such as: status\n"
HIGH, LOW = 256 * 1024, 64 * 1024
"""Bytes that may wait for the network: above HIGH frames are dropped until LOW is reached."""
LOOK_AGAIN = 0.2
"""Seconds between looks at a network that stalls."""
LAST_WORD = 1.0
"""Seconds that a client has to close its side of a channel."""
WIDTH = 200
"""Columns of an answer that goes to no terminal."""


class SshSession(asyncssh.SSHServerSession[bytes]):
    """One channel (implements driver.Channel).

    Args:
        desk: What all channels share.
        gate: Its connection.
    """

    def __init__(self, desk: Desk, gate: Gate) -> None:
        self._desk = desk
        self._gate = gate
        self._chan: asyncssh.SSHServerChannel[bytes] | None = None
        self._session: Session | None = None
        self._bridge: Bridge | None = None
        self._command: str | None = None
        self._errand = Errand()
        self._window_shut = False
        self._watching: asyncio.TimerHandle | None = None
        self._pty = False

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
        self._desk.begin(self._work())

    async def _work(self) -> None:
        try:
            if self._command is not None:
                await self._answer(self._command)
            elif self._pty:
                await self._console()
            else:
                self._say(USAGE, 1)
        except Exception as error:
            log.exception("a channel of %s failed", self._gate.address)
            self._say(f"error: {type(error).__name__}; the appliance's log says more.\n", 1)
        if self._chan is not None:  # who hangs up before the client's last word makes it see a broken connection
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._chan.wait_closed(), LAST_WORD)

    async def _console(self) -> None:
        chan, sessions = self._chan, self._desk.sessions
        if chan is None:
            return
        if sessions.count("ssh") >= self._desk.max_sessions:
            self._say(f"All {self._desk.max_sessions} SSH consoles are in use. Close one, or try again later.\n", 1)
            return
        environ = {key: value for key, value in chan.get_environment().items() if isinstance(value, str)}
        term = chan.get_terminal_type() or ""
        caps = caps_of({**environ, "TERM": term})
        columns, rows = chan.get_terminal_size()[:2]
        self._session = sessions.create(self._gate.actor(), self, caps, (columns, rows), term)
        await sessions.run(self._session)

    async def _answer(self, command: str) -> None:
        try:
            arguments = shlex.split(command)
        except ValueError as error:
            self._say(f"error: this command line is not understood: {error}\n", 2)
            return
        if arguments[:2] == ["fleet", "shell"] and len(arguments) == 3 and self._pty and not arguments[2].startswith("-"):
            await self._shell(arguments[2])
            return
        width = self._chan.get_terminal_size()[0] if self._chan is not None else 0
        code, text = await self._desk.answers.answer(arguments, self._gate.actor(), width or WIDTH, self._errand)
        self._say(text, code)

    async def _shell(self, node: str) -> None:
        """A shell on a node, on the terminal of this channel."""
        chan = self._chan
        if chan is None:
            return

        def opened(bridge: Bridge) -> None:
            self._bridge = bridge

        sessions, size = self._desk.sessions, chan.get_terminal_size()[:2]
        try:
            end = await sessions.shell(self._gate.actor(), self, node, chan.get_terminal_type() or "", size, opened)
        except ApplianceError as error:
            self._say(error_text(error) + "\n", error.exit_code)
            return
        finally:
            self._bridge = None
        if end.broken:
            self._say(f"\n{error_text(ApplianceError(end.reason, end.next_step))}\n", 1)
        else:
            self._say("" if end.status is not None else f"shell on {node}: {end.reason}\n", end.status or 0)

    def _say(self, text: str, code: int) -> None:
        """Write a text and end the channel."""
        self.write(text.replace("\n", "\r\n" if self._pty else "\n").encode("utf-8", "replace"))
        if self._chan is not None and not self._chan.is_closing():
            self._chan.exit(code)

    def data_received(self, data: bytes, datatype: Any) -> None:
        """Keys, or a command's standard input."""
        if self._session is not None:
            self._session.feed(data)
        elif self._bridge is not None:
            self._bridge.feed(data)
        elif self._command is not None:
            self._errand.feed(data)

    def signal_received(self, signal: str) -> None:
        """The client asks for an end."""
        self._errand.cancel()

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """Another size."""
        if self._session is not None:
            self._session.resize(width, height)
        elif self._bridge is not None:
            self._bridge.resize(*size_of(width, height))

    def eof_received(self) -> bool:
        """No more keys: the console ends, an answer goes on."""
        if self._session is not None:
            self._session.end()
        if self._bridge is not None:
            self._bridge.leave("the terminal was closed")
        self._errand.eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nobody waits for an answer."""
        self._chan = None
        self._errand.cancel()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        session, self._session = self._session, None
        if session is not None:
            session.end()
        if self._bridge is not None:
            self._bridge.leave("the terminal was closed")

    def pause_writing(self) -> None:
        """The client does not take more: frames are dropped from here on."""
        self._window_shut = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._window_shut = False
        self._tell_resumed()

    @property
    def paused(self) -> bool:
        """The client, or the network before it, does not keep up."""
        return self._window_shut or self._watching is not None

    def write(self, data: bytes) -> None:
        """Send, and look at what the network left lying."""
        if self._chan is None or self._chan.is_closing():
            return
        self._chan.write(data)
        if self._watching is None and self._gate.backlog() > HIGH:
            self._watch()

    def _watch(self) -> None:
        self._watching = asyncio.get_running_loop().call_later(LOOK_AGAIN, self._look)

    def _look(self) -> None:
        if self._gate.backlog() > LOW:
            self._watch()
        else:
            self._watching = None
            self._tell_resumed()

    def _tell_resumed(self) -> None:
        if self._session is not None and not self.paused:
            self._session.resumed()
        elif self._bridge is not None and not self.paused:
            self._bridge.resumed()

    def close(self) -> None:
        """End the channel; a client that takes nothing is not waited for."""
        if self._chan is None or self._chan.is_closing():
            return
        if self.paused:
            self._chan.abort()
        else:
            self._chan.exit(0)
