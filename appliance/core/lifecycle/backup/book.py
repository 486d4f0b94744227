"""What is remembered of the targets and their snapshots from one start to the next; a small file on the data partition."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.core.lifecycle.backup.model import Snapshot, TargetStatus
from appliance.core.secrets import write_private
from appliance.errors import StoreError

log = logging.getLogger(__name__)

SHOWN = 100
"""Newest snapshots of each target that are remembered."""


class Book:
    """The targets by name. Methods block for a moment.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.targets: dict[str, TargetStatus] = {}

    def load(self) -> None:
        """Read what is there; a file that cannot be read is told in the log: the next backup writes it anew."""
        try:
            self.targets = msgspec.json.decode(self._path.read_bytes(), type=dict[str, TargetStatus])
        except FileNotFoundError:
            self.targets = {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read, so no earlier proof is known: %s", self._path, error)
            self.targets = {}

    def change(self, name: str, change: Callable[[TargetStatus], TargetStatus]) -> None:
        """Change one target and keep it. Raises StoreError."""
        if name in self.targets:
            self.targets[name] = change(self.targets[name])
            self.save()

    def save(self) -> None:
        """Raises StoreError."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path, msgspec.json.encode(self.targets))
        except OSError as error:
            raise StoreError(f"{self._path} cannot be written: {error.strerror}.", "free space there.") from error


def merged(known: tuple[Snapshot, ...], listed: tuple[Snapshot, ...]) -> tuple[Snapshot, ...]:
    """What a repository lists, newest first, with what is known of each from its making and its proof."""
    before = {each.id: each for each in known}

    def one(each: Snapshot) -> Snapshot:
        old = before.get(each.id)
        if old is None:
            return each
        return msgspec.structs.replace(each, size=old.size, added=old.added, proof=old.proof, gaps=old.gaps, stored=old.stored)

    return tuple(sorted((one(each) for each in listed), key=lambda each: -each.time)[:SHOWN])
