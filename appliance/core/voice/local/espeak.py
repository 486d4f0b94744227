"""Text to speech with espeak-ng: a sentence takes some ten milliseconds."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.core.voice.local.program_voice import ProgramVoice
from appliance.core.voice.local.programs import espeak_command

LIMIT_SECONDS = 10.0


class Espeak(ProgramVoice):
    """Speaks with espeak-ng (implements engine.TextToSpeech).

    Args:
        language: Its voice, such as "en-us".
        speed: Words a minute.
        environ: Environment of the program; its PATH says where it is.
        limit: Seconds that a text may take.
    """

    def __init__(self, language: str, speed: int, environ: Mapping[str, str], limit: float = LIMIT_SECONDS) -> None:
        super().__init__(f"espeak-ng {language}", environ, limit)
        self._language, self._speed = language, speed

    def command(self) -> list[str]:
        """The program and its arguments. Raises AbsentError."""
        return espeak_command(self._language, self._speed, self._environ)
