"""The font of the machine's own screen has every character that the console draws there."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import pytest
from filetree import FILES

from appliance.screens.glyphs import SAFE_CONSOLE
from tests.support import needs_program

FONTS = Path("/usr/share/consolefonts")


def characters(font: bytes) -> set[str]:
    """Those that a PC Screen Font, version 2, has glyphs for."""
    magic, _, header, flags, glyphs, size = struct.unpack("<6I", font[:24])
    assert magic == 0x864AB572
    assert flags & 1, "it has no table of characters"
    rows = font[header + glyphs * size :].split(b"\xff")[:glyphs]
    return {char for row in rows for char in row.partition(b"\xfe")[0].decode()}


def characters_1(font: bytes) -> set[str]:
    """Those that a PC Screen Font, version 1, has glyphs for: 0xFFFF ends a glyph's, 0xFFFE begins sequences."""
    mode, height = font[2], font[3]
    assert mode & 6, "it has no table of characters"
    table = font[4 + (512 if mode & 1 else 256) * height :]
    rows = "".join(chr(code) for code in struct.unpack(f"<{len(table) // 2}H", table)).split("\uffff")
    return {char for row in rows for char in row.partition("\ufffe")[0]}


@pytest.mark.parametrize("size", ["16", "32x16"])
def test_the_font_has_every_character_of_the_console(size: str) -> None:
    needs_program("setupcon")  # of the package that brings the fonts
    named = re.findall(r"\$fonts/(\S+\.psf\.gz)", (FILES / "root/usr/lib/prime-spark/vt-setup").read_text())
    font = gzip.decompress((FONTS / next(each for each in named if each.endswith(f"s{size}.psf.gz"))).read_bytes())
    has = characters_1(font) if font.startswith(b"\x36\x04") else characters(font)
    assert {char for char in SAFE_CONSOLE if char.isprintable()} - has == set()
