"""The task types voice_recognition and voice_synthesis: a recording into text, a text into a recording."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import wave
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from appliance.core.tasks.handlers.folders import explained, inside, put_in_place
from appliance.core.tasks.handlers.forms import Form, read
from appliance.core.tasks.wire import Order
from appliance.errors import InvalidArgumentsError, NotFoundError, SoundError, TaskError

if TYPE_CHECKING:
    from appliance.core.voice.model import Speech, Transcript


class Heard(Form, frozen=True, kw_only=True):
    """A recording of this machine, up to five minutes."""

    path: str


class Said(Form, frozen=True, kw_only=True):
    """Words, and the WAV file that they become."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
    target: str
    """An absolute path in one of tasks.folders."""


class RecognitionHandler:
    """Turns recordings into text (implements executor.Handler).

    Args:
        transcribe: Recognises a file. Raises SoundError, VoiceError, NotFoundError.
        able: Whether it can now.
    """

    name = "voice_recognition"
    summary = "Turn a recording of this machine into text"

    def __init__(self, transcribe: Callable[[Path], Awaitable[Transcript]], able: Callable[[], bool]) -> None:
        self._transcribe = transcribe
        self._able = able

    def available(self) -> bool:
        """See executor.Handler."""
        return self._able()

    async def run(self, payload: Any, order: Order) -> Any:
        """See executor.Handler."""
        wanted = read(Heard, payload, self.name)
        if not wanted.path.startswith("/") or "\0" in wanted.path:
            raise InvalidArgumentsError(f"{wanted.path[:100]!r} is no absolute path.", "give a file of this worker's machine.")
        try:
            found = await self._transcribe(Path(wanted.path))
        except (SoundError, NotFoundError) as error:  # the file will be the same
            raise TaskError(error.message, error.next_step, final=True) from error
        return {
            "text": found.text, "engine": found.engine, "place": found.place.value, "seconds": found.seconds,
            "took_ms": found.took_ms, "fell_back": list(found.fell_back),
        }  # fmt: skip


class SynthesisHandler:
    """Turns texts into recordings (implements executor.Handler).

    Args:
        synthesize: Makes the sound. Raises VoiceError, AbsentError.
        folders: Directories that may be written to.
        able: Whether it can now.
    """

    name = "voice_synthesis"
    summary = "Speak a text into a WAV file in a directory of tasks.folders"

    def __init__(
        self, synthesize: Callable[[str], Awaitable[Speech]], folders: Sequence[Path], able: Callable[[], bool]
    ) -> None:
        self._synthesize = synthesize
        self._folders = tuple(folders)
        self._able = able

    def available(self) -> bool:
        """See executor.Handler."""
        return bool(self._folders) and self._able()

    async def run(self, payload: Any, order: Order) -> Any:
        """See executor.Handler."""
        wanted = read(Said, payload, self.name)
        target = await asyncio.to_thread(inside, wanted.target, self._folders)
        speech = await self._synthesize(wanted.text)
        if not speech.pcm:
            raise TaskError("There is nothing in that text that can be said.", "give words.", final=True)
        try:
            size = await asyncio.to_thread(_write, speech, target)
        except OSError as error:
            raise explained(error, target) from error
        return {
            "target": wanted.target, "bytes": size, "seconds": round(speech.seconds, 3), "rate": speech.rate,
            "engine": speech.engine, "place": speech.place.value, "fell_back": list(speech.fell_back),
        }  # fmt: skip


def _write(speech: Speech, target: Path) -> int:
    """Whole, or not at all. Raises OSError."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(speech.rate)
        file.writeframes(speech.pcm)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as out:
            out.write(sound.getvalue())
            out.flush()
            os.fsync(out.fileno())
        put_in_place(part, target)
    finally:
        part.unlink(missing_ok=True)
    return len(sound.getbuffer())
