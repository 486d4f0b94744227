"""Whether all of a first-boot file can be applied; each thing that is wrong, with its line and what to write instead."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from pydantic import ValidationError

from appliance.core.fleet import inventory_edit
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.inventory_entry import configured
from appliance.core.fleet.inventory_file import read as read_inventory
from appliance.core.lifecycle.backup.archive import key_in
from appliance.core.lifecycle.backup.contents import Places
from appliance.core.lifecycle.firstboot import erase, reading, words
from appliance.core.lifecycle.firstboot.faults import told
from appliance.core.lifecycle.firstboot.form import FirstBoot, NodeTable
from appliance.core.lifecycle.firstboot.reading import FileError, line_of
from appliance.core.secrets import VARIABLES
from appliance.errors import ConfigError
from appliance.settings import Settings


class Parts(Protocol):
    """What the appliance outside of the core knows."""

    def check_settings(self, given: Mapping[str, Any], path: Path, text: str) -> Settings:
        """The settings of [settings]. Raises ConfigError, naming the line."""

    def configuration(self, before: Path, given: Mapping[str, Any]) -> tuple[str, Settings]:
        """The configuration file with these set in it, and what then holds. Raises ConfigError."""

    def places(self, home: Path) -> Places:
        """Where an appliance with this home keeps things."""

    def restore(self, home: Path, system: Path, source: Source) -> tuple[str, ...]:
        """Unpack a backup where nothing is yet; its parts. Raises ApplianceError."""


class Source(msgspec.Struct, frozen=True):
    """A backup, and what opens it."""

    file: Path | None = None
    repository: Path | None = None
    snapshot: str = "latest"
    key: bytes = b""
    passphrase: str = ""


def check(path: Path, raw: bytes, parts: Parts, root: Path | None = None) -> FirstBoot:
    """All that a file says.

    Args:
        path: The file.
        raw: Its content.
        parts: For the settings.
        root: Of the machine that it is for; None on another computer, which does not know that one's keyboards and accounts.

    Raises:
        FileError: Something is wrong; nothing may be applied. It is the first, and has the others.
    """
    text = reading.decode(path, raw)
    document = reading.parse(path, text)
    if "applied" in document:  # its secrets are struck out, and so no secrets
        document = {"applied": document["applied"]}
    if isinstance(given := document.get("secrets"), dict):
        document["secrets"] = flat(given)
    faults: list[FileError] = []
    found = _formed(path, text, document, faults)
    if found is not None and found.applied is not None:
        return found
    settings = _settings(path, text, document.get("settings", {}), parts, faults)
    if found is not None and settings is not None:
        erase.check(path, text)
        faults += _whole(path, text, found, settings, root)
    if faults or found is None:
        raise reading.together(faults)
    return found


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Secrets by their whole names: without quotes, a name with dots makes tables within tables."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _formed(path: Path, text: str, document: Mapping[str, Any], faults: list[FileError]) -> FirstBoot | None:
    try:
        return FirstBoot.model_validate_json(msgspec.json.encode(document, enc_hook=str), strict=True)
    except ValidationError as error:
        faults += told(path, text, error)
        return None


def _settings(path: Path, text: str, given: Any, parts: Parts, faults: list[FileError]) -> Settings | None:
    """The settings of [settings]; None where they are wrong."""
    if not isinstance(given, Mapping):  # its form is told already
        return None
    try:
        return parts.check_settings(given, path, text)
    except ConfigError as error:
        faults += [_as_secret(placed(path, each)) for each in (error, *error.others) if isinstance(each, ConfigError)]
        return None


def _as_secret(error: FileError) -> FileError:
    """A password among the settings is told where it belongs."""
    known = re.match(r"unknown key (\S+)$", error.what)
    if known is None or known[1] not in VARIABLES:
        return error
    step = f'passwords go below [secrets]: {known[1]} = "…"'
    return FileError(error.path, error.line, f"{known[1]} is no setting", step)


def _whole(path: Path, text: str, found: FirstBoot, settings: Settings, root: Path | None) -> Iterator[FileError]:
    """What is wrong although each value has its form."""
    checks: list[Callable[[], object]] = [lambda: inventory(path, text, found.nodes, settings)]
    if found.restore is not None:
        checks.append(lambda: source(path, text, found))
    for each in checks:
        try:
            each()
        except FileError as error:
            yield error
    if root is not None:
        yield from fits(path, text, found, root)


def placed(path: Path, error: ConfigError) -> FileError:
    """An error of the settings, whose message begins with file and line, as one of this file."""
    if isinstance(error, FileError):
        return error
    known = re.match(rf"{re.escape(str(path))}:(\d+): ", error.message)
    what = error.message[known.end() :] if known else error.message
    return FileError(path, int(known[1]) if known else None, what.rstrip("."), error.next_step)


def inventory(path: Path, text: str, nodes: Sequence[NodeTable], settings: Settings, before: Path | None = None) -> str:
    """The inventory's file with these machines in it.

    Args:
        path: The first-boot file.
        text: What stands in it.
        nodes: Machines; those that are known get these values.
        settings: Which have machines too.
        before: The inventory that there is.

    Raises:
        FileError: The machines contradict each other.
    """
    found = read_inventory(before).text if before is not None else ""
    for node in nodes:
        found = inventory_edit.with_node(found, node.name, node.model_dump(exclude={"name"}, exclude_unset=True))
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder, "inventory.toml")
        trial.write_text(found, encoding="utf-8")
        known = FleetInventory(configured(settings.fleet), trial)
        known.load()
        if known.fault is not None:
            what = re.sub(rf"^{re.escape(str(trial))}:\d+: ", "", known.fault.message).rstrip(".")
            index = next((index for index, node in enumerate(nodes) if what.startswith(f"{node.name} ")), 0)
            raise FileError(path, line_of(text, ("nodes", index)), f"nodes: {what}", known.fault.next_step)
    return found


def source(path: Path, text: str, found: FirstBoot) -> Source:
    """What is to be restored. Raises FileError where it is not there."""
    wish = found.restore
    if wish is None:
        raise ValueError("there is no [restore]")
    place = (path.parent / (wish.file or wish.repository)).absolute()
    name = "file" if wish.file else "repository"
    if not (place.is_file() if wish.file else (place / "config").is_file()):
        what = f"restore.{name}: there is no {'file' if wish.file else 'repository'} {place}"
        raise FileError(path, line_of(text, ("restore", name)), what, "put it there, or mend the name.")
    key = wish.key.strip().encode()
    if wish.key_file:
        line = line_of(text, ("restore", "key_file"))
        key = key_in(reading.read(path.parent / wish.key_file))
        if len(key.splitlines()) != 1 or (wish.file and words.AGE.fullmatch(key.decode("latin-1")) is None):
            raise FileError(path, line, f"restore.key_file: {wish.key_file} holds no recovery key", words.RECOVERY)
    repository = None if wish.file else place
    return Source(place if wish.file else None, repository, wish.snapshot, key, wish.passphrase)


def fits(path: Path, text: str, found: FirstBoot, root: Path) -> Iterator[FileError]:
    """What the file names and this machine does not have."""
    system = found.system
    zones = root / "usr/share/zoneinfo"
    if system.timezone and zones.is_dir() and not (zones / system.timezone).is_file():
        line = line_of(text, ("system", "timezone"))
        yield FileError(path, line, f"there is no time zone {system.timezone} here", "use UTC.")
    yield from _fits_locale(path, text, system.locale, root)
    layouts = _layouts(root)
    if system.keymap and layouts and system.keymap not in layouts:
        step = "write one such as us, gb, de, ch or fr."
        yield FileError(path, line_of(text, ("system", "keymap")), f"there is no keyboard's layout {system.keymap!r}", step)
    taken = accounts(root)
    for index, user in enumerate(found.users):
        if user.shell and taken.get(user.name, 1000) < 1000:
            line = line_of(text, ("users", index, "name"))
            yield FileError(path, line, f"{user.name} is an account of the system", "choose another name.")


def _fits_locale(path: Path, text: str, wanted: str, root: Path) -> Iterator[FileError]:
    folder = root / "usr/lib/locale"
    if not wanted or wanted in {"C", "POSIX", "C.UTF-8", "C.utf8"} or not folder.is_dir():
        return
    there = sorted(each.name for each in folder.iterdir() if each.is_dir())
    if wanted.replace("UTF-8", "utf8") not in {each.replace("UTF-8", "utf8") for each in there}:
        step = f"write one of {', '.join(there) or 'C.UTF-8'}."
        yield FileError(path, line_of(text, ("system", "locale")), f"the locale {wanted} is not in this image", step)


def _layouts(root: Path) -> set[str]:
    """Layouts of keyboards; empty where they are not known."""
    try:
        listed = (root / "usr/share/X11/xkb/rules/base.lst").read_text(encoding="utf-8")
    except OSError:
        return set()
    section = listed.partition("! layout\n")[2].partition("\n!")[0]
    return {line.split()[0] for line in section.splitlines() if line.strip()}


def accounts(root: Path) -> dict[str, int]:
    """Accounts of the system there, with their numbers."""
    try:
        lines = (root / "etc/passwd").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    rows = [line.split(":") for line in lines]
    return {row[0]: int(row[2]) for row in rows if len(row) == 7 and row[2].isdigit()}
