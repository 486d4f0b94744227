"""What a backup contains, where each piece lives, and what is left out for which reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appliance.core.lifecycle.backup.model import Gap
from appliance.settingbackup import BackupSettings

SPINE, STREAMS, MEMORY = "appliance.core.migrations", "appliance.core.streams.migrations", "appliance.core.memory.migrations"
PARTS = ("settings", "secrets", "state", "streams", "models", "model_files", "memory", "analytics", "files", "system")
SYSTEM, RECORD = "system", "first-boot.json"
"""The machine's identity; and in it, that a file of this card was applied, which is no part of that."""
MANIFESTS = (".toml", ".json", ".txt", ".md", ".labels")
"""Endings of what describes a model; everything else of it is its files."""


class Places(Protocol):
    """Where the appliance keeps things."""

    @property
    def config(self) -> Path:
        """Configuration file."""

    @property
    def data(self) -> Path:
        """Databases, models, secrets."""

    @property
    def database(self) -> Path:
        """SQLite of the spine."""

    @property
    def streams(self) -> Path:
        """SQLite of what waits for Kafka."""

    @property
    def memory(self) -> Path:
        """The memory's directory."""

    @property
    def analytics(self) -> Path:
        """DuckDB."""

    @property
    def models(self) -> Path:
        """Models that were added."""

    @property
    def secrets(self) -> Path:
        """Files of mode 0600."""

    @property
    def audit_mark(self) -> Path:
        """How far the audit log had come."""

    @property
    def exports(self) -> Path:
        """Answers that were written into files."""

    @property
    def files(self) -> Path:
        """Files on their way to and from machines."""

    @property
    def system(self) -> Path | None:
        """What the machine is called, reached and entered by; only on our image."""


@dataclass(frozen=True)
class Piece:
    """One file or directory of a backup.

    Attributes:
        part: One of PARTS.
        name: Its path in the backup; the first directory is the part.
        home: Where it lives.
        kind: "file", "tree" (replaced as a whole), "files" (each file by itself), "sqlite", "duckdb".
        migrations: Package of an SQLite database's migrations.
        takes: Whether a file of a tree belongs to it, by its name.
    """

    part: str
    name: str
    home: Path
    kind: str
    migrations: str = ""
    takes: Callable[[str], bool] = lambda _: True


def pieces(places: Places) -> tuple[Piece, ...]:
    """All that can be in a backup, in the order of copying: the audit's mark may lag behind its database, and never lead."""
    found = (
        Piece("settings", "settings/config.toml", places.config, "file"),
        Piece("settings", "settings/inventory.toml", places.data / "inventory.toml", "file"),
        Piece("secrets", "secrets/all", places.secrets, "tree"),
        Piece("state", "state/audit.mark", places.audit_mark, "file"),
        Piece("state", "state/appliance.sqlite", places.database, "sqlite", SPINE),
        Piece("streams", "streams/streams.sqlite", places.streams, "sqlite", STREAMS),
        Piece("models", "models/manifests", places.models, "files", takes=_describes),
        Piece("model_files", "model_files/files", places.models, "files", takes=lambda name: not _describes(name)),
        Piece("memory", "memory/memory.sqlite", places.memory / "memory.sqlite", "sqlite", MEMORY),
        Piece("memory", "memory/files", places.memory / "files", "tree"),
        Piece("analytics", "analytics/analytics.duckdb", places.analytics, "duckdb"),
        Piece("files", "files/exports", places.exports, "tree", takes=lambda name: not name.endswith(".backup.age")),
        Piece("files", "files/files", places.files, "tree"),
    )
    if places.system is None:
        return found
    return (*found, Piece("system", "system/all", places.system, "tree", takes=lambda name: name != RECORD))


def _describes(name: str) -> bool:
    return name.endswith(MANIFESTS)


def wanted(settings: BackupSettings, places: Places | None = None) -> tuple[str, ...]:
    """The parts that the settings want, and that there are at these places."""
    without = {SYSTEM} if places is not None and places.system is None else set()
    return tuple(part for part in PARTS if getattr(settings, part) and part not in without)


def closed(places: Places) -> frozenset[str]:
    """Parts that this process may not restore: the machine's identity is root's."""
    system = places.system
    return frozenset() if system is not None and os.access(system.parent, os.W_OK) else frozenset({SYSTEM})


WHY = {
    "settings": "backup.settings is off",
    "secrets": "backup.secrets is off: keys and passwords are gone with this machine",
    "state": "backup.state is off: users and audit are gone with this machine",
    "streams": "backup.streams is off: what waits for Kafka is gone with this machine",
    "models": "backup.models is off",
    "model_files": "large, and can be had again; backup.model_files adds them",
    "memory": "tier 2 is held elsewhere where tier 3 is configured; backup.memory adds it",
    "analytics": "large, and of yesterday; backup.analytics adds it",
    "files": "copies of what lies elsewhere; backup.files adds them",
    "system": "backup.system is off, or this machine was not started from our image",
}
NAMES = {
    "settings": "settings", "secrets": "keys and secrets", "state": "users, audit, state", "streams": "outbox and dead letters",
    "models": "manifests of models", "model_files": "files of models", "memory": "values of the memory on this disk",
    "analytics": "local measurements", "files": "exports and kept files",
    "system": "name, network and logins of the machine itself",
}  # fmt: skip
ALWAYS = (
    Gap("the system and the program", "they are installed anew"),
    Gap("logs", "they are of this machine; audit and events are in the state"),
    Gap("values in Redis, S3, PostgreSQL, Kafka", "these have backups of their own"),
    Gap("agents' packages, caches", "they are made again"),
)


def gaps(parts: Iterable[str], given: Iterable[str] = ()) -> tuple[Gap, ...]:
    """What a backup with these parts does not contain.

    Args:
        parts: That are in it.
        given: Names of secrets that come from outside.
    """
    there = set(parts)
    found = [Gap(NAMES[part], WHY[part]) for part in PARTS if part not in there]
    if names := ", ".join(sorted(given)):
        found.append(Gap(f"secrets given from outside: {names}", "they come from the environment, systemd or a vault"))
    return (*found, *ALWAYS)
