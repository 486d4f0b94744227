"""A restored copy is held against its manifest: hashes, databases, versions. All of it blocks."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from appliance.core.lifecycle.backup.contents import Piece
from appliance.core.lifecycle.backup.faults import DamagedBackupError
from appliance.core.lifecycle.backup.model import FORMAT, MANIFEST, Manifest
from appliance.core.lifecycle.backup.staging import Check, fact, opened
from appliance.core.migrations import bars, scripts
from appliance.errors import BackupError

SHOWN = 3
"""Troubles that are told."""


def read_manifest(tree: Path) -> Manifest:
    """The manifest of a copy. Raises DamagedError; BackupError where it is of a newer program."""
    try:
        raw = (tree / MANIFEST).read_bytes()
        version = msgspec.json.decode(raw, type=dict[str, object]).get("format")
        if isinstance(version, int) and version > FORMAT:
            told = f"The backup has the format {version}; this version of the program knows {FORMAT}."
            raise BackupError(told, "update the appliance, then restore.")
        return msgspec.json.decode(raw, type=Manifest)
    except FileNotFoundError:
        raise DamagedBackupError(
            f"There is no {MANIFEST} in it.", "it is no backup of an appliance, or a damaged one."
        ) from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedBackupError(f"Its {MANIFEST} cannot be read: {error}.", "use another backup.") from error


def prove(tree: Path, pieces: tuple[Piece, ...], made: Manifest | None, check: Check) -> Manifest:
    """Compare a copy with its manifest.

    Args:
        tree: Where it was restored.
        pieces: All that can be in a backup.
        made: The manifest as it was made; None where only that of the copy is known.
        check: Looked at all the time.

    Raises:
        DamagedError: Something is missing, differs, is there besides, or is no whole database.
        BackupError: It is of a newer program.
    """
    manifest = read_manifest(tree)
    troubles = ["the manifest is not the one that was written"] if made is not None and manifest != made else []
    there = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()} - {MANIFEST}
    troubles += [f"{name} is missing" for name in sorted(manifest.files.keys() - there)]
    troubles += [f"{name} is not in the manifest" for name in sorted(there - manifest.files.keys())]
    for name in sorted(there & manifest.files.keys()):
        check()
        if (tree / name).is_symlink() or fact(tree / name, check) != manifest.files[name]:
            troubles.append(f"{name} differs")
    if not troubles:
        troubles = _databases(tree, pieces, manifest, check)
    if troubles:
        more = f", and {len(troubles) - SHOWN} more" if len(troubles) > SHOWN else ""
        told = f"The backup is damaged: {'; '.join(troubles[:SHOWN])}{more}."
        raise DamagedBackupError(told, "use another snapshot; make a new backup on another disk.")
    return manifest


def _databases(tree: Path, pieces: tuple[Piece, ...], manifest: Manifest, check: Check) -> list[str]:
    troubles = []
    for piece in pieces:
        if piece.kind != "sqlite" or piece.name not in manifest.files:
            continue
        check()
        if problem := whole(tree / piece.name):
            troubles.append(f"{piece.name}: {problem}")
        elif barred := _barred(tree / piece.name, piece.migrations):
            newest = max(version for version, _, _ in scripts(piece.migrations))
            told = f"{piece.name} is of a newer program: it has migration {max(barred)}, this version knows {newest}."
            raise BackupError(told, "update the appliance, then restore.")
    return troubles


def _barred(path: Path, migrations: str) -> list[int]:
    """Migrations of a whole database that keep this program from opening it. Raises DamagedError."""
    try:
        with opened(path) as connection:
            return bars(connection, migrations)
    except sqlite3.Error as error:
        raise DamagedBackupError(f"{path.name} is no database of ours: {error}.", "use another backup.") from error


def whole(path: Path) -> str:
    """Why a database is not whole; empty where it is."""
    try:
        with opened(path) as connection:
            found = str(connection.execute("PRAGMA integrity_check(3)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    return "" if found == "ok" else found.splitlines()[0]
