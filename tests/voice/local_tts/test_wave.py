"""WAV files out of pipes: their sizes are not believed, and nothing else is taken for sound."""

from __future__ import annotations

import io
import struct
import wave

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.voice.local.wave import unwrapped
from appliance.errors import VoiceError

SOUND = struct.pack("<6h", 1, -1, 2, -2, 32767, -32768)


def made(channels: int = 1, width: int = 2, rate: int = 22050, sound: bytes = SOUND) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(sound)
    return target.getvalue()


def test_a_whole_file_is_taken() -> None:
    assert unwrapped(made()) == (SOUND, 22050)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF, len(SOUND) + 2], ids=["zero", "espeak", "full", "cut-off"])
def test_a_size_that_is_not_true_means_all_that_follows(size: int) -> None:
    wav = made()
    assert unwrapped(wav[:40] + struct.pack("<I", size) + wav[44:]) == (SOUND, 22050)


def test_other_parts_are_passed_over() -> None:
    wav = made()
    listed = b"LIST" + struct.pack("<I", 5) + b"about\0"
    assert unwrapped(wav[:12] + listed + wav[12:36] + listed + wav[36:] + listed) == (SOUND, 22050)


def test_half_a_sample_at_the_end_is_none() -> None:
    assert unwrapped(made()[:-1]) == (SOUND[:-2], 22050)


@pytest.mark.parametrize(
    ("wav", "told"),
    [
        (b"", "no WAV file"),
        (b"Error: no voice", "no WAV file"),
        (made()[:36], "no sound in it"),
        (made()[:12] + made()[36:], "no format before its sound"),
        (made()[:16] + struct.pack("<I", 4) + made()[20:24] + made()[36:], "cut off"),
        (made(channels=2), "2 channels of 16 bits at 22050 Hz"),
        (made(width=1), "1 channels of 8 bits"),
        (made(rate=100), "at 100 Hz"),
    ],
    ids=["empty", "text", "no-data", "no-format", "short-format", "stereo", "8-bit", "rate"],
)
def test_what_is_no_such_sound_is_refused(wav: bytes, told: str) -> None:
    with pytest.raises(VoiceError, match=told):
        unwrapped(wav)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 60), st.binary(max_size=12), st.integers(0, 20))
def test_damage_is_told_or_gives_sound(at: int, bad: bytes, cut: int) -> None:
    wav = made()
    wav = wav[:at] + bad + wav[at + len(bad) : len(wav) - cut]
    try:
        pcm, rate = unwrapped(wav)
    except VoiceError:
        return
    assert len(pcm) % 2 == 0
    assert 4000 <= rate <= 192_000
