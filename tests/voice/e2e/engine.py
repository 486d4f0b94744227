"""Speech to text for others, in a process of its own: `python -m tests.voice.e2e.engine MODELS`; it prints its port.

After SIGUSR1 it says when it has all of an utterance, and answers nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStop
from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.server import AsyncEventHandler, AsyncServer

from appliance.core.clock import SystemClock
from appliance.core.voice.local.recognizer import LocalSpeechToText
from appliance.core.voice.model import NO_SENTENCES
from tests.support import free_port

FACTS: dict[str, Any] = {"attribution": Attribution("", ""), "installed": True, "version": "1", "description": None}
INFO = Info(asr=[AsrProgram("remote", models=[AsrModel("moonshine", languages=["en"], **FACTS)], **FACTS)])


SILENT = asyncio.Event()


def told(line: str) -> None:
    """Say something to whoever has started it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Handler(AsyncEventHandler):
    """One connection."""

    def __init__(self, local: LocalSpeechToText, *args: Any) -> None:
        super().__init__(*args)
        self._local = local
        self._pcm = b""

    async def handle_event(self, event: Event) -> bool:
        if Describe.is_type(event.type):
            await self.write_event(INFO.event())
        elif AudioChunk.is_type(event.type):
            self._pcm += AudioChunk.from_event(event).audio
        elif AudioStop.is_type(event.type):
            if SILENT.is_set():
                told("hearing")
                await asyncio.Event().wait()
            heard = await self._local.transcribe(self._pcm, NO_SENTENCES)
            await self.write_event(Transcript(text=heard.text).event())
            self._pcm = b""
        return True


async def main(models: Path) -> None:
    local = LocalSpeechToText(models, SystemClock(), os.environ)
    await local.transcribe(bytes(32000), NO_SENTENCES)
    port = free_port()
    server = AsyncServer.from_uri(f"tcp://127.0.0.1:{port}")
    await server.start(partial(Handler, local))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, SILENT.set)
    told(str(port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
