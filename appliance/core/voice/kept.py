"""Sound of utterances, kept only where the operator wants it: in the memory, for some days, and never outside the house."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from appliance.core.printable import printable
from appliance.core.voice.model import RATE, WIDTH
from appliance.errors import NotFoundError

if TYPE_CHECKING:
    from appliance.core.memory.memory import Memory

NAMESPACE = "voice"
"""The memory keeps it at home; see memory.keys.AT_HOME."""
PREFIX = "sound/"
DAY = 86400.0
TAG = 64
"""Characters of the words that are kept with it."""
PAGE = 500


class Recording(msgspec.Struct, frozen=True):
    """A kept utterance."""

    key: str
    time: float
    """Wall clock."""
    words: str
    """The first of them."""
    bytes: int
    seconds: float
    expires: float | None


def wav(pcm: bytes, rate: int = RATE) -> bytes:
    """Mono 16-bit sound as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(WIDTH)
        out.setframerate(rate)
        out.writeframes(pcm)
    return file.getvalue()


def unwav(data: bytes) -> tuple[bytes, int]:
    """Sound and rate of a file of `wav`. Raises wave.Error, EOFError."""
    with wave.open(io.BytesIO(data)) as file:
        return file.readframes(file.getnframes()), file.getframerate()


class KeptSound:
    """Keeps, lists, gives and forgets.

    Args:
        memory: Where.
        days: Until they are gone.
    """

    def __init__(self, memory: Callable[[], Memory], days: float) -> None:
        self._memory = memory
        self._seconds = days * DAY

    async def keep(self, utterance_id: str, pcm: bytes, words: str) -> str:
        """Keep it; returns its key. Raises as Memory.set."""
        key = PREFIX + utterance_id
        told = printable(words)[:TAG].strip()
        await self._memory().set(key, wav(pcm), namespace=NAMESPACE, ttl=self._seconds, tags=[told] if told else [])
        return key

    async def get(self, key: str) -> tuple[bytes, int]:
        """Sound and rate. Raises NotFoundError, and as Memory.get."""
        found = await self._memory().get(key, NAMESPACE) if key.startswith(PREFIX) else None
        try:
            return unwav(found) if isinstance(found, bytes) else _missing(key)
        except (wave.Error, EOFError):
            return _missing(key)

    async def all(self) -> tuple[Recording, ...]:
        """Those that are kept, newest first. Raises StoreError."""
        from appliance.core.memory.listing import Query

        found: list[Recording] = []
        cursor = ""
        while True:
            query = Query(namespace=NAMESPACE, prefix=PREFIX, cursor=cursor, limit=PAGE)
            page = await self._memory().scan(query)
            for entry in page.entries:
                meta = entry.meta
                seconds = max(0, meta.size - 44) / WIDTH / RATE
                found.append(
                    Recording(meta.key, meta.modified, " ".join(meta.tags), meta.size, round(seconds, 2), meta.expires)
                )
            cursor = page.cursor
            if not cursor:
                return tuple(sorted(found, key=lambda each: -each.time))

    async def forget(self, key: str) -> int:
        """Forget one, or "all"; returns how many. Raises NotFoundError, and as Memory.delete."""
        keys = [each.key for each in await self.all()] if key == "all" else [key]
        if key != "all" and not key.startswith(PREFIX):
            _missing(key)
        gone = [await self._memory().delete(each, NAMESPACE) for each in keys]
        if key != "all" and not gone[0]:
            _missing(key)
        return sum(gone)


def _missing(key: str) -> tuple[bytes, int]:
    raise NotFoundError(f"No sound is kept as {key!r}.", "list them with `prime-spark voice recordings`.")
