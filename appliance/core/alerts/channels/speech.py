"""The channel speech: a real program makes the sound, and ALSA's aplay brings it out."""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance.core.alerts.channels.model import DeliveryError, Notice
from appliance.core.alerts.channels.rendering import spoken
from appliance.core.voice.local.programs import ProgramError, espeak_command, output, piper_command
from appliance.core.voice.local.spoken import speakable
from appliance.errors import AbsentError
from appliance.settingalerts import AlertChannel

PLAY_SECONDS = 60.0
"""So much longer than making it may playing a message take."""


class Speech:
    """Says messages aloud (implements posting.Adapter).

    Args:
        wanted: The channel's settings.

    Raises:
        AbsentError: A program that it needs is not installed.
    """

    hidden: tuple[str, ...] = ()

    def __init__(self, wanted: AlertChannel) -> None:
        self._timeout = wanted.timeout_seconds
        self._maker = maker(wanted)
        player = shutil.which("aplay")
        if player is None:
            raise AbsentError("aplay, which plays sound, is not installed", "apt install alsa-utils")
        self._player = [player, "-q", *(["-D", wanted.device] if wanted.device else []), "-"]

    async def send(self, notice: Notice, delivery_id: str, wall: float) -> str:
        """Say a message; returns how much sound was played. Raises DeliveryError."""
        sound = await _ran(self._maker, speakable(spoken(notice)).encode(), self._timeout)
        if not sound:
            raise DeliveryError(f"{Path(self._maker[0]).name} made no sound", "see the channel's voice.")
        await _ran(self._player, sound, self._timeout + PLAY_SECONDS, playing=True)
        return f"played {len(sound) // 1024} KiB of sound"

    async def close(self) -> None:
        """Nothing is held."""


async def _ran(command: list[str], given: bytes, limit: float, *, playing: bool = False) -> bytes:
    """Run a program that makes or plays sound. Raises DeliveryError."""
    try:
        return await output(command, given, limit)
    except ProgramError as error:
        step = "see the sound device (`aplay -l`) and the channel's device and voice."
        raise DeliveryError(error.message, step, retry=error.again or playing) from None


def maker(wanted: AlertChannel) -> list[str]:
    """The command that makes a WAV file of the text that it is given. Raises AbsentError."""
    program = wanted.program
    if program == "auto":
        program = "piper" if wanted.voice.endswith(".onnx") else "espeak-ng"
    return piper_command(wanted.voice) if program == "piper" else espeak_command(wanted.voice)
