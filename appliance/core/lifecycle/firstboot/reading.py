"""Reads the first-boot file as people's editors write it, and finds where something stands in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance.errors import ConfigError

BOM = b"\xef\xbb\xbf"
MOST = 1 << 20
"""Bytes; a larger file is none of ours."""
WIDE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
STRAYS = re.compile(r"(?i)^[._~#]*prime-spark.*toml.*|.*prime-spark.*\.(bak|swp|swo|tmp|old|orig|save)$")
KNOWN = frozenset({"prime-spark.toml", "prime-spark.toml.example", "prime-spark-settings.toml"})
TEXT = ".txt"
QUOTES = re.compile("[“”„‟‘’‚‛«»‹›″＂]")
"""What word processors make of quotes."""


class FileError(ConfigError):
    """Something in the first-boot file is wrong.

    Args:
        path: The file.
        line: Where, from 1; None for the whole of it.
        what: What is wrong, without the place.
        next_step: What to write instead.
    """

    def __init__(self, path: Path, line: int | None, what: str, next_step: str) -> None:
        super().__init__(f"{path}:{line}: {what}." if line else f"{path}: {what}.", next_step)
        self.path, self.line, self.what = path, line, what


def read(path: Path) -> bytes:
    """The file as it is. Raises FileError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST + 1)
    except OSError as error:
        raise FileError(path, None, f"it cannot be read: {error.strerror}", "write it anew, or check the card.") from error
    if len(raw) > MOST:
        raise FileError(path, None, f"it has more than {MOST >> 20} MiB", "is this the right file?")
    return raw


def together(faults: Sequence[FileError]) -> FileError:
    """All that is wrong, as the first error with the others, in the order of the lines."""
    first, *others = sorted(faults, key=lambda each: each.line or 0)
    first.others = tuple(others)
    return first


def decode(path: Path, raw: bytes) -> str:
    """Its text, without the mark that some editors put first. Raises FileError, naming the line."""
    if raw and not raw.strip(b"\0"):
        step = "write it anew, and eject the card before it is taken out."
        raise FileError(path, None, "nothing was written into it: the card was taken out, or the power went, too early", step)
    if b"\0" in raw and not _wide(raw):
        raise FileError(path, None, "this is no text", "is this the right file? write it anew.")
    if b"\0" in raw or raw[:2] in WIDE:
        step = 'save it as UTF-8: in Notepad, "Save as", then Encoding: UTF-8 (not "Unicode").'
        raise FileError(path, None, "it is written in UTF-16", step)
    try:
        return raw.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.removeprefix(BOM)[: error.start].count(b"\n") + 1
        raise FileError(path, line, "this line is no UTF-8", "save the file as UTF-8.") from None


def _wide(raw: bytes) -> bool:
    """Whether it is UTF-16: by its mark, or because every second byte of plain letters is zero there."""
    head = raw[:200]
    even, odd = head[::2].count(0), head[1::2].count(0)
    return raw[:2] in WIDE or (min(even, odd) == 0 and max(even, odd) > len(head) // 4)


def parse(path: Path, text: str) -> dict[str, Any]:
    """Its tables. Raises FileError, naming the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        told = re.match(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
        line = int(told[2]) if told and told[2] else text.count("\n") + 1
        step = 'mend this line: KEY = VALUE below its [TABLE], texts in quotes ("…"), each key only once.'
        if found := QUOTES.findall("".join(text.splitlines()[line - 1 : line])):
            step = f'{" and ".join(dict.fromkeys(found))} are other signs than the straight quotes that belong here: write "…".'
        raise FileError(path, line, f"this is no TOML: {told[1] if told else error}", step) from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists in lists
        raise FileError(path, None, f"this is more than can be read: {error}", "write it simpler.") from None


def strays(boot: Path) -> tuple[str, ...]:
    """Copies that editors and systems leave beside the file; they may hold its secrets."""
    try:
        names = sorted(each.name for each in boot.iterdir() if each.is_file())
    except OSError:
        return ()
    return tuple(name for name in names if name.lower() not in KNOWN and STRAYS.match(name))


def line_of(text: str, key: tuple[str | int, ...]) -> int:
    """The line (from 1) where a key, or the nearest table above it, is written; lists of tables are counted."""
    wanted = tuple(str(each) for each in key)
    counts: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            table = _counted(_parts(header[2]), counts, new=header[1] == "[[")
            full = table
        elif pair := re.match(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""", line):
            full = (*table, *_parts(pair[1]))
        else:
            continue
        if len(full) > depth and full == wanted[: len(full)]:
            best, depth = number, len(full)
    return best


def _counted(parts: tuple[str, ...], counts: dict[tuple[str, ...], int], *, new: bool) -> tuple[str, ...]:
    """The path of a header, with the number of each list's newest table in it."""
    path: tuple[str, ...] = ()
    for index, part in enumerate(parts):
        path = (*path, part)
        if new and index == len(parts) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, str(counts[path]))
    return path


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(each.strip().strip("\"'") for each in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", dotted))
