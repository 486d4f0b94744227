"""The values of the backups: what is in one, whether it was proved, how the targets are."""

from __future__ import annotations

import msgspec

FORMAT = 1
"""Of the manifest."""
MANIFEST = "manifest.json"


class FileFact(msgspec.Struct, frozen=True):
    """One file of a backup."""

    size: int
    sha256: str


class Gap(msgspec.Struct, frozen=True):
    """Something that is not in a backup, and why."""

    what: str
    why: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup contains; lies in it as manifest.json."""

    format: int
    version: str
    """Of the program."""
    device_id: str
    made: float
    """Wall clock."""
    parts: tuple[str, ...]
    files: dict[str, FileFact]
    """By their paths in the backup."""
    schemas: dict[str, int]
    """Newest migration of each SQLite database, by its path in the backup."""
    gaps: tuple[Gap, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(each.size for each in self.files.values())


class Proof(msgspec.Struct, frozen=True):
    """One look at a snapshot: it was restored into a scratch directory and compared."""

    good: bool
    time: float
    message: str
    seconds: float = 0.0


class Snapshot(msgspec.Struct, frozen=True):
    """One backup at one target."""

    id: str
    time: float
    target: str
    device_id: str
    parts: tuple[str, ...]
    size: int | None = None
    """Bytes of what is in it; None where this machine did not look yet."""
    added: int | None = None
    """Bytes that were new in the repository, before they were compressed."""
    proof: Proof | None = None
    """None where it was not proved yet."""
    gaps: tuple[Gap, ...] = ()
    stored: int | None = None
    """Bytes that were written into the repository; None where restic did not tell it (before 0.17)."""


class TargetStatus(msgspec.Struct, frozen=True):
    """One target as it was when it was last used."""

    name: str
    kind: str
    place: str
    first_seen: float
    last_try: float | None = None
    last_good: float | None = None
    """When the newest backup that was proved was made."""
    problem: str = ""
    """Why the last try failed; empty where it did not."""
    next_step: str = ""
    failures: int = 0
    """In a row."""
    seconds: float | None = None
    """Of the last backup that succeeded, its proof included."""
    snapshots: tuple[Snapshot, ...] = ()
    """Newest first."""


class Pending(msgspec.Struct, frozen=True):
    """A restore that is applied at the next start."""

    source: str
    device_id: str
    made: float
    version: str
    parts: tuple[str, ...]
    by: str = ""
    """Who asked for it; empty where that was not noted."""


class Restored(Pending, frozen=True):
    """A restore that was applied, until somebody has acknowledged it."""

    applied: float = 0.0
    """When, by the clock of then."""
    aside: str = ""
    """What stood here before lies there, among the data; empty where nothing did."""
    audit_rows: int | None = None
    """Rows of the former audit log, which lie there too; None where the audit log was not restored, or cannot be read."""
    audit_newer: int | None = None
    """How many of them tell of what was done after the backup was made."""


class Former(msgspec.Struct, frozen=True):
    """What stood here before a restore, kept until it is dropped."""

    name: str
    size: int
    """Bytes."""


class BackupStatus(msgspec.Struct, frozen=True):
    """All about backups."""

    targets: tuple[TargetStatus, ...] = ()
    doing: str = ""
    """What is being done now; empty for nothing."""
    progress: float | None = None
    """0…1; None where unknown."""
    schedule: str = ""
    next_run: float | None = None
    """As the schedule says, or soon where that was missed."""
    retry: float | None = None
    """When what failed is tried again; None where nothing did, or the schedule is sooner."""
    parts: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    pending: Pending | None = None
    former: tuple[Former, ...] = ()
    restored: Restored | None = None
    """What the newest restore replaced; None once somebody has acknowledged it."""
    runs: int = 0
    """Since the start."""
    failed: int = 0

    @property
    def last_proved(self) -> float | None:
        """When the newest proved backup of all targets was made."""
        return max((each.last_good for each in self.targets if each.last_good is not None), default=None)


class Exported(msgspec.Struct, frozen=True):
    """A backup as one file."""

    file: str
    size: int
    sha256: str
    parts: tuple[str, ...]
    opened_by: str
    """What decrypts it."""
    proved: bool
    gaps: tuple[Gap, ...] = ()


class RecoveryKey(msgspec.Struct, frozen=True):
    """What opens the repositories and the exported files."""

    key: str
    recipient: str
    """Its public half."""
