"""The task types voice_recognition and voice_synthesis, with the real voice and the real recognition."""

from __future__ import annotations

import os
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import appliance
from appliance.core.clock import SystemClock
from appliance.core.tasks.handlers.voice import RecognitionHandler, SynthesisHandler
from appliance.core.voice.local.espeak import Espeak
from appliance.core.voice.local.files import installed
from appliance.core.voice.local.recognizer import LocalSpeechToText
from appliance.core.voice.model import NO_SENTENCES, Speech, Transcript
from appliance.errors import InvalidArgumentsError, NotAuthorizedError, SoundError, TaskError
from tests.support import capability, needs_program
from tests.tasks.test_handlers import ORDER

MODELS = Path(appliance.__file__).resolve().parent.parent / ".models"


@pytest.fixture
async def recognition() -> AsyncIterator[LocalSpeechToText]:
    capability(installed([MODELS]), "the model of the speech recognition")
    made = LocalSpeechToText(MODELS, SystemClock(), dict(os.environ))
    yield made
    await made.close()


async def test_what_is_said_into_a_file_is_heard_from_it(tmp_path: Path, recognition: LocalSpeechToText) -> None:
    needs_program("espeak-ng")
    voice = Espeak("en-us", 150, dict(os.environ))
    said = await SynthesisHandler(voice.synthesize, [tmp_path], lambda: True).run(
        {"text": "What can you do?", "target": f"{tmp_path}/new/said.wav"}, ORDER
    )
    path = Path(said["target"])
    assert (said["bytes"], said["engine"]) == (path.stat().st_size, "espeak-ng en-us")
    with wave.open(str(path)) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(said["seconds"], abs=0.01)
    assert [each.name for each in path.parent.iterdir()] == ["said.wav"]

    async def transcribe(path: Path) -> Transcript:
        from appliance.core.voice.desk import _mono

        return await recognition.transcribe(_mono(path.read_bytes(), str(path)), NO_SENTENCES)

    heard = await RecognitionHandler(transcribe, lambda: True).run({"path": str(path)}, ORDER)
    assert heard["text"].lower().rstrip("?.") == "what can you do"
    assert (heard["engine"], heard["place"]) == ("local", "local")


async def test_what_cannot_be_done_is_said_and_not_tried_again(tmp_path: Path) -> None:
    async def silent(_: str) -> Speech:
        return Speech(b"", 16000, "local")

    async def no_sound(path: Path) -> Transcript:
        raise SoundError(f"{path} is no recording.", "give a WAV file.")

    speaking = SynthesisHandler(silent, [tmp_path], lambda: True)
    hearing = RecognitionHandler(no_sound, lambda: True)
    with pytest.raises(NotAuthorizedError):
        await speaking.run({"text": "hello", "target": "/etc/hello.wav"}, ORDER)
    for handler, payload in ((speaking, {"text": "…", "target": f"{tmp_path}/x.wav"}), (hearing, {"path": f"{tmp_path}/x"})):
        with pytest.raises(TaskError) as caught:
            await handler.run(payload, ORDER)
        assert caught.value.final
    for handler, payload in ((speaking, {"text": "", "target": "/x"}), (hearing, {}), (hearing, {"path": "relative"})):
        with pytest.raises(InvalidArgumentsError):
            await handler.run(payload, ORDER)
    assert not SynthesisHandler(silent, [], lambda: True).available(), "there is nowhere to write to"
    assert list(tmp_path.iterdir()) == []
