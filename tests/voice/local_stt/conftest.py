"""The engine, its model, and speech of programs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import appliance
from appliance.core.clock import SystemClock
from appliance.core.voice.local import files
from appliance.core.voice.local.recognizer import LocalSpeechToText
from appliance.core.voice.model import Sentences
from tests.support import capability
from tests.voice.detect.speech import said

MODELS = Path(appliance.__file__).resolve().parent.parent / ".models"
SERVICES = ("redis", "kafka", "grafana", "minio", "prometheus", "mosquitto")
TEXTS = (
    *(f"{verb} the {service} service" for verb in ("restart", "stop", "start") for service in SERVICES),
    *(f"{verb} service {service}" for verb in ("restart", "stop", "start") for service in SERVICES),
    *(f"set power mode to {mode}" for mode in ("off grid", "eco", "balanced", "grid")),
    *(f"set the volume to {number} percent" for number in ("twenty", "twenty five", "forty", "ninety")),
    *("what is the battery level", "what is the temperature", "what is the temperature of the nas", "is the vpn up"),
    *("run the backup task", "show the last detections", "what can you do", "yes", "no", "stop", "cancel"),
)
GRAMMAR = Sentences("grammar", TEXTS, ("hey spark", "hey prime"))


def say(text: str, voice: str) -> bytes:
    """A text in a voice of espeak-ng or flite, as the microphone gives it."""
    return bytes(said(text, voice).clip(-32768, 32767).astype("<i2").tobytes())


@pytest.fixture(scope="session")
def models() -> Path:
    """The directory of models, with that of the recognition."""
    capability((MODELS / "voice" / files.NAME / files.MANIFEST).is_file(), "the model that recognises speech")
    return MODELS


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(models: Path) -> AsyncIterator[LocalSpeechToText]:
    """One for the tests that do it no harm."""
    engine = LocalSpeechToText(models, SystemClock(), os.environ)
    yield engine
    await engine.close()


@pytest.fixture
async def engine(models: Path) -> AsyncIterator[LocalSpeechToText]:
    """One of the test's own, which waits two seconds."""
    own = LocalSpeechToText(models, SystemClock(), os.environ, patience=2.0)
    yield own
    await own.close()
