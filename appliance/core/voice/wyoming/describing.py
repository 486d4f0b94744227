"""What the appliance says of itself to Wyoming clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wyoming.info import AsrModel, AsrProgram, Attribution, Info, Satellite, TtsProgram, TtsVoice, WakeModel, WakeProgram

if TYPE_CHECKING:
    from appliance.core.voice.wyoming.server import Ground

PROGRAM = "prime-spark"
OURS = Attribution("Prime Spark", "")


def describe(ground: Ground, satellite: bool) -> Info:
    """Its services.

    Args:
        ground: What the server stands on.
        satellite: Its microphone and speaker may be used.
    """
    plain: dict[str, Any] = {"attribution": OURS, "installed": True, "version": ground.version or None}
    languages = [ground.language]
    hears = AsrModel(name=ground.model or "default", description="Speech to text", languages=languages, **plain)
    voice = TtsVoice(name=ground.voice or "default", description="Text to speech", languages=languages, **plain)
    words = [
        WakeModel(name=wake_name(phrase), phrase=phrase, description=phrase, languages=languages, **plain)
        for phrase in (ground.wake_words if ground.ears is not None else ())
    ]
    told = "Microphone and speaker of this appliance"
    return Info(
        asr=[AsrProgram(name=PROGRAM, description="Speech to text", models=[hears], **plain)],
        tts=[TtsProgram(name=PROGRAM, description="Text to speech", voices=[voice], **plain)],
        wake=[WakeProgram(name=PROGRAM, description="Wake words", models=words, **plain)] if words else [],
        satellite=Satellite(name=PROGRAM, description=told, has_vad=True, **plain) if satellite else None,
    )


def wake_name(phrase: str) -> str:
    """A wake word as names of models have it: "hey_spark"."""
    return phrase.strip().lower().replace(" ", "_")
