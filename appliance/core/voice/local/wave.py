"""WAV files as programs pipe them: sizes in their headers are not to be believed."""

from __future__ import annotations

import struct

from appliance.core.voice.model import WIDTH
from appliance.errors import VoiceError

PCM = (0x0001, 0xFFFE)
"""Formats of plain samples: WAVE_FORMAT_PCM, WAVE_FORMAT_EXTENSIBLE."""


def unwrapped(wav: bytes) -> tuple[bytes, int]:
    """The samples of a WAV file, mono, 16 bit, and its rate.

    A program that writes into a pipe does not know how much will come: the size of the data may be 0, or more than there is.
    Then all that follows is data.

    Raises:
        VoiceError: It is no WAV file, a damaged one, or not mono with 16 bits.
    """
    if len(wav) < 12 or wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
        raise VoiceError("what came is no WAV file", "see the program that made it.")
    at, rate = 12, 0
    while at + 8 <= len(wav):
        name, size = wav[at : at + 4], int.from_bytes(wav[at + 4 : at + 8], "little")
        at += 8
        if name == b"data":
            if not rate:
                raise VoiceError("the WAV file tells no format before its sound", "see the program that made it.")
            data = wav[at:] if size == 0 or at + size > len(wav) else wav[at : at + size]
            return data[: len(data) // WIDTH * WIDTH], rate
        if name == b"fmt ":
            rate = _rate(wav[at : at + size])
        at += size + size % 2
    raise VoiceError("the WAV file has no sound in it", "see the program that made it.")


def _rate(head: bytes) -> int:
    if len(head) < 16:
        raise VoiceError("the format of the WAV file is cut off", "see the program that made it.")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", head[:16])
    if kind not in PCM or channels != 1 or bits != 8 * WIDTH or not 4000 <= rate <= 192_000:
        told = f"the sound has {channels} channels of {bits} bits at {rate} Hz, where one of 16 bits is wanted"
        raise VoiceError(told, "set another voice.")
    return int(rate)
