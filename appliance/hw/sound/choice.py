"""Which of PortAudio's devices is meant, and how it is opened. Rows are as PortAudio lists them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
"""index, name, inputs, outputs, rate, default_input, default_output."""
RESPEAKER = re.compile(r"respeaker|seeed|uac1", re.IGNORECASE)
"""What a ReSpeaker array calls itself, in all its firmware."""
ARRAY_CHANNELS = 6
"""Of the firmware that gives the raw microphones too; the first is the processed one."""

BROKEN = "mend or remove ~/.asoundrc and /etc/asound.conf; then: prime-spark doctor portaudio"
"""The next step where ALSA's configuration keeps PortAudio from working."""


class NoSuchDeviceError(LookupError):
    """No device fits; the message says which there are."""


def is_respeaker(name: str) -> bool:
    """Whether a device's name is that of a ReSpeaker array."""
    return RESPEAKER.search(name) is not None


def choose(rows: Sequence[Row], wanted: str, kind: str) -> Row:
    """The device that is meant.

    Args:
        rows: All devices.
        wanted: Part of its name; "auto" or "" for a ReSpeaker (input), else the system's default.
        kind: "input" or "output".

    Raises:
        NoSuchDeviceError: There is none.
    """
    fit = [row for row in rows if row[f"{kind}s"] > 0]
    if not fit:
        raise NoSuchDeviceError(f"There is no sound {kind} device")
    if wanted in ("", "auto"):
        arrays = [row for row in fit if is_respeaker(row["name"])] if kind == "input" else []
        defaults = [row for row in fit if row[f"default_{kind}"]]
        return (arrays or defaults or fit)[0]
    named = [row for row in fit if plain(wanted) in plain(row["name"])]
    exact = [row for row in named if plain(row["name"]) == plain(wanted)]
    if not named:
        raise NoSuchDeviceError(
            f'No sound {kind} device is called "{wanted}"; there are {", ".join(row["name"] for row in fit)}'
        )
    return (exact or named)[0]


def plain(name: str) -> str:
    """A name without the differences that ALSA makes of blanks, and without case."""
    return name.casefold().replace("_", " ").strip()


def input_channels(row: Row) -> tuple[int, ...]:
    """Numbers of channels to open a microphone with, best first."""
    most = int(row["inputs"])
    array = most == ARRAY_CHANNELS or (most > ARRAY_CHANNELS and is_respeaker(row["name"]))
    return unique((*((ARRAY_CHANNELS,) if array else ()), 1, 2, most), most)


def output_channels(row: Row) -> tuple[int, ...]:
    """Likewise for a speaker: both sides where it has two."""
    most = int(row["outputs"])
    return unique((2, 1, most), most)


def rates(row: Row, wanted: int) -> tuple[int, ...]:
    """Samples a second to open a device with, best first; all but the wanted one need conversion."""
    return unique((wanted, int(row["rate"]), 48000, 44100), None)


def unique(values: Sequence[int], most: int | None) -> tuple[int, ...]:
    """The positive ones up to a limit, each once, in order."""
    return tuple(dict.fromkeys(value for value in values if value > 0 and (most is None or value <= most)))
