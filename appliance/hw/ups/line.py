"""A conversation of lines with a daemon, over TCP or a UNIX socket."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from appliance.errors import DeviceError, DeviceStalledError
from appliance.hw.lane import Lane

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

LIMIT = 2.0
"""Seconds for one conversation, connecting included."""
LOOKUP = 1.5
"""Seconds for a name."""
ADDRESSES = 3
"""Of a name that are tried."""
LONGEST = 8192
"""Bytes of a line."""


class Place(Protocol):
    """Where a daemon listens."""

    async def open(self) -> Streams:
        """A connection. Raises OSError, DeviceError."""

    def close(self) -> None:
        """Let go of what opening needed; it may be opened again."""


class LineLink:
    """One connection, made when it is needed.

    A conversation that fails or is cancelled in its midst closes it: an answer that came too late is never taken for
    another's. One that was open already and turns out to be dead is made anew at once, and the conversation repeated: what
    is said here only asks.

    Args:
        what: Whom it reaches, in words.
        next_step: What to do where nobody answers there.
        place: Opens it.
        greet: Said first on every new connection.
        limit: Seconds for one conversation.
    """

    def __init__(
        self,
        what: str,
        next_step: str,
        place: Place,
        greet: Callable[[LineLink], Awaitable[None]] | None = None,
        limit: float = LIMIT,
    ) -> None:
        self.what = what
        self._next_step = next_step
        self._place = place
        self._greet = greet
        self._limit = limit
        self._streams: Streams | None = None
        self._lock = asyncio.Lock()

    async def ask(self, talk: Callable[[LineLink], Awaitable[T]]) -> T:
        """Have a conversation. Raises DeviceError, DeviceStalledError, and what `talk` raises.

        Args:
            talk: Sends and reads lines; what it makes of them is returned.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(self._limit):
                    return await self._twice(talk)
            except TimeoutError as error:
                raise DeviceStalledError(f"{self.what} does not answer within {self._limit:g} s.", self._next_step) from error
            except asyncio.IncompleteReadError as error:
                raise DeviceError(f"{self.what} closed the connection.", self._next_step) from error
            except asyncio.LimitOverrunError as error:
                raise DeviceError(f"{self.what} sent a line of more than {LONGEST} bytes.", self._next_step) from error
            except socket.gaierror as error:
                raise DeviceError(f"{self.what}: the name is not known ({error.strerror}).", self._next_step) from error
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else str(error)
                raise DeviceError(f"{self.what}: {why}.", self._next_step) from error

    async def send(self, *lines: str) -> None:
        """Send lines. Raises OSError."""
        _, writer = self._open
        writer.write("".join(f"{line}\n" for line in lines).encode())
        await writer.drain()

    async def line(self) -> str:
        """The next line, without its end. Raises IncompleteReadError, LimitOverrunError, OSError."""
        reader, _ = self._open
        return (await reader.readuntil(b"\n")).decode(errors="replace").rstrip("\r\n")

    def garbled(self, text: str) -> DeviceError:
        """What to raise on an answer that makes no sense; closes the connection."""
        self.drop()
        return DeviceError(f"{self.what} sent what makes no sense: {text[:80]!r}.", self._next_step)

    def drop(self) -> None:
        """Close it; the next conversation makes another."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()

    async def close(self, farewell: str = "") -> None:
        """Say a last line where it is open, and close it."""
        async with self._lock:
            if self._streams is not None and farewell:
                self._streams[1].write(f"{farewell}\n".encode())
                self._streams[1].close()
                self._streams = None
            self.drop()
            self._place.close()

    @property
    def _open(self) -> Streams:
        if self._streams is None:
            raise ConnectionResetError("the connection was closed")
        return self._streams

    async def _twice(self, talk: Callable[[LineLink], Awaitable[T]]) -> T:
        fresh = self._streams is None
        try:
            return await self._once(talk)
        except (asyncio.IncompleteReadError, ConnectionError):
            if fresh:
                raise
            return await self._once(talk)

    async def _once(self, talk: Callable[[LineLink], Awaitable[T]]) -> T:
        if self._streams is None:
            await self._begin()
        try:
            return await talk(self)
        except DeviceError:  # said in words: the connection is good, or was dropped where it was not
            raise
        except BaseException:
            self.drop()
            raise

    async def _begin(self) -> None:
        self._streams = await self._place.open()
        try:
            if self._greet is not None:
                await self._greet(self)
        except BaseException:  # an unwelcome guest begins anew the next time
            self.drop()
            raise


class Tcp:
    """Opens TCP connections. A name is looked up in a lane of its own: one that hangs takes no more than one thread.

    Args:
        host: Name or address.
        port: Number.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lane = Lane(f"the look-up of {host}", "name an address instead, or mend this machine's DNS.")

    async def open(self) -> Streams:
        """A connection to the first address that takes one. Raises OSError, DeviceStalledError."""
        failed = OSError(f"{self._host} has no address")
        for address in await self._addresses():
            try:
                return await asyncio.open_connection(address, self._port, limit=LONGEST)
            except OSError as error:
                failed = error
        raise failed

    def close(self) -> None:
        """Let the lane's thread end."""
        self._lane.close()

    async def _addresses(self) -> list[str]:
        if _literal(self._host):
            return [self._host]
        return await self._lane.run(lambda: _addresses(self._host, self._port), LOOKUP)


def _literal(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return False


def _addresses(host: str, port: int) -> list[str]:
    """The first few addresses of a name. Blocks; raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a name that no DNS can have, such as one with a part of 64 letters
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from error
    return list(dict.fromkeys(str(each[4][0]) for each in found))[:ADDRESSES]
