"""From the settings of a target to a repository, once it is really there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from appliance.core.lifecycle.backup.faults import TargetAwayError
from appliance.core.lifecycle.backup.restic import Repository
from appliance.core.lifecycle.inmemory import STEP, fleeting
from appliance.core.memory.threads import DaemonPool
from appliance.errors import AbsentError
from appliance.settingbackup import BackupTarget

MARKER = ".prime-spark-nas"
ANSWER = 5.0
"""Seconds within which a mounted disk must answer."""
POOL = DaemonPool("backup-look", 2)
"""A disk that hangs keeps nobody from ending."""


def place(target: BackupTarget) -> str:
    """Where it is, for people."""
    return target.path if target.kind == "folder" else f"s3://{target.endpoint}/{target.bucket}/{target.prefix}"


def look(target: BackupTarget, nas: Path, root: Path = Path("/")) -> None:
    """Touch a folder as a backup would; blocks, for ever where a NAS hangs.

    Args:
        target: A folder.
        nas: Mount point of the NAS, with its marker file.
        root: Of the system.

    Raises:
        TargetAwayError: It is not there; nothing is written to what is only an empty directory.
        OSError: It cannot be read or made.
    """
    path, mount = Path(target.path), target.mount
    if told := fleeting(path, root):
        raise TargetAwayError(f"{told}.", STEP)
    if path == nas or nas in path.parents:
        if not (nas / MARKER).exists():
            step = f"mount it; the file {nas / MARKER} on it proves that it is the NAS."
            raise TargetAwayError(f"The NAS is not mounted at {nas}.", step)
    elif mount and not os.path.ismount(mount):
        raise TargetAwayError(f"Nothing is mounted at {mount}.", f"plug the disk in and mount it: sudo mount {mount}")
    elif not mount and not path.exists():
        raise TargetAwayError(f"The directory {path} is not there.", f"mount its disk, or make it: mkdir -p {path}")
    if path.exists() and not path.is_dir():
        raise TargetAwayError(f"{path} is no directory.", "give a directory: backup.targets.NAME.path")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise TargetAwayError(f"{path} cannot be written.", "mount it writable, for this user.")


async def reach(target: BackupTarget, nas: Path, data: Path) -> None:
    """Raises TargetAwayError where a folder is not there, does not answer, or lies in `data`; S3 is asked by restic itself."""
    if target.kind != "folder":
        return
    if (path := Path(target.path)) == data or data in path.parents:
        told = f"{path} lies among the data that it is to keep, and would be lost with them."
        raise TargetAwayError(told, "give a directory on another disk.")
    try:
        await POOL.run(lambda: look(target, nas), ANSWER)
    except TimeoutError:
        told = f"{target.path} does not answer within {ANSWER:g} s."
        step = f"is the NAS up? then: sudo umount -f -l {target.mount or nas} and mount it again"
        raise TargetAwayError(told, step) from None
    except OSError as error:
        told = f"{target.path} cannot be used: {error.strerror}."
        raise TargetAwayError(told, "see that its disk is mounted and whole.") from error


def repository(target: BackupTarget, key: bytes, secret: Callable[[str], str], work: Path, upload_kib: int) -> Repository:
    """The repository of a target. Raises AbsentError where the secret of S3 is missing."""
    if target.kind == "folder":
        return Repository(target.path, key, {}, work, upload_kib)
    found = secret(target.key_name)
    if not found:
        told = f"The secret {target.key_name} of {place(target)} is not there."
        raise AbsentError(told, "put it into the secrets' directory, mode 0600.")
    scheme = "https" if target.secure else "http"
    location = "/".join(part for part in (f"s3:{scheme}://{target.endpoint}", target.bucket, target.prefix.strip("/")) if part)
    return Repository(location, key, _keys(target.access_key, found), work, upload_kib)


def _keys(access: str, secret: str) -> Mapping[str, str]:
    return {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
