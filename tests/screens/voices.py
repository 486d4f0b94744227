"""States of the voice, as its service puts them: what the page and the command line are held against."""

from __future__ import annotations

from typing import Any

from appliance.core.model import Health
from appliance.core.voice.model import (
    ArrayStatus,
    EngineStatus,
    LedgerTotals,
    MicrophoneStatus,
    Outcome,
    Place,
    SoundLevel,
    SpeakerStatus,
    Stage,
    Timings,
    Utterance,
    VoiceStatus,
    WakeStatus,
)

NOW = 1_800_000_000.0
MICROPHONE = MicrophoneStatus("ReSpeaker 4 Mic Array", 6, open=True, since=NOW - 4000)
SPEAKER = SpeakerStatus("Desk Speaker", True)
ARRAY = ArrayStatus("ReSpeaker USB 4-Mic Array", "3.0", 113, True, {"AGCGAIN": 3.0})
WAKE = (
    WakeStatus("hey spark", "speech recognition", 0.12, 0.83, 0.5, 12, NOW - 70),
    WakeStatus("hey prime", "hey_prime.json", 0.02, 0.1, 0.5),
)
BROKEN = (WakeStatus("hey prime", "hey_prime.json", problem="its model cannot be read"),)
LOCAL = EngineStatus("local", "stt", Place.local, Health.healthy, "loaded", model="moonshine-tiny-en", used=31, last_ms=340.0)
AWAY = EngineStatus(
    "attic", "stt", Place.edge, Health.unhealthy, "it does not answer", "start its server", used=3, failed=4, last_ms=810.0
)
TIMINGS = Timings(1200.0, 290.0, 340.0, 4.0, 21.0, 44.0, 655.0, 720.0)
BANDS = (-70.0, -62, -48, -40, -33, -30, -36, -42, -39, -45, -51, -58, -55, -62, -70, -80)


def level(**more: Any) -> SoundLevel:
    """A sound of now; somebody speaks at 113 degrees."""
    values: dict[str, Any] = {
        "time": NOW, "rms_db": -31.0, "peak_db": -14.5, "bands": BANDS, "speech": 0.92, "direction": 113,
    }  # fmt: skip
    return SoundLevel(**{**values, **more})


def utterance(number: int = 0, **more: Any) -> Utterance:
    """One turn."""
    values: dict[str, Any] = {
        "utterance_id": f"u{number}", "time": NOW - 60 * number, "origin": "microphone", "wake_word": "hey spark",
        "wake_score": 0.83, "words": "what is the battery", "engine": "local", "outcome": Outcome.done,
        "action": "power.status", "reply": "The battery is at 80 percent.", "confidence": 0.93, "timings": TIMINGS,
    }  # fmt: skip
    return Utterance(**{**values, **more})


def status(stage: Stage = Stage.idle, **more: Any) -> VoiceStatus:
    """A voice that works."""
    values: dict[str, Any] = {
        "stage": stage, "since": NOW - 12, "microphone": MICROPHONE, "speaker": SPEAKER, "array": ARRAY, "wake": WAKE,
        "engines": (LOCAL,), "utterances": (utterance(),), "ledger": LedgerTotals(cap_bytes=50 * 2**20),
        "counts": {"done": 31, "unknown": 2}, "server": "tcp://127.0.0.1:10700", "clients": 1,
    }  # fmt: skip
    return VoiceStatus(**{**values, **more})


def absent() -> VoiceStatus:
    """No microphone."""
    microphone = MicrophoneStatus("auto", problem="No microphone was found.", next_step="connect a USB microphone.")
    return VoiceStatus(Stage.absent, NOW - 50, microphone)
