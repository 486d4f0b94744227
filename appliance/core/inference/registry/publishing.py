"""The registry's other half, in S3: archives of versions that any appliance can add, and what to offer them with."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Any

from appliance.core.inference import manifest as manifests
from appliance.core.inference.manifest import Manifest
from appliance.core.inference.registry.archive import disk_error
from appliance.core.inference.registry.intake import Intake
from appliance.core.inference.registry.registry import Registry
from appliance.core.inference.registry.staging import Staging
from appliance.core.model import Severity

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")


class Publishing:
    """Stores versions in S3, and lists those that lie there.

    Args:
        registry: Has the versions.
        intake: Has the connection.
        root: s3://BUCKET/PREFIX/ of the archives.
    """

    def __init__(self, registry: Registry, intake: Intake, root: str) -> None:
        self._registry = registry
        self._intake = intake
        self._root = root

    async def stored(self) -> list[dict[str, Any]]:
        """Archives below the root: {"address", "size"}. Raises AbsentError, MemoryTierError."""
        found = await self._intake.remote.list(self._root)
        return [{"address": self._root + name, "size": size} for name, size in found if name.endswith(SUFFIXES)]

    async def publish(self, name: str, version: str) -> dict[str, Any]:
        """Store a version, and say the data of a message of models.updates that offers it to all.

        Raises:
            NotFoundError: There is no such version.
            ModelError: It is not what its manifest says; DiskFullError where there is no room for the archive.
            AbsentError: No S3 is configured.
            MemoryTierError: S3 does not take it.
        """
        remote, found = self._intake.remote, self._registry.look_up(name, version)
        told = self._registry.version(found.key).manifest
        address = f"{self._root}{name}/{version}.tar"
        async with Staging(self._registry.setup.shelf, self._registry.later) as staged:
            archive = staged.path / "archive.tar"
            sha256 = await staged.thread(pack, told, found.directory, archive)
            await remote.upload(archive, address)
        await self._registry.tell("model.published", Severity.info, model=name, version=version, address=address, sha256=sha256)
        rollout = {"strategy": "canary", "percent": self._registry.setup.settings.canary_percent}
        offer = {"model": name, "version": version, "artifact": address, "sha256": sha256, "stage": "Production",
                 "device_ids": [], "rollout": rollout}  # fmt: skip
        return {"address": address, "sha256": sha256, "offer": offer}


def pack(told: Manifest, directory: Path, archive: Path) -> str:
    """A version as a .tar that is the same every time; its SHA-256. Blocks. Raises ModelError, DiskFullError."""
    manifests.verify_all(told, directory)
    try:
        with tarfile.open(archive, "w") as file:
            for name in ["manifest.toml", *sorted({each.path for each in told.files})]:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = (directory / name).stat().st_size, 0o644
                with (directory / name).open("rb") as source:
                    file.addfile(entry, source)
        with archive.open("rb") as packed:
            return hashlib.file_digest(packed, "sha256").hexdigest()
    except OSError as error:
        raise disk_error(error, f"{directory} cannot be packed") from error
