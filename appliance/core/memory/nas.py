"""Tier 2 on the NAS: files of this appliance below a mount point, believed only while the marker file answers in time."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

from appliance.core.memory import codec, files
from appliance.core.memory.keys import key_id, relative_path
from appliance.core.memory.lane import Allowed, Lane
from appliance.core.memory.model import Head, Meta, Record
from appliance.core.memory.tier import Diverged, Usage
from appliance.core.model import Health, HealthReport
from appliance.errors import CorruptRecordError, MemoryTierError, TierAbsentError, TierUnavailableError

MARKER = ".prime-spark-nas"
"""Lies in the root of the mounted file system; the empty mount point below does not have it."""
IDENTITY = ".identity"
"""Names the disk; lies in the appliance's own directory there."""
MOUNTS = Path("/proc/self/mountinfo")
PROBE = 2.0
"""Seconds that the marker may take."""
CALL = 10.0
"""Seconds that a file may take."""
LISTED = 120.0
"""Seconds that a listing of everything may take."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class NasReplica:
    """One writer, one directory: `MOUNT/prime-spark/DEVICE/…` (implements tier.Replica).

    Args:
        mount: Where the NAS is mounted.
        device_id: Names the directory; the only appliance that writes there.
        limit: Most bytes of one value.
    """

    name = "nas"
    level = 2
    shared = False

    def __init__(self, mount: Path, device_id: str, limit: int) -> None:
        self._mount = mount
        self._home = f"prime-spark/{device_id}"
        self._limit = limit
        self._lane = Lane("nas", self._mounted)
        self._tidy: set[str] = set()
        """Folders without half-written files: the last write there ended well."""
        self._lists = Lane("nas", self._mounted)
        self._probes = Lane("nas", self._mounted)
        """Of its own, so that a long listing or a large file is not taken for a mount that hangs."""
        self.held: int | None = None
        """Bytes of its values: as counted last, and what went and came since; None before."""
        self._opened: bytes | None = None
        """Identity of the disk that was opened last."""
        self._known: bytes | None = None
        """Identity of the disk that may be used: whoever opened it has asked for its health since, and so heard of it."""

    def _mounted(self) -> str:
        """Which mount the path lies on, as the kernel counts them; asks the kernel alone, and so never hangs."""
        try:
            lines = [line.split(" ", 5) for line in MOUNTS.read_text().splitlines()]
        except OSError:  # no /proc: then only time tells
            return ""
        where = str(self._mount).replace(" ", "\\040")
        on = [(len(line[4]), index) for index, line in enumerate(lines) if f"{where}/".startswith(line[4].rstrip("/") + "/")]
        return " ".join(lines[max(on)[1]][:5]) if on else ""

    async def open(self) -> str:
        """Nothing is made before the marker is there. Raises TierUnavailableError."""
        found = await self._call(self._identity, PROBE, self._probes, any_disk=True)
        if found != self._opened:
            self.held = None
        self._opened = found
        return found.decode(errors="replace")

    def _identity(self, root: int) -> bytes:
        """A name that lies in our directory there: another disk that took this one's place has another one."""
        path = f"{self._home}/{IDENTITY}"
        found = files.read(root, path)
        if not found:
            found = secrets.token_hex(16).encode()
            files.write(root, path, found)
        return found

    async def close(self) -> None:
        """Let the threads end."""
        for lane in (self._lane, self._lists, self._probes):
            lane.close()

    async def health(self) -> HealthReport:
        """Absent without the marker; unhealthy where it hangs, is read-only or full."""
        self._known = self._opened
        try:
            await self._call(self._try_write, PROBE, self._probes)
            self._lane.check()
        except TierAbsentError as error:
            return HealthReport(Health.absent, error.message, error.next_step)
        except MemoryTierError as error:
            return HealthReport(Health.unhealthy, error.message, error.next_step)
        return HealthReport(Health.healthy, f"{self._mount} is mounted and takes writes")

    def _try_write(self, root: int) -> None:
        probe = f"{self._home}/.probe"
        files.write(root, probe, b"x")
        files.remove(root, probe)

    def accepts(self, meta: Meta) -> bool:
        """Everything within the limit."""
        return meta.size <= self._limit

    async def get(self, namespace: str, key: str) -> Record | None:
        """See tier.Replica; a tombstone is never kept here."""
        return await self._read(self._path(namespace, key))

    async def read_id(self, key_id: str) -> Record | None:
        """As `get`, by the name of the file."""
        async for path, _ in self._files():
            if path.endswith(f"/{key_id}"):
                return await self._read(path)
        return None

    async def put(self, record: Record, parent: str) -> Diverged | None:
        """Replace the file; a tombstone removes it. Nobody else writes here, so nothing diverges."""
        path = self._path(record.meta.namespace, record.meta.key)

        def work(root: int, allowed: Allowed) -> None:
            folder = path.rpartition("/")[0]
            if self._lane.given_up or folder not in self._tidy:
                _remove_parts(root, folder)
            self._tidy.discard(folder)  # until this write has ended well
            if record.meta.deleted:
                allowed()
                self._remove(root, path)
                return
            data = codec.encode(record)
            allowed()
            before = files.size(root, path)
            files.write(root, path, data, allowed)
            self._changed(len(data) - before)
            self._tidy.add(folder)

        await self._call_guarded(work, CALL)
        return None

    async def replace(self, record: Record, seen: tuple[str, ...]) -> Diverged | None:
        """As `put`."""
        return await self.put(record, "")

    async def purge(self, namespace: str, key: str, version: str) -> None:
        """Remove the file where it holds this version."""
        path = self._path(namespace, key)

        def work(root: int, allowed: Allowed) -> None:
            data = files.read(root, path)
            if data is not None and _is_version(data, path, version):
                allowed()
                self._remove(root, path)

        await self._call_guarded(work, CALL)

    def _remove(self, root: int, path: str) -> None:
        before = files.size(root, path)
        files.remove(root, path)
        self._changed(-before)

    def _changed(self, size: int) -> None:
        if self.held is not None:
            self.held += size

    async def heads(self) -> AsyncIterator[Head]:
        """Every file, read for its version."""
        async for path, _ in self._files():
            record = await self._read(path)
            if record is not None:
                meta = record.meta
                yield Head(key_id=key_id(meta.namespace, meta.key), version=meta.version, checksum=meta.checksum,
                           size=meta.size, modified=meta.modified)  # fmt: skip

    async def usage(self) -> Usage:
        """Counted file by file."""
        sizes = [size async for _, size in self._files()]
        self.held = sum(sizes)
        return Usage(len(sizes), sum(sizes))

    async def _files(self) -> AsyncIterator[tuple[str, int]]:
        def work(root: int) -> list[tuple[str, int]]:
            return [(path, status.st_size) for path, status in files.walk(root, self._home) if "/." not in path]

        for found in await self._call(work, LISTED, self._lists):
            yield found

    async def _read(self, path: str) -> Record | None:
        def work(root: int) -> Record | None:
            data = files.read(root, path)
            return None if data is None else codec.decode(data, f"{self._mount}/{path}")

        return await self._call(work, CALL)

    def _path(self, namespace: str, key: str) -> str:
        return f"{self._home}/{namespace}/{relative_path(key_id(namespace, key))}"

    def _check_disk(self, root: int) -> None:
        """Refuse another disk than the one that was opened: what is said of the one is not true of the other."""
        known = self._known or self._opened
        if known is not None and files.read(root, f"{self._home}/{IDENTITY}") != known:
            raise TierUnavailableError(
                f"nas: another disk is mounted at {self._mount} than a moment ago, or it was emptied.",
                "nothing: it is taken into use by itself.",
            )

    async def _call(self, work: Callable[[int], T], limit: float, lane: Lane | None = None, *, any_disk: bool = False) -> T:
        """As `_call_guarded`, for what may come too late."""
        return await self._call_guarded(lambda root, _: work(root), limit, lane, any_disk=any_disk)

    async def _call_guarded(
        self, work: Callable[[int, Allowed], T], limit: float, lane: Lane | None = None, *, any_disk: bool = False
    ) -> T:
        """Run with a descriptor of the mounted root, after marker and identity were seen through that very descriptor."""

        def guarded(allowed: Allowed) -> T:
            try:
                with files.directory(self._mount) as root:
                    os.stat(MARKER, dir_fd=root)
                    if not any_disk:
                        self._check_disk(root)
                    return work(root, allowed)
            except FileNotFoundError as error:
                raise TierAbsentError(
                    f"The NAS is not mounted at {self._mount}: {MARKER} is not there.",
                    f"mount it; on a NAS that is new to this appliance: touch {self._mount}/{MARKER}",
                ) from error
            except OSError as error:
                raise files.explain(error, "nas", str(self._mount)) from error

        return await (lane or self._lane).run(guarded, limit)


def _remove_parts(root: int, folder: str) -> None:
    """Remove half-written files of a folder, which a kill or a NAS that went left; writes come one after the other.

    A writer that was given up, and goes on later, finds nothing to rename.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return
    try:
        with os.scandir(descriptor) as entries:
            names = [entry.name for entry in entries]
        for found in names:
            if found.startswith(".") and found.endswith(".part"):
                files.remove(descriptor, found)
    finally:
        os.close(descriptor)


def _is_version(data: bytes, path: str, version: str) -> bool:
    """Whether a file holds a version; a damaged one holds nothing that anybody could want."""
    try:
        return codec.decode(data, path).meta.version == version
    except CorruptRecordError as error:
        log.warning("nas: %s It is removed.", error.message)
        return True
