"""What the data partition knows of the machine: its identity, and that a file was applied."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.core.lifecycle.firstboot import card
from appliance.core.lifecycle.firstboot.model import Identity, Record, home_of, identity_file, record_file
from appliance.errors import StoreError

T = TypeVar("T")


def hand_over(data: Path, root: Path) -> None:
    """Give the appliance what is its own, and let it read the identity for its backups. Raises OSError."""
    ids = card.owner(root)
    card.give(home_of(data), ids)
    system = data / "system"
    for folder, _, names in os.walk(system):
        Path(folder).chmod(0o750)
        for name in names:
            Path(folder, name).chmod(0o640)
    if ids is not None:
        card.give(system, (0, ids[1]))


def write(path: Path, value: msgspec.Struct) -> None:
    """Write a value so that it is whole or not there; readable for the appliance. Raises OSError."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))
    part.chmod(0o640)
    os.chown(part, -1, path.parent.stat().st_gid)
    card.flush(part)
    part.replace(path)
    card.flush(path.parent)


def read_record(data: Path) -> Record | None:
    """That a file was applied; None where none was. Raises StoreError."""
    return _read(record_file(data), Record)


def read_identity(path: Path) -> Identity:
    """What the machine is called, and so on; empty where nothing was applied. Raises StoreError."""
    return _read(path, Identity) or Identity()


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        step = f"restore a backup, or remove {path}: the machine then starts without it."
        raise StoreError(f"{path} cannot be read: {error}.", step) from error


def identity(data: Path) -> Identity:
    """That of the machine. Raises StoreError."""
    return read_identity(identity_file(data))
