"""A QR code in characters, for a terminal's font and colours."""

from __future__ import annotations

from collections.abc import Sequence

HALVES = {"00": "█", "01": "▀", "10": "▄", "11": " "}
"""Upper and lower module → a character; light modules are drawn."""


def drawn(rows: Sequence[str], *, full: bool, dark_on_light: bool = False) -> list[str]:
    """The code's lines.

    Args:
        rows: Of 0 (light) and 1 (dark), with the quiet zone.
        full: The font has half blocks: two rows a line. Else full blocks, two characters a module.
        dark_on_light: The terminal's text is darker than its background.
    """
    if dark_on_light:
        rows = [row.translate(str.maketrans("01", "10")) for row in rows]
    return _halves(rows) if full else ["".join("██" if module == "0" else "  " for module in row) for row in rows]


def _halves(rows: Sequence[str]) -> list[str]:
    even = [*rows, "0" * len(rows[0])] if len(rows) % 2 else list(rows)
    pairs = zip(even[::2], even[1::2], strict=True)
    return ["".join(HALVES[upper + lower] for upper, lower in zip(*pair, strict=True)) for pair in pairs]


LEAST = 61
"""Modules of the smallest code that a peer's file makes: 240 characters are one of version 10; and its quiet zone."""


def least_room(*, full: bool) -> tuple[int, int]:
    """Columns and lines that any peer's code takes at least."""
    return room(("0" * LEAST,) * LEAST, full=full)


def room(rows: Sequence[str], *, full: bool) -> tuple[int, int]:
    """Columns and lines that a code takes."""
    size = len(rows)
    return (size, (size + 1) // 2) if full else (2 * size, size)
