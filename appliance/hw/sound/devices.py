"""The sound devices of this machine, through PortAudio (implements ports.Sound)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.core.model import Device
from appliance.core.voice.model import RATE, SoundDevice
from appliance.hw.sound import detection

if TYPE_CHECKING:
    from appliance.hw.sound.microphone import PortAudioMicrophone
    from appliance.hw.sound.speaker import PortAudioSpeaker


class PortAudioSound:
    """Microphones and speakers, each with a process of its own; none runs before one is used.

    Args:
        environ: Environment variables of those processes, with PATH and HOME.
        root: Where /dev, /proc and /run are looked for.
    """

    def __init__(self, environ: Mapping[str, str], root: Path = Path("/")) -> None:
        self._environ, self._root = dict(environ), root
        self._microphones: dict[tuple[str, int], PortAudioMicrophone] = {}
        self._speakers: list[PortAudioSpeaker] = []

    def detect(self) -> Device:
        """Say cheaply, without opening anything, whether a microphone is there, and why not; blocks for some milliseconds."""
        return detection.microphone(self._environ, self._root)

    async def devices(self) -> tuple[SoundDevice, ...]:
        """What PortAudio lists now. Raises AbsentError where it is not installed, DeviceError where it fails."""
        from appliance.hw.sound.child import START, Child

        child = await Child.start(self._environ, {"mode": "list"})
        try:
            told = await child.event(START)
        finally:
            await child.close()
        return msgspec.convert(told["devices"], tuple[SoundDevice, ...])

    def microphone(self, name: str = "auto", rate: int = RATE) -> PortAudioMicrophone:
        """A microphone; nothing is opened yet. Whoever asks for the same one again gets it, with all that it has counted.

        Args:
            name: Part of its name; "auto" for a ReSpeaker, else the system's default.
            rate: Samples a second to open it with.
        """
        from appliance.hw.sound.microphone import PortAudioMicrophone

        microphone = self._microphones.get((name, rate))
        if microphone is None:
            microphone = self._microphones[name, rate] = PortAudioMicrophone(self._environ, name, rate)
        return microphone

    def speaker(self, name: str = "auto", volume: float = 1.0) -> PortAudioSpeaker:
        """A speaker; nothing is opened yet.

        Args:
            name: Part of its name; "auto" for the system's default.
            volume: 0 to 1.
        """
        from appliance.hw.sound.speaker import PortAudioSpeaker

        speaker = PortAudioSpeaker(self._environ, name, volume)
        self._speakers.append(speaker)
        return speaker

    async def close(self) -> None:
        """Let go of everything; whoever listens or plays is told."""
        users: list[PortAudioMicrophone | PortAudioSpeaker] = [*self._microphones.values(), *self._speakers]
        self._microphones.clear()
        self._speakers.clear()
        for user in users:
            await user.close()
