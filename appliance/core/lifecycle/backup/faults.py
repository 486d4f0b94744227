"""What goes wrong with a target, told so that somebody can do something about it."""

from __future__ import annotations

from appliance.core.printable import printable
from appliance.errors import AbsentError, ApplianceError, BackupError, DamagedError, DiskFullError


class TargetAwayError(BackupError):
    """The target is not mounted, does not answer, or is not what it was."""

    code = "target_away"


class DamagedBackupError(DamagedError):
    """What was given to restore or to prove is no backup, or a damaged one; the appliance's own store is not concerned."""

    code = "damaged_backup"


HOW = 'write a target into the configuration, such as [backup.targets.nas] with path = "/mnt/nas/backup/control-pc".'


WRONG_KEY = "give the key it was made with (--key-file; put back: docs/backup.md), or use another place for this machine."


def no_target() -> AbsentError:
    """Nothing is configured."""
    return AbsentError("No target for backups is configured.", HOW)


class NoRepositoryError(TargetAwayError):
    """The target answers and has no repository."""


class LockedError(BackupError):
    """Somebody else is at work in the repository, or was and did not end well."""


class WrongKeyError(BackupError):
    """The repository or the file opens with another key."""

    code = "wrong_key"


FULL = ("no space left", "disk quota", "storagefull", "insufficient storage")
NONE = ("is there a repository at the following location", "unable to open config file")
GONE = (
    "connection refused", "connection reset", "no such host", "i/o timeout", "no route to host", "network is unreachable",
    "input/output error", "stale file handle", "transport endpoint", "host is down",
)  # fmt: skip
"""The place does not answer; nothing is said of what lies there."""
BROKEN = (
    "ciphertext verification failed", "does not match", "invalid data returned", "unexpected eof", "does not exist",
    "errors were found", "repository contains errors", "not found in index", "hash mismatch",
)  # fmt: skip
REFUSED = (
    "no such file or directory", "permission denied", "read-only file system", "access denied", "signaturedoesnotmatch",
    "invalidaccesskeyid",
)  # fmt: skip


class NoLockError(ApplianceError):
    """The repository takes no lock: its disk is full, or may not be written. Whoever only reads needs none."""

    code = "no_lock"

    def __init__(self, why: ApplianceError) -> None:
        super().__init__(why.message, why.next_step)
        self.why = why


def explain(what: str, location: str, said: str) -> ApplianceError:
    """What restic complains of, as one of our errors.

    Args:
        what: Its command.
        location: The repository.
        said: Its standard error.
    """
    found = _explain(what, location, said)
    if "unable to create lock" in said.lower() and not isinstance(found, LockedError | NoRepositoryError):
        return NoLockError(found)
    return found


def _explain(what: str, location: str, said: str) -> ApplianceError:
    low = said.lower()
    lines = [line for line in said.splitlines() if line.strip()] or ["it did not say why"]
    last = printable(lines[0] if "unable to create lock" in lines[-1] else lines[-1])[:200]  # the cause comes first there
    if "wrong password or no key found" in low:
        told = f"The repository {location} opens with another key than this one."
        return WrongKeyError(told, WRONG_KEY)
    if any(each in low for each in FULL) and what == "restore":
        return DiskFullError(f"No room for what comes from {location}: {last}", "free space on the data partition.")
    if any(each in low for each in FULL):
        step = "free space there, or keep less: backup.keep_daily and the others."
        return DiskFullError(f"No room at {location}: {last}", step)
    if any(each in low for each in NONE):
        step = "give the directory that has it." if what == "restore" else "make a backup there first: prime-spark backup run"
        return NoRepositoryError(f"There is no repository at {location}.", step)
    return _other(what, location, low, last)


def _other(what: str, location: str, low: str, last: str) -> ApplianceError:
    if "already locked" in low:
        return LockedError(f"Somebody else is at work in {location}: {last}", "wait for it, then try again.")
    if any(each in low for each in ("no matching id found", "invalid id", "no snapshot")):
        return BackupError(f"No such snapshot at {location}: {last}", "list them: prime-spark backup list")
    away = TargetAwayError(f"{location} does not answer: {last}", "see that it is mounted, up, and writable for this user.")
    if any(each in low for each in GONE):
        return away
    if any(each in low for each in BROKEN):
        step = "make a new one on another disk; keep this one."
        return DamagedBackupError(f"The repository {location} is damaged: {last}", step)
    if any(each in low for each in REFUSED):
        return away
    return BackupError(f"restic {what} failed at {location}: {last}", "see the log of the appliance, and the target's disk.")
