"""What is wrong with the form of a first-boot file: each fault with its line and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from appliance.configfix import fix
from appliance.core.lifecycle.firstboot.form import NetworkTable, schema
from appliance.core.lifecycle.firstboot.reading import FileError, line_of
from appliance.core.lifecycle.firstboot.words import PlacedError
from appliance.settingforms import SettingError

FAULTS = {
    "extra_forbidden": "there is no such key",
    "missing": "it is missing",
    "string_pattern_mismatch": "it has another form",
}
LISTS = frozenset({"users", "wifi", "nodes"})
"""Tables that may be there several times, each below two brackets."""


def told(path: Path, text: str, error: ValidationError) -> list[FileError]:
    """All that is wrong, without what is only missing because its name is misspelt."""
    faults: Sequence[Any] = error.errors(include_url=False)
    wrong = [each["loc"] for each in faults if each["type"] == "extra_forbidden"]
    whole = {each["loc"] for each in faults}
    return [_told(path, text, each) for each in faults if not (_misspelt(each, wrong) or _is_key(each["loc"], whole))]


def _is_key(loc: tuple[Any, ...], whole: Collection[tuple[Any, ...]]) -> bool:
    """Whether it is of a key whose value is told already."""
    return loc[-1:] == ("[key]",) and loc[:-1] in whole


def _misspelt(fault: Any, wrong: Sequence[tuple[Any, ...]]) -> bool:
    loc = fault["loc"]
    beside = [str(each[-1]) for each in wrong if each[:-1] == loc[:-1]]
    return fault["type"] == "missing" and bool(difflib.get_close_matches(str(loc[-1]), beside, 1, 0.5))


def _told(path: Path, text: str, fault: Any) -> FileError:
    key = tuple(each for each in fault["loc"] if each != "[key]")
    reason = fault.get("ctx", {}).get("error")
    if isinstance(reason, PlacedError):
        what = f"{_shown(key)}: {reason}" if key else str(reason)
        return FileError(path, _line(text, (*key, *reason.key)), what, reason.next_step)
    if isinstance(reason, SettingError):
        what = f"{_shown(key)}: {reason}" if key else str(reason)
        return FileError(path, _line(text, key), what, reason.next_step)
    if (found := _brackets(path, text, key, fault["input"])) is not None:
        return found
    names = tuple(str(each) for each in key)
    if fault["type"] == "missing":
        step = f"write {names[-1]} = … there; docs/first-boot.md says what it takes."
    else:
        step = fix(names, quoted=True, root=dict(schema()))
    return FileError(path, _line(text, key), f"{_shown(key)}: {FAULTS.get(fault['type'], fault['msg'])}", step)


def _brackets(path: Path, text: str, key: tuple[Any, ...], given: Any) -> FileError | None:
    """What is told of a table below too few or too many brackets, or of keys of an interface without its name."""
    if len(key) == 1 and key[0] in LISTS and isinstance(given, dict):
        inner = next((name for name, value in given.items() if isinstance(value, dict)), None)
        line = line_of(text, (key[0], inner) if inner else key)
        named = f', and name = "{inner}" below it' if inner else ""
        header = f"{key[0]}.{inner}" if inner else key[0]
        return FileError(path, line, f"[{header}] is one table of several", f"write [[{key[0]}]], with two brackets{named}.")
    if len(key) == 1 and isinstance(given, list | tuple) and any(isinstance(each, dict) for each in given):
        shown = {"network": "network.wired", "mounts": "mounts.nas"}.get(key[0], key[0])
        return FileError(
            path, line_of(text, (*key, 0)), f"[[{key[0]}]] is there once only", f"write [{shown}], with one bracket."
        )
    if len(key) == 2 and key[0] == "network" and key[1] in NetworkTable.model_fields and not isinstance(given, dict):
        step = "write [network.wired] above it (or network.wifi, or one interface such as network.end0)."
        return FileError(path, _line(text, key), f"network.{key[1]} belongs to an interface", step)
    return None


def _line(text: str, key: tuple[Any, ...]) -> int:
    """Where it is written; a secret's name may stand there without quotes, as tables within tables."""
    plain = ("secrets", *str(key[1]).split(".")) if key[:1] == ("secrets",) and len(key) > 1 else key
    return max(line_of(text, key), line_of(text, plain))


def _shown(key: tuple[Any, ...]) -> str:
    """A key as people count: users[2].name."""
    found = ""
    for each in key:
        found += f"[{each + 1}]" if isinstance(each, int) else f".{each}" if found else each
    return found
