"""The channel speech: a real program makes the sound, and ALSA's aplay brings it out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

from appliance.core.alerts.channels.model import DeliveryError, Notice
from appliance.core.alerts.channels.rendering import one_line, spoken
from appliance.errors import AbsentError
from appliance.settingalerts import AlertChannel

LARGEST = 32 * 1024 * 1024
"""Bytes of sound that one message may make."""


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
        sound = await self._run(self._maker, spoken(notice).encode())
        if not sound:
            raise DeliveryError(f"{Path(self._maker[0]).name} made no sound", "see the channel's voice.")
        if len(sound) > LARGEST:
            raise DeliveryError("the sound is too long", "see the channel's voice.")
        await self._run(self._player, sound, playing=True)
        return f"played {len(sound) // 1024} KiB of sound"

    async def _run(self, command: list[str], given: bytes, *, playing: bool = False) -> bytes:
        name = Path(command[0]).name
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except OSError as error:
            raise DeliveryError(f"{name} cannot be run: {error.strerror}", "see its installation.", retry=True) from None
        try:
            async with asyncio.timeout(self._timeout + (60.0 if playing else 0.0)):
                out, said = await process.communicate(given)
        except TimeoutError:
            raise DeliveryError(f"{name} did not end in time", "see the sound device; it is tried again.", retry=True) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it started holds its pipes
                await process.wait()
        if process.returncode:
            told = one_line(f"{name} ended with {process.returncode}: {said.decode(errors='replace')}", 200)
            raise DeliveryError(told, "see the sound device (`aplay -l`) and the channel's device and voice.", retry=playing)
        return out

    async def close(self) -> None:
        """Nothing is held."""


def maker(wanted: AlertChannel) -> list[str]:
    """The command that makes a WAV file of the text that it is given. Raises AbsentError."""
    program = wanted.program
    if program == "auto":
        program = "piper" if wanted.voice.endswith(".onnx") else "espeak-ng"
    path = shutil.which(program)
    if path is None:
        how = "apt install espeak-ng" if program == "espeak-ng" else "pip install piper-tts, and set voice to its .onnx file"
        raise AbsentError(f"{program}, which speaks, is not installed", how)
    if program == "piper":
        if not Path(wanted.voice).is_file():
            raise AbsentError(f"the voice {wanted.voice!r} of piper is not there", "set voice to the path of its .onnx file.")
        return [path, "--model", wanted.voice, "--output_file", "-"]
    return [path, "--stdin", "--stdout", *(["-v", wanted.voice] if wanted.voice else [])]
