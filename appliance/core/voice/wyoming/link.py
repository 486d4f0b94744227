"""A connection to a Wyoming server: bounded, counted, and only to where it may go."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

from wyoming.audio import AudioChunk
from wyoming.client import AsyncClient, AsyncTcpClient, AsyncUnixClient
from wyoming.event import Event

from appliance.core.voice.ledger import WithheldError
from appliance.core.voice.model import RATE, WIDTH, Place
from appliance.core.voice.wyoming.wire import ClosedError, read_event
from appliance.errors import VoiceError

CHUNK = 2048
"""Bytes of sound in an event that is sent: 1024 samples, as satellites send them."""


class Sent:
    """What of a request left, as far as it got.

    Args:
        barred: Why no more may leave now; empty where it may. Asked before each piece.
    """

    def __init__(self, barred: Callable[[], str] = lambda: "") -> None:
        self.audio = 0
        """Bytes of sound that were given to the socket."""
        self.text = 0
        """Bytes of text."""
        self.barred = barred


class Link(AsyncClient):
    """One connection; ends with `close`, at once and whatever was still to be sent."""

    async def read_event(self) -> Event:
        """The next event. Raises VoiceError."""
        if self._reader is None:
            raise ClosedError
        return await read_event(self._reader)

    async def write_event(self, event: Event) -> None:
        """Send one. Raises VoiceError."""
        try:
            await super().write_event(event)
        except OSError as error:
            raise ClosedError from error

    def unhurried(self) -> None:
        """Keep nothing in our own memory that was not sent: what was sent can be counted then."""
        if self._writer is not None:
            self._writer.transport.set_write_buffer_limits(high=0)

    async def write_sound(self, pcm: bytes, sent: Sent) -> None:
        """Send a piece of sound, and count what the socket took of it, also where it breaks off. Raises VoiceError."""
        writer = self._writer
        if why := sent.barred():
            raise WithheldError(f"Nothing more is sent: {why}.")
        if writer is None or writer.is_closing():
            raise ClosedError
        before, waiting = sent.audio, 0
        sent.audio += len(pcm)  # at its most, until it is known better
        try:
            await self.write_event(AudioChunk(RATE, WIDTH, 1, pcm).event())
        finally:
            if not writer.is_closing():
                waiting = writer.transport.get_write_buffer_size()
                sent.audio = before + max(0, len(pcm) - waiting)

    def close(self) -> None:
        """Let go of it at once."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.transport.abort()


class _TcpLink(Link, AsyncTcpClient):
    pass


class _UnixLink(Link, AsyncUnixClient):
    pass


async def dial(url: str, place: Place) -> Link:
    """Connect.

    Args:
        url: tcp://host:port or unix:///path.
        place: Where it is; to one in the house no connection leaves it.

    Raises:
        VoiceError: It cannot be reached, or is not in the house.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return await _connect(_UnixLink(parts.path), url)
    addresses = await _resolve(parts.hostname or "", parts.port or 0)
    if place is not Place.cloud and (out := next((each for each in addresses if is_outside(each)), "")):
        told = f"{parts.hostname} is {out}, which is not in the house: nothing was sent."
        raise VoiceError(told, 'set place = "cloud" for that service.')
    errors = []
    for address in addresses:
        try:
            return await _connect(_TcpLink(address, parts.port or 0), url)
        except VoiceError as error:
            errors.append(error)
    raise errors[0]


def is_outside(address: str) -> bool:
    """An IP address that no house has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_global


async def _resolve(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise VoiceError(f"{host} cannot be found: {error}.", "see whether its name is right.") from error
    return list(dict.fromkeys(str(each[4][0]) for each in found))


async def _connect(link: Link, url: str) -> Link:
    try:
        await link.connect()
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise VoiceError(f"It does not answer: {reason}.", f"see whether a Wyoming server runs at {url}.") from error
    return link


@contextlib.asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Give it so long. Raises VoiceError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        told = f"It did not answer within {seconds:g} s."
        raise VoiceError(told, "see how busy it is, or raise its timeout_seconds.") from error
