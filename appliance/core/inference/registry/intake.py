"""How a version comes in: from a directory, an archive or S3; proven in a directory of its own, then put to its place."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

from appliance.core.inference import manifest as manifests
from appliance.core.inference.manifest import Manifest
from appliance.core.inference.model import ModelVersion, Stage
from appliance.core.inference.pipeline import Pipeline
from appliance.core.inference.registry.archive import FILES, copy_named, disk_error, unpack
from appliance.core.inference.registry.checks import examine
from appliance.core.inference.registry.deciding import Deciding
from appliance.core.inference.registry.records import VersionFacts
from appliance.core.inference.registry.registry import Registry
from appliance.core.inference.registry.shelf import Found, size_of
from appliance.core.inference.registry.staging import Staging
from appliance.core.model import Severity
from appliance.errors import AbsentError, ConflictError, DiskFullError, ModelError

KEPT = 20
SPARE = 64 * 2**20
"""Bytes of the disk that are left free for everything else."""


class Remote(Protocol):
    """Objects in S3 (memory.object_files implements it)."""

    def download(self, address: str, into: Path, largest: int) -> Coroutine[Any, Any, None]:
        """One object s3://BUCKET/KEY into a new file. Raises MemoryTierError, ModelError where it is larger or not there."""

    async def upload(self, path: Path, address: str) -> None:
        """A file as one object s3://BUCKET/KEY. Raises MemoryTierError."""

    async def close(self) -> None:
        """Let the connection go; a later call opens another one."""

    async def list(self, address: str) -> list[tuple[str, int]]:
        """Names and sizes of the objects below s3://BUCKET/PREFIX/, that prefix left away. Raises MemoryTierError."""


class Intake:
    """Adds versions.

    Args:
        registry: Where they go.
        deciding: Removes what must make room.
        pipeline: Tries them.
        remote: None where no S3 is configured.
    """

    def __init__(self, registry: Registry, deciding: Deciding, pipeline: Pipeline, remote: Remote | None) -> None:
        self._registry = registry
        self._deciding = deciding
        self._pipeline = pipeline
        self._remote = remote
        self._coming: set[str] = set()
        self.dropped: deque[str] = deque(maxlen=KEPT)
        """What was removed to make room, newest first."""

    @property
    def largest(self) -> int:
        """Bytes of one version at most."""
        return self._registry.setup.settings.version_max_mib * 2**20

    @property
    def remote(self) -> Remote:
        """S3. Raises AbsentError where none is configured."""
        if self._remote is None:
            raise AbsentError("No S3 is configured.", "set s3.endpoint (MINIO_ENDPOINT) and restart.")
        return self._remote

    async def close(self) -> None:
        """Let S3 go."""
        if self._remote is not None:
            await self._remote.close()

    async def add(self, origin: str, expected: tuple[str, str] | None = None, sha256: str = "") -> ModelVersion:
        """Add a version as Staging.

        Args:
            origin: A directory, an archive, or s3://BUCKET/KEY (an archive; with a slash at its end: a directory).
            expected: Name and version that it must be.
            sha256: Of the archive; empty where it is not told.

        Raises:
            ModelError: It is not what it must be; nothing of it stays.
            ConflictError: It is there already, or is being added.
            DiskFullError: No room.
            AbsentError: No S3 is configured.
            MemoryTierError: S3 does not answer.
        """
        async with self._staging() as staged:
            await self._bring(origin, staged, sha256, await self._allowance())
            told = await asyncio.to_thread(manifests.load, staged.path)
            if expected is not None and (told.name, told.version) != expected:
                raise ModelError(
                    f"It is {told.name} {told.version}, not {expected[0]} {expected[1]}.", "mend the offer, or the archive."
                )
            return await self._take(told, staged, origin, sha256.lower())

    def _staging(self) -> Staging:
        return Staging(self._registry.setup.shelf, self._registry.later)

    async def _take(self, told: Manifest, staged: Staging, origin: str, sha256: str) -> ModelVersion:
        registry, key = self._registry, f"{told.name}@{told.version}"
        there = await asyncio.to_thread(registry.setup.shelf.taken, told.name, told.version)
        if there or key in registry.found or key in self._coming:
            raise ConflictError(f"{key} is there already, or is being added.", "give it another version, or remove that one.")
        self._coming.add(key)
        try:
            await staged.thread(_only_named, told, staged.path)  # first: nothing that has no hash may help to pass
            proof = await examine(ModelVersion(told, staged.path, Stage.staging), self._pipeline)
            facts = VersionFacts(key=key, added=registry.setup.clock.wall(), origin=origin, sha256=sha256)
            facts = facts.with_proof(proof, manifests.fingerprint(told))
            await staged.whole(self._commit(told, staged.path, facts))
        finally:
            self._coming.discard(key)
        await registry.tell(
            "model.added",
            Severity.info,
            model=told.name,
            version=told.version,
            origin=origin,
            tested=proof.shown,
            licence=told.licence,
        )
        return registry.version(key)

    async def _commit(self, told: Manifest, staged: Path, facts: VersionFacts) -> None:
        """Put it to its place: on disk, in the database, and known; all of it, or nothing."""
        registry, shelf = self._registry, self._registry.setup.shelf
        async with registry.changing:
            size = await asyncio.to_thread(size_of, staged)
            await self._make_room(size)
            await registry.setup.records.write(facts=[facts])  # a row of no version harms nothing, the reverse is untold
            directory = await asyncio.to_thread(shelf.put, staged, told.name, told.version)
            registry.facts[facts.key] = facts
            mark = manifests.fingerprint(told)
            registry.found[facts.key] = Found(told.name, told.version, directory, told, True, size, mark=mark)

    async def _allowance(self) -> int:
        """Bytes that one version may take now, so that the disk keeps its spare room. Raises DiskFullError."""
        free = await asyncio.to_thread(self._registry.setup.shelf.room)
        if free <= SPARE:
            raise DiskFullError(
                f"There is no room: {free / 2**20:.0f} MiB of the disk are free, and {SPARE >> 20} stay for everything else.",
                "make room, or remove versions: prime-spark model remove.",
            )
        return min(self.largest, free - SPARE)

    async def _bring(self, origin: str, staged: Staging, sha256: str, most: int) -> None:
        path = Path(origin)
        folder = origin.endswith("/") if origin.startswith("s3://") else await asyncio.to_thread(path.is_dir)
        if folder and sha256:
            raise ModelError(f"{origin} is a directory, which has no SHA-256 of its own.", "offer it as a .tar or .zip.")
        if origin.startswith("s3://"):
            await (self._folder(origin, staged, most) if folder else self._archive(origin, staged, sha256, most))
            return
        if sha256:
            await asyncio.to_thread(check_hash, path, sha256)
        if folder:
            await staged.thread(copy_named, path, staged.path, most, self.largest)
        elif await asyncio.to_thread(path.is_file):
            await staged.thread(unpack, path, staged.path, most, self.largest)
        else:
            raise ModelError(f"{origin} is not there.", "give a directory, a .tar or .zip, or s3://BUCKET/KEY.")

    async def _folder(self, origin: str, staged: Staging, left: int) -> None:
        remote = self.remote
        found = [(name, size) for name, size in await remote.list(origin) if name]  # "" is the folder's own placeholder
        if len(found) > FILES:
            raise ModelError(f"{origin} holds more than {FILES} files.", "put one version there.")
        for name, size in found:
            if "/" in name or name.startswith(".") or size > left:
                raise ModelError(f"{origin} holds {name!r}, which is too large or lies deeper.", "put one version there.")
            await staged.whole(remote.download(origin + name, staged.path / name, left))
            left -= size

    async def _archive(self, origin: str, staged: Staging, sha256: str, most: int) -> None:
        async with self._staging() as apart:
            archive = apart.path / "archive"
            await apart.whole(self.remote.download(origin, archive, most))
            if sha256:
                await asyncio.to_thread(check_hash, archive, sha256)
            left = most - await asyncio.to_thread(lambda: archive.stat().st_size)
            await staged.thread(unpack, archive, staged.path, max(left, 0), self.largest)

    async def _make_room(self, size: int) -> None:
        """Remove archived versions, those added first, until there is room. Raises DiskFullError."""
        registry = self._registry
        limit = registry.setup.settings.disk_max_mib * 2**20
        while True:
            used = sum(found.size for found in registry.found.values() if found.own)
            free = await asyncio.to_thread(registry.setup.shelf.room)
            if used + size <= limit and free >= SPARE:
                return
            victim = self._oldest_archived()
            if victim is None:
                raise DiskFullError(
                    f"There is no room for {size / 2**20:.0f} MiB: {used / 2**20:.0f} of {limit / 2**20:.0f} MiB are taken, "
                    f"{free / 2**20:.0f} MiB of the disk are free.",
                    "remove versions (prime-spark model remove), or raise models.disk_max_mib.",
                )
            await self._deciding.remove_locked(victim.name, victim.version, "to make room")
            self.dropped.appendleft(f"{victim.key} removed to make room")

    def _oldest_archived(self) -> Found | None:
        registry = self._registry
        able = []
        for found in registry.found.values():
            record = registry.record(found.name)
            split = record.split.candidate if record.split else ""
            kept = {record.active, record.previous, split}
            if found.own and found.version not in kept and registry.stage(found) is Stage.archived:
                able.append(found)
        return min(able, key=lambda each: registry.facts.get(each.key, VersionFacts(key="")).added, default=None)


def check_hash(path: Path, sha256: str) -> None:
    """Blocks. Raises ModelError where the file is another one."""
    import hashlib

    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise disk_error(error, f"{path} cannot be read") from error
    if digest != sha256.lower():
        raise ModelError(
            f"Its SHA-256 is {digest[:12]}…, not {sha256[:12].lower()}…: it was altered, or is another file.",
            "offer it again with the right hash.",
        )


def _only_named(told: Manifest, staged: Path) -> None:
    """Remove what the manifest does not name."""
    named = {"manifest.toml", *(file.path for file in told.files)}
    for path in staged.iterdir():
        if path.name not in named:
            path.unlink()
