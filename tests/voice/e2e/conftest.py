"""One appliance for the tests of this folder; speech to text is another machine's first, where sound may leave the house."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from appliance.core.clock import SystemClock
from appliance.core.voice.local.recognizer import LocalSpeechToText
from appliance.core.voice.model import NO_SENTENCES, Sentences
from appliance.core.voice.words import normal
from tests.servers.sound import SoundRoom
from tests.support import capability
from tests.voice.e2e.rig import MODELS, VoiceAppliance

SETTINGS = """
[voice]
role = "viewer"
follow_up_seconds = 0
speaker = "Desk_Speaker"
voice_speed = 200
stt = ["away", "local"]

[voice.services.away]
url = "tcp://127.0.0.1:{port}"
place = "cloud"
kinds = ["stt"]

[wyoming]
enabled = true
port = 0
"""


OTHERS = (
    "i did not understand that", "the battery is full", "three alerts are active", "all services are well",
    "you may not do that", "it is four in the morning", "no node is down", "done",
)  # fmt: skip
"""What it might say as well."""


class Scene:
    """The room, the appliance in it, the other machine, and a listener who writes down what is said."""

    def __init__(
        self, room: SoundRoom, spark: VoiceAppliance, engine: subprocess.Popen[bytes], writer: LocalSpeechToText
    ) -> None:
        self.room, self.spark, self.engine = room, spark, engine
        self._writer = writer

    async def words(self, pcm: bytes) -> str:
        """What the sound says, as plain words."""
        return normal((await self._writer.transcribe(pcm, NO_SENTENCES)).text)

    async def which(self, pcm: bytes, reply: str) -> str:
        """Which is said, a reply or one of others."""
        texts = (normal(reply), *OTHERS)
        found = await self._writer.transcribe(pcm, Sentences(normal(reply), texts))
        return found.guesses[0].text if found.guesses else found.text


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """All of it, started once."""
    capability((MODELS / "voice/moonshine-tiny-en").is_dir(), "the model that recognises speech")
    directory = tmp_path_factory.mktemp("voice")
    home = directory / "home"
    home.mkdir(mode=0o700)
    command = [sys.executable, "-m", "tests.voice.e2e.engine", str(MODELS)]
    with SoundRoom(directory / "room") as room, subprocess.Popen(command, stdout=subprocess.PIPE) as engine:
        spark = VoiceAppliance(home, room)
        writer = LocalSpeechToText(MODELS, SystemClock(), os.environ)
        try:
            assert engine.stdout is not None
            port = (await asyncio.to_thread(engine.stdout.readline)).decode().strip()
            spark.start(SETTINGS.format(port=port))
            await spark.ready()
            yield Scene(room, spark, engine, writer)
        finally:
            spark.stop()
            await writer.close()
            engine.kill()
