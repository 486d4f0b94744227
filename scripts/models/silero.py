"""Sound: Silero's voice activity detector, version 6, in the form that takes all windows of a recording in one run."""

from __future__ import annotations

import io
import wave

from scripts.models.recipe import Members, Package, Part, Recipe

NAME = "silero-vad"
SPEECH = "webrtcvad-2.0.10/test-audio.raw"


def as_wave(members: Members) -> bytes:
    """The package's speech (16 bit, 8 kHz, bare) as a WAV file."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(members[SPEECH][: len(members[SPEECH]) // 2 * 2])
    return target.getvalue()


RECIPE = Recipe(
    facts={
        "name": NAME,
        "version": "6.0",
        "task": "audio",
        "licence": "MIT (Silero VAD, and the package faster-whisper); the self-test's speech is of webrtcvad, MIT.",
        "source": "PyPI faster-whisper 1.2.1 (silero_vad_v6.onnx); speech: PyPI webrtcvad 2.0.10",
        "labels": ["speech"],
        "sound": {"name": "input", "rate": 16000, "window": 512, "hop": 512},
        "decode": {
            "head": "activity",
            "state_in": ["h", "c"],
            "state_out": ["hn", "cn"],
            "state_shape": [1, 1, 128],
            "context": 64,
        },
        "expects": [{"label": "speech", "score": 0.8}],
    },
    parts=(
        Part(
            f"{NAME}.onnx",
            "onnx",
            "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2",
            Package("faster-whisper==1.2.1", "79a66ad50688c0b794dd501dc340a736992a6342f7f95e5811be60b5224a26a7"),
            ("faster_whisper/assets/silero_vad_v6.onnx",),
        ),
        Part(
            "speech.wav",
            "self-test",
            "d8651373b641ae1a46db3467715eedb154ac0b19f5c304a020879e5875f036de",
            Package("webrtcvad==2.0.10", "f1bed2fb25b63fb7b1a55d64090c993c9c9167b28485ae0bcdd81cf6ede96aea", sdist=True),
            (SPEECH,),
            as_wave,
        ),
    ),
)
