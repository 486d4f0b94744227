"""Unit files as systemd reads them: folders, drop-ins, specifiers, masks, aliases and what enables them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FOLDERS = ("etc/systemd/system", "run/systemd/system", "lib/systemd/system")
"""The first one that has a unit wins."""
OWN = "etc/systemd/system"
UNITS = (".service", ".target", ".socket", ".timer", ".mount", ".path", ".slice")
Sections = dict[str, list[tuple[str, str]]]


class UnitError(Exception):
    """A unit is not there, is masked, or cannot be read."""


def full_name(name: str) -> str:
    """With its kind: a plain name is a service."""
    name = os.path.basename(name)
    return name if name.endswith(UNITS) else f"{name}.service"


def template_of(name: str) -> tuple[str, str]:
    """A unit's template and instance: wg-quick@wg0.service is an instance of wg-quick@.service; ("", "") for other units."""
    stem, dot, kind = name.rpartition(".")
    head, at, instance = stem.partition("@")
    return (f"{head}@{dot}{kind}", instance) if at and instance else ("", "")


def parse(text: str) -> Sections:
    """The sections of a unit file. An empty assignment empties the list before it, as systemd has it."""
    sections: Sections = {}
    here: list[tuple[str, str]] = []
    for line in map(str.strip, re.sub(r"\\\n\s*", " ", text).splitlines()):
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            here = sections.setdefault(line.strip("[]"), [])
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise UnitError(f"Missing '=', ignoring line: {line}")
        if not value:
            here[:] = [each for each in here if each[0] != key]
        here.append((key, value))
    return sections


@dataclass
class UnitFile:
    """A unit as its files have it."""

    name: str
    path: Path | None
    sections: Sections = field(default_factory=dict)
    masked: bool = False
    instance: str = ""

    @property
    def load(self) -> str:
        """systemd's LoadState."""
        if self.masked:
            return "masked"
        return "loaded" if self.path else "not-found"

    def all(self, key: str, section: str = "Service") -> list[str]:
        """Every value of a key, specifiers filled in; after the last empty one."""
        values = [self.filled(value) for name, value in self.sections.get(section, []) if name == key]
        return [value for value in values if value]

    def words(self, key: str, section: str = "Service") -> list[str]:
        """The words of all values."""
        return [word for value in self.all(key, section) for word in shlex.split(value)]

    def get(self, key: str, otherwise: str = "", section: str = "Service") -> str:
        """The last value."""
        found = self.all(key, section)
        return found[-1] if found else otherwise

    def flag(self, key: str, section: str = "Service") -> bool:
        """A boolean."""
        return self.get(key, "no", section).lower() in ("yes", "true", "on", "1")

    def seconds(self, key: str, otherwise: float) -> float:
        """A span of time."""
        return span(self.get(key), otherwise)

    @property
    def description(self) -> str:
        """What it is."""
        return self.get("Description", self.name, "Unit")

    def filled(self, value: str) -> str:
        """With specifiers replaced."""
        stem = self.name.rpartition(".")[0]
        known = {
            "n": self.name, "N": stem, "p": stem.partition("@")[0], "i": self.instance, "I": self.instance.replace("-", "/"),
            "t": "/run", "S": "/var/lib", "L": "/var/log", "C": "/var/cache", "h": "/root", "H": os.uname().nodename, "%": "%",
        }  # fmt: skip
        return re.sub(r"%(.)", lambda found: known.get(found[1], found[0]), value)


def span(text: str, otherwise: float) -> float:
    """Seconds of "5", "500ms", "1min 30s"; "infinity" is a day."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
    if text.strip() == "infinity":
        return 86400.0
    parts = re.findall(r"([0-9.]+)\s*([a-z]*)", text)
    return sum(float(number) * units.get(unit, 1.0) for number, unit in parts) if parts else otherwise


class Folders:
    """The unit files of one root.

    Args:
        root: "/" in a node; a directory of files in a test.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Every unit file (templates too), by name."""
        found = {entry.name for folder in FOLDERS for entry in self._entries(self.root / folder)}
        return sorted(name for name in found if name.endswith(UNITS))

    @staticmethod
    def _entries(folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return [entry for entry in entries if entry.is_symlink() or entry.is_file()]
        except FileNotFoundError:
            return []

    def find(self, name: str) -> Path | None:
        """Where a unit's file lies (or that of its template)."""
        for wanted in filter(None, (name, template_of(name)[0])):
            for folder in FOLDERS:
                path = self.root / folder / wanted
                if path.is_symlink() or path.exists():
                    return path
        return None

    def load(self, name: str) -> UnitFile:
        """A unit with its drop-ins, by its own name where it was called by an alias."""
        path = self.find(name)
        if path is None:
            return UnitFile(name, None)
        if path.is_symlink():
            aim = os.readlink(path)
            if aim == "/dev/null":
                return UnitFile(name, path, masked=True)
            if os.path.basename(aim) not in (name, path.name):
                return self.load(os.path.basename(aim))
        instance = template_of(name)[1]
        unit = UnitFile(name, path, parse(path.read_text(errors="replace")), instance=instance)
        for drop in self._drop_ins(name):
            for section, pairs in parse(drop.read_text(errors="replace")).items():
                for key, value in pairs:
                    if not value:
                        unit.sections[section] = [each for each in unit.sections.get(section, []) if each[0] != key]
                    unit.sections.setdefault(section, []).append((key, value))
        return unit

    def _drop_ins(self, name: str) -> list[Path]:
        names = [name, *filter(None, (template_of(name)[0],))]
        found = [path for each in names for folder in FOLDERS for path in (self.root / folder / f"{each}.d").glob("*.conf")]
        return sorted(found, key=lambda path: path.name)

    def enabled_for(self, target: str) -> list[str]:
        """Units that a target wants."""
        folders = [self.root / OWN / f"{target}.{kind}" for kind in ("wants", "requires")]
        return sorted({entry.name for folder in folders for entry in self._entries(folder)})

    def state(self, name: str) -> str:
        """systemd's UnitFileState; empty where there is no such unit."""
        path = self.find(name)
        if path is None:
            return ""
        if path.is_symlink() and os.readlink(path) == "/dev/null":
            return "masked"
        if path.is_symlink() and path.name == name and os.path.basename(os.readlink(path)) != name:
            return "alias"
        if any(
            (folder / name).is_symlink() for kind in ("wants", "requires") for folder in (self.root / OWN).glob(f"*.{kind}")
        ):
            return "enabled"
        unit = self.load(name)
        return "disabled" if unit.sections.get("Install") else "static"

    def links(self, unit: UnitFile) -> Mapping[Path, Path]:
        """What enabling a unit makes: link → its aim."""
        own, made = self.root / OWN, {}
        for kind, key in (("wants", "WantedBy"), ("requires", "RequiredBy")):
            for target in unit.words(key, "Install"):
                made[own / f"{target}.{kind}" / unit.name] = unit.path or Path()
        for alias in unit.words("Alias", "Install"):
            made[own / full_name(alias)] = unit.path or Path()
        return made
