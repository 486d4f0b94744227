"""The file with the machines that actions add and people may edit: read with its lines, changed with its comments kept."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from appliance.core.fleet.inventory_entry import Entry, entry_of
from appliance.core.secrets import write_private
from appliance.errors import ConfigError, DiskFullError, StoreError
from appliance.settingfleet import FINGERPRINT, NAME, NodeAccess
from appliance.settingforms import SettingError

MOST_BYTES = 4 << 20
MOST_NODES = 2000
HEAD = """# The machines that the appliance reaches over SSH, besides those of its configuration ([fleet.nodes.NAME]).
# `prime-spark fleet add|change|remove` write this file and keep its comments; it is read again when you edit it.
# Keys as in the configuration; `prime-spark fleet nodes` shows what came of it.
"""
TABLES = ("nodes", "host_keys", "maintenance")


@dataclass(frozen=True)
class Contents:
    """What the file says.

    Attributes:
        entries: Machines by name.
        host_keys: Confirmed fingerprints of machines of the configuration, by name.
        aside: Machines of the configuration that are set aside.
        text: The file itself.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    host_keys: Mapping[str, str] = field(default_factory=dict)
    aside: frozenset[str] = frozenset()
    text: str = ""


def read(path: Path) -> Contents:
    """Read it; one that is not there is empty. Raises ConfigError, naming file and line; StoreError where it cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return Contents()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.", "let this user read it.") from error
    if len(raw) > MOST_BYTES:
        raise ConfigError(f"{path} has more than {MOST_BYTES >> 20} MiB.", "is this the inventory?")
    try:
        return parse(path, raw.decode("utf-8-sig"))  # some editors begin a file with a mark of its form
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: this is no UTF-8.", "save it as UTF-8.") from None


def parse(path: Path, text: str) -> Contents:
    """Understand it. Raises ConfigError, naming file and line."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else f"{path}:{text.count(chr(10)) + 1}"
        raise ConfigError(f"{where}: {error}.", "mend this line; a name may stand only once.") from None
    fault = _Faults(path, text)
    for key, value in document.items():
        if key not in TABLES or not isinstance(value, dict):
            raise fault.at((key,), f"there is no table {key} here", "write machines as [nodes.NAME].")
    nodes = document.get("nodes", {})
    if len(nodes) > MOST_NODES:
        raise fault.at(("nodes",), f"{len(nodes)} machines; {MOST_NODES} at most", "spread them over several appliances.")
    entries = {name: _entry(fault, name, table) for name, table in nodes.items()}
    keys = _plain(fault, document, "host_keys", lambda value: isinstance(value, str) and re.fullmatch(FINGERPRINT, value))
    aside = _plain(fault, document, "maintenance", lambda value: isinstance(value, bool))
    return Contents(entries, keys, frozenset(name for name, set_aside in aside.items() if set_aside), text)


def _entry(fault: _Faults, name: str, table: object) -> Entry:
    if not re.fullmatch(NAME, name):
        raise fault.at(("nodes", name), f"{name!r} is no name of a machine", "use letters, digits, dot, dash and underscore.")
    try:
        return entry_of(name, NodeAccess.model_validate(table), "inventory")
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        key = ("nodes", name, *(str(each) for each in wrong["loc"][:1]))
        reason = wrong.get("ctx", {}).get("error")
        shown = ".".join(str(each) for each in ("nodes", name, *wrong["loc"]))
        if isinstance(reason, SettingError):
            raise fault.at(key, f"{shown}: {reason}", reason.next_step) from None
        what = {"extra_forbidden": "there is no such key", "missing": "it is missing"}.get(wrong["type"], wrong["msg"])
        keys = ", ".join(NodeAccess.model_fields)
        raise fault.at(key, f"{shown}: {what}", f"the keys are {keys}; docs/fleet.md says what each takes.") from None


def _plain(fault: _Faults, document: Mapping[str, Any], table: str, fits: Callable[[object], object]) -> dict[str, Any]:
    values: dict[str, Any] = document.get(table, {})
    for name, value in values.items():
        if not re.fullmatch(NAME, name) or not fits(value):
            form = 'NAME = "SHA256:…"' if table == "host_keys" else "NAME = true"
            raise fault.at((table, name), f"{table}.{name} is not understood", f"write {form}.")
    return values


@dataclass(frozen=True)
class _Faults:
    path: Path
    text: str

    def at(self, key: tuple[str, ...], what: str, step: str) -> ConfigError:
        return ConfigError(f"{self.path}:{line_of(self.text, key)}: {what}.", step)


def line_of(text: str, key: tuple[str, ...]) -> int:
    """The line (from 1) where a key, or the nearest table above it, is written."""
    table: tuple[str, ...] = ()
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            table = _parts(header[1])
            if len(table) > depth and table == key[: len(table)]:
                best, depth = number, len(table)
        elif pair := re.match(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""", line):
            full = (*table, *_parts(pair[1]))
            if full == key[: len(full)] and len(full) > depth:
                best, depth = number, len(full)
    return best


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(each.strip().strip("\"'") for each in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", dotted))


def write(path: Path, text: str) -> None:
    """Put it in the place of the old one, whole or not at all. Raises StoreError, DiskFullError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, text.encode())
    except OSError as error:
        kind = DiskFullError if error.errno in (28, 122) else StoreError
        raise kind(f"{path} cannot be written: {error.strerror}.", "make room, or let this user write it.") from error
