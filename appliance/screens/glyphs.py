"""What a terminal can show, and the characters that are safe on it.

The Linux console's fonts (Debian's console-setup) lack many characters that terminal emulators have; a session there
uses the console set only, and the driver translates what stock widgets draw.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal


class Colours(IntEnum):
    """How many colours a terminal has."""

    console = 16
    indexed = 256
    true = 1 << 24


@dataclass(frozen=True)
class Caps:
    """What one terminal can do."""

    colours: Colours = Colours.true
    full_glyphs: bool = True
    """It has a font with block elements, braille and the like."""
    mouse: bool = True
    images: Literal["none", "kitty", "sixel"] = "none"

    @property
    def is_console(self) -> bool:
        """A Linux console, or something as plain."""
        return not self.full_glyphs


SAFE_CONSOLE = frozenset(string.printable + "─│┌┐└┘├┤┬┴┼═║╔╗╚╝━┃╭╮╰╯█░▒←↑→↓▲▼▶◀●•✗°…–—µ€·«»±×äöüÄÖÜßéèáàíóúñ¡¿§¶©®£¥")
"""Characters that Debian's console fonts have."""

CONSOLE_TRANSLATE = str.maketrans(
    {
        **dict.fromkeys("▁▂▃▄▅▆▇▀▔▕▏▎▍▌▋▊▉▐", "█"),
        **dict.fromkeys("▖▗▘▙▚▛▜▝▞▟▓", "▒"),
        "╸": "─", "╺": "─", "╹": "│", "╻": "│", "╶": "─", "╴": "─", "╵": "│", "╷": "│",
        "○": "o", "⭘": "o", "◯": "o", "◉": "●", "◌": "o", "✓": "+", "✔": "+", "✕": "✗", "✖": "✗", "☐": " ",
        "›": ">", "‹": "<", "❯": ">", "❮": "<", "▸": "▶", "◂": "◀", "▾": "▼", "▴": "▲", "▷": "▶", "▽": "▼",
        "“": '"', "”": '"', "‘": "'", "’": "'", "⣿": "█", "⠀": " ", "⏎": "<", "⌃": "^", "⇧": "^", "⚠": "!", "⌄": "v",
        "┄": "─", "┆": "│", "┈": "─", "┊": "│", "╌": "─", "╎": "│",
        "\u00a0": " ", "\u2009": " ",
    }
)  # fmt: skip
"""Last safety net in the driver: what a font lacks → what comes nearest."""


@dataclass(frozen=True)
class Glyphs:
    """The characters that our own widgets draw with."""

    spark: str
    """Columns of a sparkline, one character high, low to high; the first is nothing."""
    fill: str
    track: str
    ok: str
    warn: str
    bad: str
    none: str


FULL = Glyphs(spark=" ▁▂▃▄▅▆▇█", fill="━", track="─", ok="●", warn="▲", bad="✗", none="–")
CONSOLE = Glyphs(spark=" .:░▒█", fill="█", track="░", ok="●", warn="▲", bad="✗", none="–")


def glyphs_for(caps: Caps) -> Glyphs:
    """The set for a terminal."""
    return FULL if caps.full_glyphs else CONSOLE


def unsafe(text: str) -> set[str]:
    """Characters of a text that the console's fonts lack; control characters are not looked at."""
    return {char for char in text if char not in SAFE_CONSOLE and char >= " "}
