"""Events of the Wyoming protocol, read with bounds: the package itself believes every length that it is told."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from wyoming.event import Event, async_read_event

from appliance.errors import VoiceError

LINE = 64 * 1024
"""Most bytes of an event's first line; asyncio's own limit."""
DATA = 2 * 2**20
"""Most bytes of an event's data: a description with hundreds of voices has some hundred thousand."""
PAYLOAD = 4 * 2**20
"""Most bytes of sound in one event."""
NONSENSE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""What reading data of the wrong shape raises."""


class NonsenseError(VoiceError):
    """What came is no event of the protocol."""

    def __init__(self, what: str) -> None:
        super().__init__(f"It talks nonsense: {what}.", "see whether a Wyoming server listens at that address.")


class ClosedError(VoiceError):
    """The other side closed the connection."""

    def __init__(self) -> None:
        super().__init__("It closed the connection.", "see its log.")


class _Guarded:
    """A reader for the package's own function, which takes no more bytes than an event may have."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.line = b""
        self._parts = 0

    async def readline(self) -> bytes:
        self.line = await self._reader.readline()
        return self.line

    async def readexactly(self, count: Any) -> bytes:
        self._parts += 1
        data = self._parts == 1 and b'"data_length"' in self.line
        if not isinstance(count, int) or count > (DATA if data else PAYLOAD):
            raise NonsenseError(f"an event of {count!r:.40} bytes")
        return await self._reader.readexactly(count)


async def read_event(reader: asyncio.StreamReader) -> Event:
    """The next event.

    Raises:
        NonsenseError: What came is no event.
        ClosedError: The other side closed the connection, perhaps in the middle of one.
    """
    guarded = _Guarded(reader)
    try:
        event = await async_read_event(cast("asyncio.StreamReader", guarded))
    except asyncio.IncompleteReadError as error:
        raise ClosedError from error
    except OSError as error:
        raise ClosedError from error
    except NONSENSE as error:
        raise NonsenseError(_shown(guarded.line)) from error
    if event is None:  # the package says so for an end and for what it cannot read
        if not guarded.line and reader.at_eof():
            raise ClosedError
        raise NonsenseError(_shown(guarded.line))
    if not isinstance(event.type, str) or not isinstance(event.data, dict):
        raise NonsenseError(_shown(guarded.line))
    return event


def _shown(line: bytes) -> str:
    if not line:
        return f"a line of more than {LINE} bytes"
    return f"{line[:40]!r}" + ("…" if len(line) > 40 else "")
