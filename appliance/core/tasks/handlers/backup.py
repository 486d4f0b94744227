"""The task type backup: allowed folders as one compressed archive, read back before it counts, the oldest are removed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.fleet.files.globs import chosen
from appliance.core.memory.threads import DaemonPool
from appliance.core.tasks.handlers.backup_pack import SUFFIX, Packed, verify
from appliance.core.tasks.handlers.backup_places import Bucket, Folder, Place, Streams
from appliance.core.tasks.handlers.backup_tree import Tree
from appliance.core.tasks.handlers.forms import Form, read
from appliance.core.tasks.wire import Order
from appliance.errors import ApplianceError, InvalidArgumentsError, NotAuthorizedError, TaskError
from appliance.settingtasks import BackupTask

log = logging.getLogger(__name__)

STAMP = "%Y%m%dT%H%M%SZ"
THREADS = 4


class Backup(Form, frozen=True, kw_only=True):
    """Which one of tasks.backups."""

    backup: str


@dataclass
class _Run:
    """One backup under way: told to stop from the loop, heard in its thread."""

    name: str
    wanted: BackupTask
    place: Place
    limit: float
    stopped: threading.Event

    def check(self) -> None:
        """Raises TaskError where it is to stop."""
        if self.stopped.is_set():
            raise TaskError("It was stopped.")


class BackupHandler:
    """Makes backups (implements executor.Handler).

    Args:
        wanted: What may be kept, by name.
        streams: S3; None where it is not configured.
        wall: The wall clock: names of archives have it.
    """

    name = "backup"
    summary = "Keep the folders of one of tasks.backups as an archive on a NAS or in S3"

    def __init__(
        self, wanted: Mapping[str, BackupTask], streams: Streams | None = None, wall: Callable[[], float] = time.time
    ) -> None:  # fmt: skip
        self._wanted, self._streams, self._wall = wanted, streams, wall
        self._busy: set[str] = set()
        self._pool = DaemonPool("backup", THREADS)

    def available(self) -> bool:
        """See executor.Handler."""
        return bool(self._wanted) and importlib.util.find_spec("zstandard") is not None

    async def run(self, payload: Any, order: Order) -> Any:
        """See executor.Handler."""
        name = read(Backup, payload, self.name).backup
        wanted = self._wanted.get(name)
        if wanted is None:
            known = ", ".join(sorted(self._wanted)) or "none"
            raise NotAuthorizedError(f"No backup {name[:60]!r} is allowed here.", f"allowed are: {known} (tasks.backups).")
        if name in self._busy:
            raise TaskError(f"The backup {name} is under way on this worker already.", "wait for it.")
        limit = order.limit_s if order.left_s is None else min(order.limit_s, order.left_s)
        stamp = f"{time.strftime(STAMP, time.gmtime(self._wall()))}-{secrets.token_hex(3)}"
        place = self._place(wanted, f"{order.worker}/{name}")
        run = _Run(stamp, wanted, place, limit, threading.Event())
        self._busy.add(name)
        try:
            return {"backup": name, **await self._make(run, order.worker, name)}
        finally:
            run.stopped.set()
            self._busy.discard(name)

    def _place(self, wanted: BackupTask, below: str) -> Place:
        if not wanted.target.startswith("s3://"):
            return Folder(Path(wanted.target), below, self._pool, wanted.mount)
        if self._streams is None:
            raise InvalidArgumentsError("No S3 is configured on this worker.", "set s3.endpoint there, or a folder as target.")
        return Bucket(self._streams, f"{wanted.target.rstrip('/')}/{below}")

    async def _make(self, run: _Run, worker: str, name: str) -> dict[str, Any]:
        """Raises ApplianceError."""
        began = time.monotonic()
        place, tree = run.place, await asyncio.to_thread(_tree, run)
        _, left = await place.names()
        swept = await self._remove(place.sweep, left)
        packed = Packed(tree.pieces())
        keeping: asyncio.Future[None] | None = None
        try:
            await place.put(run.name, packed, run.limit)
            size, digest = packed.size, packed.sha256
            files = await place.look(run.name, lambda pieces: verify(pieces, size, digest, run.check), run.limit)
            told = _told(tree, packed, files, place.address(run.name))
            keeping = asyncio.ensure_future(place.keep(run.name, _about(told, worker, name, self._wall())))
            await asyncio.shield(keeping)
        except BaseException as error:
            run.stopped.set()
            if keeping is None or not isinstance(error, asyncio.CancelledError):  # else it counts in a moment
                await self._remove(place.remove, [run.name])
            raise
        whole, _ = await place.names()
        old = [each for each in whole if each != run.name]
        surplus = old[: max(0, len(old) - (run.wanted.keep - 1))]
        removed = await self._remove(place.remove, surplus)
        return {
            **told, "seconds": round(time.monotonic() - began, 1), "kept": len(whole) - len(removed), "removed": len(removed),
            "not_removed": len(surplus) - len(removed), "swept": len(swept),
        }  # fmt: skip

    async def _remove(self, remove: Callable[[str], Any], names: list[str]) -> list[str]:
        """Those that went; one that does not go is told in the log, and stays for the next time."""
        gone = []
        for each in names:
            try:
                await remove(each)
                gone.append(each)
            except ApplianceError as error:
                log.warning("%s of a backup stays: %s", each, error.message)
        return gone


def _tree(run: _Run) -> Tree:
    apart: set[tuple[int, int]] = set()
    with contextlib.suppress(OSError):  # in S3, or not there: that is told where it is written
        about = Path(run.wanted.target).stat()
        apart.add((about.st_dev, about.st_ino))
    return Tree(run.wanted.folders, chosen((), run.wanted.exclude), frozenset(apart), run.check)


def _told(tree: Tree, packed: Packed, files: int, address: str) -> dict[str, Any]:
    """Raises TaskError where not all that was written came back."""
    found = tree.found
    if files != found.files:
        raise TaskError(f"Read back, the archive has {files} files of {found.files}.", "look at that disk, or at its network.")
    return {
        "archive": address, "bytes": packed.size, "sha256": packed.sha256, "files": found.files, "folders": found.folders,
        "links": found.links, "content_bytes": found.bytes, "excluded": found.excluded, "verified": True,
        "troubles": dict(found.troubles), "told": list(found.samples),
    }  # fmt: skip


def _about(told: Mapping[str, Any], worker: str, name: str, now: float) -> bytes:
    """The description beside an archive."""
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    about = {"v": 1, "device_id": worker, "backup": name, "made": made, "format": SUFFIX.strip("."), **told}
    return msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n"
