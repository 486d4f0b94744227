"""Two versions side by side, as lines that any terminal can show."""

from __future__ import annotations

import decimal
import difflib
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Literal

import merge3
import msgspec

from appliance.core.memory.merge import as_text, too_alike
from appliance.core.memory.model import Kind

WIDEST = 1000
"""Characters of a line that are shown."""
DUMPED = 8
"""Bytes of a line of a hexdump; such a line fits into half of 80 columns up to 16 MiB."""

NAMES = MappingProxyType({"\t": "TAB", "\r": "CR", "\x1b": "ESC"})

Mark = Literal["same", "changed", "left", "right"]
By = Literal["", "mine", "theirs", "both"]
_decoder = msgspec.json.Decoder(float_hook=decimal.Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")


class DiffRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a side-by-side view.

    Attributes:
        left: The line of mine; None where only theirs has one.
        right: The line of theirs; None where only mine has one.
        mark: "same", "changed" (both have a line, and they differ), "left" (only mine has it) or "right" (only theirs).
        left_number: Number of the line in mine, from 1; None where there is none.
        right_number: Likewise in theirs.
        by: Who changed this place since the base, as a merge by lines sees it: "both" is where it clashes. Empty where the
            lines are the same, no base is known, or the comparison with it would take too long.
    """

    left: str | None
    right: str | None
    mark: Mark
    left_number: int | None
    right_number: int | None
    by: By = ""


def as_lines(kind: Kind, value: bytes, limit: int) -> tuple[str, ...]:
    """A value as lines to be shown and compared.

    JSON is indented with its fields sorted and all digits kept; text is shown as it is, with control and other unprintable
    characters by name, as <TAB> or <U+202E> (so that a terminal does not obey them and people see them), and with an empty
    last line where it ends in a newline; anything else as its size and a hexdump. What is left out is told as the last
    line, with a hash, so that two values that differ there only do not look the same.

    Args:
        kind: Of the value; JSON that cannot be read is shown as text or hexdump.
        value: The bytes.
        limit: The most lines, the one about what is left out not counted.

    Raises:
        ValueError: The limit is below 1.
    """
    if limit < 1:
        raise ValueError(f"at least one line is shown, not {limit}")
    text = laid_out(kind, value)
    if text is None:
        return (f"binary, {len(value)} bytes", *_dump(value, limit - 1))
    lines = text.split("\n", limit)
    shown = tuple(_printable(line) for line in lines[:limit])
    return (*shown, *(_left_out(rest.count("\n") + 1, "lines", rest.encode()) for rest in lines[limit:]))


def laid_out(kind: Kind, value: bytes) -> str | None:
    """The whole value as text, JSON indented; None where it is not UTF-8 or has a NUL in it."""
    return (_pretty(value) if kind is Kind.json else None) or as_text(value)


def _pretty(value: bytes) -> str | None:
    try:
        return msgspec.json.format(_encoder.encode(_decoder.decode(value)), indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, decimal.InvalidOperation, RecursionError):
        return None


def _printable(line: str) -> str:
    shown, rest = line[:WIDEST], line[WIDEST:]
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else f"<{NAMES.get(char) or f'U+{ord(char):04X}'}>" for char in shown)
    return f"{shown} {_left_out(len(rest), 'characters', rest.encode())}" if rest else shown


def _left_out(count: int, what: str, rest: bytes) -> str:
    return f"... {count} more {what} (SHA-256 {hashlib.sha256(rest).hexdigest()[:12]})"


def _dump(value: bytes, limit: int) -> Iterator[str]:
    shown = min(len(value), limit * DUMPED)
    for start in range(0, shown, DUMPED):
        part = value[start : start + DUMPED]
        readable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{start:06x} {part.hex(' '):<{DUMPED * 3 - 1}} {readable}"
    if shown < len(value):
        yield _left_out(len(value) - shown, "bytes", value[shown:])


def side_by_side(mine: str, theirs: str, base: str | None) -> tuple[DiffRow, ...]:
    """The lines of two versions beside each other.

    Versions with too many lines that repeat are compared line by line at the same place, behind their common start and
    before their common end.

    Args:
        mine: For the left side; only a newline ends a line.
        theirs: For the right side.
        base: The last common version, made into lines in the same way; None where it is not kept.
    """
    left, right = mine.split("\n"), theirs.split("\n")
    old = None if base is None else base.split("\n")
    return tuple(
        _row(left, right, at_left, at_right, by)
        for by, start_left, end_left, start_right, end_right in _regions(old, left, right)
        for at_left, at_right in _pairs(left, right, range(start_left, end_left), range(start_right, end_right))
    )


def _row(left: Sequence[str], right: Sequence[str], at_left: int | None, at_right: int | None, by: By) -> DiffRow:
    one = None if at_left is None else left[at_left]
    other = None if at_right is None else right[at_right]
    mark = _mark(one, other)
    return DiffRow(
        left=one,
        right=other,
        mark=mark,
        left_number=None if at_left is None else at_left + 1,
        right_number=None if at_right is None else at_right + 1,
        by="" if mark == "same" else by,
    )


def _mark(one: str | None, other: str | None) -> Mark:
    if one == other:
        return "same"
    if one is None:
        return "right"
    return "left" if other is None else "changed"


def _regions(base: Sequence[str] | None, left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[By, int, int, int, int]]:
    """Ranges of both sides that belong together, in order and without gaps, with who changed them: the same as in a merge."""
    if base is None or too_alike(base, left) or too_alike(base, right):
        yield "", 0, len(left), 0, len(right)
        return
    at_base = at_left = at_right = 0
    for base_start, base_end, left_start, left_end, right_start, right_end in merge3.Merge3(
        base, left, right
    ).find_sync_regions():
        old, mine, theirs = base[at_base:base_start], left[at_left:left_start], right[at_right:right_start]
        by: By = "mine" if theirs == old else "theirs" if mine == old else "both"
        yield by, at_left, left_start, at_right, right_start
        yield "", left_start, left_end, right_start, right_end
        at_base, at_left, at_right = base_end, left_end, right_end


def _pairs(
    left: Sequence[str], right: Sequence[str], of_left: range, of_right: range
) -> Iterator[tuple[int | None, int | None]]:
    """The places of the lines that belong beside each other, within a range of each side."""
    for i1, i2, j1, j2 in _blocks([left[place] for place in of_left], [right[place] for place in of_right]):
        yield from itertools.zip_longest(of_left[i1:i2], of_right[j1:j2])


def _blocks(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """Ranges of both sides that belong together, in order and without gaps."""
    if not too_alike(left, right):
        yield from (block[1:] for block in difflib.SequenceMatcher(None, left, right).get_opcodes())
        return
    start = _common(left, right)
    end = min(_common(left[::-1], right[::-1]), len(left) - start, len(right) - start)
    yield 0, start, 0, start
    yield start, len(left) - end, start, len(right) - end
    yield len(left) - end, len(left), len(right) - end, len(right)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines at the start are the same."""
    return next(
        (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )
