"""Text to speech with piper, where the operator has installed it with a voice: more like a human being, and slower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from appliance.core.voice.local.program_voice import ProgramVoice
from appliance.core.voice.local.programs import piper_command

LIMIT_SECONDS = 30.0
"""It loads its voice for each text."""


class Piper(ProgramVoice):
    """Speaks with the program piper (implements engine.TextToSpeech).

    Args:
        voice: Path of a voice, *.onnx; its .json lies beside it.
        environ: Environment of the program; its PATH says where it is.
        limit: Seconds that a text may take.
    """

    def __init__(self, voice: str, environ: Mapping[str, str], limit: float = LIMIT_SECONDS) -> None:
        super().__init__(f"piper {Path(voice).stem}", environ, limit)
        self._voice = voice

    def command(self) -> list[str]:
        """The program and its arguments. Raises AbsentError."""
        return piper_command(self._voice, self._environ)
