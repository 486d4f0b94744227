"""Strikes the secrets out of an applied file, in place, and notes in it that it was applied.

A file on FAT that is written anew leaves its old clusters as they were. So every secret is overwritten by as many asterisks
where it stands, and the table [applied] is put behind what there was. Both can be repeated: a cut leaves a file whose first
`Record.length` bytes, its secrets struck out, are those of the record.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable, Array, String, StringType, Trivia

from appliance.core.lifecycle.firstboot.model import Record
from appliance.core.lifecycle.firstboot.reading import BOM, FileError

LISTS = {"users": ("password", "password_hash"), "wifi": ("password",)}
RESTORE = ("key", "passphrase")
MASK = "*"
REMARK = re.compile(r"\s*#.*(password|passphrase|password_hash)\s*=\s*[\x22'][^\x22'*]{2,}")


def masked(text: str) -> str:
    """The text with its secrets struck out; as many bytes as before. Raises TOMLKitError where it is no TOML."""
    document: Any = tomlkit.parse(text)
    for holder, key in _secrets(document):
        holder[key] = _struck(holder[key])
    return tomlkit.dumps(document)


def _secrets(document: Any) -> Iterator[tuple[Any, Any]]:
    """(what holds it, its key) of every text that is a secret."""
    for name, keys in LISTS.items():
        tables = document.get(name)
        for table in tables if isinstance(tables, list) else ():
            if isinstance(table, dict):
                yield from _texts(table, keys)
    mounts = document.get("mounts")
    for table in mounts.values() if isinstance(mounts, dict) else ():
        if isinstance(table, dict):
            yield from _texts(table, ("password",))
    for name, wanted in (("secrets", None), ("restore", RESTORE)):
        if isinstance(table := document.get(name), dict):
            yield from _texts(table, wanted)


def _texts(table: Any, keys: tuple[str, ...] | None) -> Iterator[tuple[Any, Any]]:
    for key in list(table):
        value = table[key]
        if keys is not None and key not in keys:
            continue
        if isinstance(value, String):
            yield table, key
        elif isinstance(value, Array):
            yield from ((value, index) for index, each in enumerate(value) if isinstance(each, String))
        elif isinstance(value, AbstractTable | dict):
            yield from _texts(value, None)


def _struck(value: String) -> String:
    """As many asterisks as it takes bytes, between the same quotes, with what stands behind it."""
    plain = value.as_string()
    kind = next(
        each for each in (StringType.MLB, StringType.MLL, StringType.SLB, StringType.SLL) if plain.startswith(each.value)
    )
    size = len(plain.encode()) - 2 * len(kind.value)
    old: Trivia = value.trivia
    return String(kind, MASK * size, MASK * size, Trivia(old.indent, old.comment_ws, old.comment, old.trail))


def check(path: Path, text: str) -> None:
    """Whether its secrets could be struck out. Raises FileError."""
    try:
        found, same = masked(text), tomlkit.dumps(tomlkit.parse(text))
        left = [holder[key] for holder, key in _secrets(tomlkit.parse(found)) if holder[key].strip(MASK)]
    except TOMLKitError as error:
        raise FileError(path, None, f"this is no TOML: {error}", "mend it.") from None
    if left or same != text or len(found.encode()) != len(text.encode()):
        step = "write each password on a line of its own, in plain quotes."
        raise FileError(path, None, "its passwords could not be struck out later", step)


def mark(raw: bytes) -> str:
    """SHA-256 of a file with its secrets struck out. Raises UnicodeDecodeError, TOMLKitError."""
    return hashlib.sha256(masked(raw.removeprefix(BOM).decode()).encode()).hexdigest()


def is_that(raw: bytes, record: Record) -> bool:
    """Whether this is the file of which the record tells, whatever of its secrets is struck out already."""
    try:
        return len(raw) >= record.length and mark(raw[: record.length]) == record.masked
    except (UnicodeDecodeError, TOMLKitError):
        return False


def holds_secrets(raw: bytes) -> bool:
    """Whether a file has secrets that are not struck out; one that is no TOML has none that could be told from the rest."""
    try:
        text = raw.removeprefix(BOM).decode()
        return masked(text) != text
    except (UnicodeDecodeError, TOMLKitError):
        return False


def note(record: Record) -> bytes:
    """What is put behind an applied file."""
    table = {"clock": record.clock, "device": record.device, "version": record.version}
    head = (
        "\n\n# This machine applied the file and struck its secrets out. To have it applied again: write them anew, and take\n"
        "# this table away. The clock may have been wrong.\n"
    )
    return (head + tomlkit.dumps({"applied": table})).encode()


def strike_out(path: Path, record: Record) -> None:
    """Strike the secrets out of the file and put the note behind it; blocks until it is on the card. Can be repeated.

    Raises:
        OSError: The card refuses.
    """
    raw = path.read_bytes()
    if not is_that(raw, record):
        return
    before = raw[: record.length]
    mark_ = BOM if before.startswith(BOM) else b""
    after = mark_ + masked(before.removeprefix(BOM).decode()).encode()
    tail = note(record)
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if before != after:
            _put(descriptor, after, 0)
        if raw[record.length :] != tail:
            _put(descriptor, tail, record.length)
            os.ftruncate(descriptor, record.length + len(tail))
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for name in record.files:
        overwrite(path.parent / name)


def _put(descriptor: int, value: bytes, start: int) -> None:
    done = 0
    while done < len(value):
        done += os.pwrite(descriptor, value[done:], start + done)
    os.fsync(descriptor)


def overwrite(path: Path) -> None:
    """Overwrite a file by asterisks where it stands; nothing where it is gone. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        _put(descriptor, MASK.encode() * os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


def remarks(text: str) -> tuple[str, ...]:
    """Lines that are remarks and look as if they held a password; these stay as they are."""
    told = "is a remark that looks like a password; it stays there"
    return tuple(f"line {number} {told}" for number, line in enumerate(text.splitlines(), 1) if REMARK.match(line))
