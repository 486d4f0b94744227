"""The recovery key of this machine: made once, and never a second one beside backups that open with the first."""

from __future__ import annotations

import logging
from pathlib import Path

from msgspec.structs import replace

from appliance.core.lifecycle.backup import archive
from appliance.core.lifecycle.backup.book import Book
from appliance.core.secrets import Secrets
from appliance.errors import BackupError, StoreError

log = logging.getLogger(__name__)

GONE = "The recovery key is gone"


def key(secrets: Secrets, book: Book, directory: Path) -> bytes:
    """It, made at the first use.

    Args:
        secrets: Of this machine.
        book: What lies at the targets.
        directory: Of the secrets, for people.

    Raises:
        BackupError: It is gone, and there are backups that open with no other.
        StoreError: It cannot be read.
    """
    if lost := _lost(secrets, book, directory):
        raise lost
    return archive.recovery_key(secrets)


def mark(secrets: Secrets, book: Book, directory: Path) -> None:
    """Say at the targets that it is gone, and no more once it is back. Arguments as of `key`. Raises StoreError."""
    try:
        lost = _lost(secrets, book, directory)
    except StoreError as error:  # a vault may come later; whoever needs the key is told then
        log.warning("the recovery key cannot be read now: %s", error)
        return
    if lost is not None:
        log.error("%s", lost)
    told, step = (lost.message, lost.next_step) if lost is not None else ("", "")
    for each in list(book.targets.values()):
        if each.snapshots if lost is not None else each.problem.startswith(GONE):
            book.change(each.name, lambda was: replace(was, problem=told, next_step=step))


def _lost(secrets: Secrets, book: Book, directory: Path) -> BackupError | None:
    kept = [each.name for each in book.targets.values() if each.snapshots]
    if not kept or secrets.get(archive.NAME) is not None:
        return None
    step = f"put it back into {directory / archive.NAME}, mode 0600; where it is lost for good: docs/backup.md"
    return BackupError(f"{GONE}: what is at {', '.join(kept)} opens with no other.", step)
