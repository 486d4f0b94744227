"""One command under way on another machine."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Coroutine
from typing import Any

from appliance.core.fleet.link_commands import Wrapped, ending
from appliance.core.fleet.link_sudo import Refused, not_begun
from appliance.core.fleet.model import Output
from appliance.core.printable import printable
from appliance.errors import ShellError

log = logging.getLogger(__name__)
BLOCK = 65536
PID = re.compile(rb"[0-9]{1,10}")
PREFACE = 65536
"""Bytes that a login shell may print before the command begins; of more, the end is kept."""
SIGNAL_LIMIT = 10.0
"""Seconds that telling a command to end may take; a laden machine takes long for a session."""
SHOWN = 300
"""Characters of what a machine said that an error shows."""


class Begin:
    """Finds where the command's own output begins in one of its two streams.

    Args:
        mark: Ends what the login shell printed.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self.before = b""
        self.found = False
        self.pid: int | None = None
        """Number of the process there."""

    def take(self, data: bytes) -> bytes:
        """What of `data` is the command's."""
        if self.found:
            return data
        self.before += data
        before, mark, rest = self.before.partition(self._mark)
        number, end, own = rest.partition(b">")
        if mark and end and PID.fullmatch(number):
            self.found, self.before, self.pid = True, before, int(number)
            return own
        self.before = self.before[-PREFACE:]
        return b""


class Running:
    """Carries one command to its end.

    Args:
        process: asyncssh's SSHClientProcess, its streams bytes.
        wrapped: What was sent.
        node: Name of the machine, for errors.
        password: For sudo; empty where it needs none.
    """

    def __init__(self, process: Any, wrapped: Wrapped, node: str, password: bytes = b"") -> None:
        self.process = process
        self._wrapped = wrapped
        self._node = node
        self._password = password
        self._begun = asyncio.Event()
        self._streams = {"stdout": Begin(wrapped.mark), "stderr": Begin(wrapped.mark)}
        self._asked = 0

    async def carry(self, output: Output, stdin: bytes, most: int | None) -> int:
        """Feed it, hand over what it says, and wait for its end.

        Returns:
            Its exit status; the negative number of the signal that ended it.

        Raises:
            ShellError: Cut off, or it said more than `most` bytes; NotAllowedError where it was never begun.
        """
        import asyncssh

        feeding = asyncio.ensure_future(self._feed(stdin))
        try:
            await _together(self._pump("stdout", output, most), self._pump("stderr", output, most))
            await self.process.wait_closed()
        except (OSError, asyncssh.Error) as error:
            raise ShellError(
                f"{self._node} was cut off: {reason_of(error)}; the command may have run.", "look on that machine."
            ) from error
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        return self._status()

    def _status(self) -> int:
        status = self.process.returncode
        if status is None:
            raise ShellError(
                f"{self._node} was cut off in the middle of the command; it may have run.", "look on that machine."
            )
        if not self._begun.is_set():
            raise self._refused()
        return int(status)

    def _refused(self) -> Exception:
        said = b"\n".join(each.before for each in self._streams.values()).replace(self._wrapped.prompt or b"\0", b"")
        text = printable(said.decode(errors="replace").strip())[-SHOWN:]
        return not_begun(Refused(self._node, self._wrapped.sudo, text, self.process.returncode, self._asked))

    async def _pump(self, name: str, output: Output, most: int | None) -> None:
        begin, size = self._streams[name], 0
        while data := await getattr(self.process, name).read(BLOCK):
            own = begin.take(data)
            if begin.found:
                self._begun.set()
            elif name == "stderr" and self._wrapped.prompt:
                self._answer(begin)
            if not own:
                continue
            size += len(own)
            if most is not None and size > most:
                raise ShellError(f"{self._node} answers more than {_size(most)}; it was cut off.", "ask for less.")
            waits = output(name, own)
            if inspect.isawaitable(waits):
                await waits

    def _answer(self, begin: Begin) -> None:
        """Give sudo the password, once; it asks again where that is wrong."""
        asked = begin.before.count(self._wrapped.prompt)
        if asked == self._asked:
            return
        self._asked = asked
        if asked == 1:
            self.process.stdin.write(self._password + b"\n")
        else:
            self.process.stdin.write_eof()

    async def _feed(self, stdin: bytes) -> None:
        """Give the command its input; one that ends before it has read all is no fault."""
        if self._wrapped.prompt:  # until then, what is written would be taken for the password
            await self._begun.wait()
        try:
            self.process.stdin.write(stdin)
            self.process.stdin.write_eof()
            await self.process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return

    async def end(self, connection: Any, patience: float) -> None:
        """End it there: TERM, then KILL, then close the channel.

        Args:
            connection: Its own, for a session besides.
            patience: Seconds that it may take after each.
        """
        import asyncssh

        try:
            await self._begins()
            for signal in ("TERM", "KILL"):
                await self._signal(connection, signal)
                try:
                    async with asyncio.timeout(patience):
                        await self._drained()
                        return
                except TimeoutError:
                    continue
        except (OSError, asyncssh.Error):  # the channel is closed: it has ended, or the link has
            return
        finally:
            self.process.close()

    async def _begins(self) -> None:
        """Wait until it has begun, or has ended: its number is not known before."""
        begun, drained = asyncio.ensure_future(self._begun.wait()), asyncio.ensure_future(self._drained())
        try:
            await asyncio.wait({begun, drained}, timeout=SIGNAL_LIMIT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
            drained.cancel()
            await asyncio.gather(begun, drained, return_exceptions=True)

    async def _signal(self, connection: Any, signal: str) -> None:
        """Through a session of its own, for sshd takes no signals for root; as a signal where there is no room for one."""
        import asyncssh

        pid = next((each.pid for each in self._streams.values() if each.pid is not None), None)
        if pid is not None:
            try:
                async with asyncio.timeout(SIGNAL_LIMIT):
                    other = await connection.create_process(ending(self._wrapped, pid, signal), encoding=None)
                    if self._wrapped.prompt:
                        other.stdin.write(self._password + b"\n")
                    other.stdin.write_eof()
                    await other.wait_closed()
                return
            except (OSError, asyncssh.Error) as error:
                log.debug("%s: no session to end a command with: %s", self._node, reason_of(error))
        self.process.send_signal(signal)

    async def _drained(self) -> None:
        """Wait for its end, throwing away what it still says."""
        await _together(self._dropped("stdout"), self._dropped("stderr"))
        await self.process.wait_closed()

    async def _dropped(self, name: str) -> None:
        while data := await getattr(self.process, name).read(BLOCK):
            if not self._streams[name].found:
                self._streams[name].take(data)
            if self._streams[name].found:
                self._begun.set()


class Kept:
    """Keeps a command's whole output.

    Args:
        node: Name of the machine, for errors.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}

    def take(self, name: str, data: bytes) -> None:
        """See model.Output."""
        self._parts[name].append(data)

    def all(self, name: str) -> bytes:
        """What came."""
        return b"".join(self._parts[name])


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """All of them; where one fails, the others are ended."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"


def reason_of(error: BaseException) -> str:
    """What an error of the SSH client or of the system says, on one line."""
    said = str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error or type(error).__name__)
    return printable(said)[:SHOWN].rstrip(".")
