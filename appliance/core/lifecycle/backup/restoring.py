"""A restore is staged beside the data, and applied at the next start, before anything opens a database.

Once the plan lies in `restore/ready`, each start carries it out to its end before the appliance opens anything: every step is
one rename that can be repeated. So a cut at any instant ends in the old state, or the next start ends in the new one; no
appliance ever runs on a mixture. What stood here before lies in `before-restore-TIME` until somebody drops it.
"""

from __future__ import annotations

import errno
import filecmp
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

import msgspec

from appliance.core.lifecycle.backup.contents import Piece, Places, pieces
from appliance.core.lifecycle.backup.model import MANIFEST, Former, Manifest, Pending, Restored
from appliance.errors import BackupError, InvalidArgumentsError

log = logging.getLogger(__name__)

PLAN, APPLIED, LAST = "plan.json", "applied.json", "restored.json"
"""What is to be done; what was done and nobody was told of; what was told and nobody acknowledged."""
BEFORE = "before-restore-"
BESIDE = {"sqlite": ("-wal", "-shm"), "duckdb": (".wal",)}
"""What a database has beside its file."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be applied."""

    pending: Pending
    stamp: str


def root_of(data: Path) -> Path:
    """Where restores are prepared."""
    return data / "restore"


def incoming(data: Path) -> Path:
    """Where one is unpacked; what lies there means nothing yet."""
    return root_of(data) / "incoming"


def is_pending(data: Path) -> bool:
    """Whether the next start applies a restore."""
    return (root_of(data) / "ready" / PLAN).is_file()


def pending(data: Path) -> Pending | None:
    """The restore that the next start applies. Raises BackupError."""
    return _plan(data).pending if is_pending(data) else None


def _plan(data: Path) -> Plan:
    path = root_of(data) / "ready" / PLAN
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        step = f"move {path.parent} away, start, and restore again."
        raise BackupError(f"The prepared restore cannot be read: {error}.", step) from error


def choose(manifest: Manifest, only: tuple[str, ...], closed: Collection[str] = ()) -> tuple[str, ...]:
    """The parts that are restored, without those that this process may not. Raises InvalidArgumentsError."""
    if barred := [each for each in only if each in closed]:
        step = "put the file on a fresh card, with [restore] in prime-spark.toml: docs/first-boot.md"
        raise InvalidArgumentsError(f"The part {barred[0]} comes back at a first start only.", step)
    if missing := [each for each in only if each not in manifest.parts]:
        told = f"The backup does not contain {', '.join(missing)}."
        raise InvalidArgumentsError(told, f"it has: {', '.join(manifest.parts)}.")
    return tuple(part for part in manifest.parts if part not in closed and (not only or part in only))


def arm(data: Path, manifest: Manifest, parts: tuple[str, ...], source: str, by: str = "") -> Pending:
    """Have what lies in `incoming`, proved, applied at the next start; blocks until it is on disk.

    Raises:
        BackupError: A restore waits already.
        OSError: The disk.
    """
    root, tree = root_of(data), incoming(data)
    if (root / "ready").exists():
        step = "start the appliance, which applies it; or take it back: prime-spark backup restore-cancel"
        raise BackupError("A restore waits for the next start already.", step)
    told = Pending(source, manifest.device_id, manifest.made, manifest.version, parts, by)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    (tree / PLAN).write_bytes(msgspec.json.encode(Plan(told, stamp)))
    for folder, _, names in os.walk(tree):
        Path(folder).chmod(0o700)
        for name in names:
            (Path(folder) / name).chmod(0o600)
            _flush(Path(folder) / name)
        _flush(Path(folder))
    tree.rename(root / "ready")
    _flush(root)
    return told


def cancel(data: Path) -> bool:
    """Take a prepared restore back; False where there was none. Raises OSError."""
    ready = root_of(data) / "ready"
    if not ready.exists():
        return False
    ready.rename(root_of(data) / "cancelled")
    shutil.rmtree(root_of(data) / "cancelled")
    return True


def sweep(data: Path) -> None:
    """Remove what a restore that was cut off left, but not one that waits. Raises OSError."""
    for name in ("incoming", "cancelled", "done", "work"):
        if (root_of(data) / name).exists():
            shutil.rmtree(root_of(data) / name)


def apply(places: Places) -> Pending:
    """Carry the prepared restore out, or to its end; the appliance must not run. Blocks.

    Raises:
        BackupError: It cannot be read, or the disk refuses; the next start goes on with it.
    """
    root = root_of(places.data)
    plan = _plan(places.data)
    aside = places.data / f"{BEFORE}{plan.stamp}"
    try:
        manifest = msgspec.json.decode((root / "ready" / MANIFEST).read_bytes(), type=Manifest)
        aside.mkdir(mode=0o700, exist_ok=True)
        for piece in pieces(places):
            if piece.part in plan.pending.parts:
                _apply(piece, manifest, root / "ready", aside)
        if not any(aside.iterdir()):  # there was nothing before
            aside.rmdir()
        for folder in {places.data, aside, places.config.parent}:
            if folder.exists():
                _flush(folder)
        (root / APPLIED).write_bytes(msgspec.json.encode(_outcome(places, plan.pending, aside)))
        _flush(root / APPLIED)
        (root / "ready").rename(root / "done")
        _flush(root)
        shutil.rmtree(root / "done")
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        step = "see that disk (dmesg, df), then start again: it goes on where it stopped."
        raise BackupError(f"The restore could not be applied: {error}.", step) from error
    log.info("restored %s of %s from %s", ", ".join(plan.pending.parts), plan.pending.device_id, plan.pending.source)
    return plan.pending


def _outcome(places: Places, done: Pending, aside: Path) -> Restored:
    rows = newer = None
    database = next(each for each in pieces(places) if each.home == places.database)
    if (former := aside / database.name).is_file():
        try:
            with closing(sqlite3.connect(f"file:{former}?mode=ro", uri=True)) as connection:
                (rows,) = connection.execute("SELECT count(*) FROM audit").fetchone()
                (newer,) = connection.execute("SELECT count(*) FROM audit WHERE time > ?", (done.made,)).fetchone()
        except sqlite3.Error as error:  # it may be why somebody restores
            log.warning("the audit log that was put aside cannot be read: %s", error)
    name = aside.name if aside.is_dir() else ""
    return Restored(
        **msgspec.structs.asdict(done), applied=time.time(), aside=name, audit_rows=rows, audit_newer=newer,
    )  # fmt: skip


def _apply(piece: Piece, manifest: Manifest, ready: Path, aside: Path) -> None:
    if piece.kind == "files":
        for name in manifest.files:
            if name.startswith(piece.name + "/"):
                _swap(ready / name, piece.home / name.removeprefix(piece.name + "/"), aside / name)
        return
    if not any(name == piece.name or name.startswith(piece.name + "/") for name in manifest.files):
        _put_aside(piece.home, aside / piece.name)  # the backup has none
    elif (ready / piece.name).exists():
        for suffix in BESIDE.get(piece.kind, ()):
            beside = piece.home.with_name(piece.home.name + suffix)
            _put_aside(beside, aside / (piece.name + suffix))
        _swap(ready / piece.name, piece.home, aside / piece.name)


def _swap(new: Path, home: Path, aside: Path) -> None:
    """Put the new one in its place; nothing where that was done already."""
    if not new.exists():
        return
    if not (home.is_file() and new.is_file() and filecmp.cmp(new, home, shallow=False)):
        _put_aside(home, aside)
    home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        new.rename(home)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _carry(new, home)
        new.unlink()
    _flush(home.parent)


def _put_aside(home: Path, aside: Path) -> None:
    if not home.exists() or aside.exists():
        return
    aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        home.rename(aside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _carry(home, aside)
        home.unlink()


def _carry(source: Path, target: Path) -> None:
    """Copy a file to another file system, whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    part.chmod(0o600)
    _flush(part)
    part.replace(target)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def applied(data: Path) -> Restored | None:
    """What the newest start restored, until it was `told`. Raises OSError, msgspec.MsgspecError."""
    path = root_of(data) / APPLIED
    return msgspec.json.decode(path.read_bytes(), type=Restored) if path.is_file() else None


def told(data: Path) -> None:
    """The audit has it, and who listens: it is not told again. Raises OSError."""
    (root_of(data) / APPLIED).replace(root_of(data) / LAST)


def last(data: Path) -> Restored | None:
    """What was restored, until somebody has acknowledged it. Raises OSError, msgspec.MsgspecError, UnicodeDecodeError."""
    path = root_of(data) / LAST
    return msgspec.json.decode(path.read_bytes(), type=Restored) if path.is_file() else None


def acknowledge(data: Path) -> bool:
    """Somebody knows of it; False where there was nothing to know. Raises OSError."""
    try:
        (root_of(data) / LAST).unlink()
    except FileNotFoundError:
        return False
    return True


def former(data: Path) -> tuple[Former, ...]:
    """What restores put aside."""
    found = sorted(each for each in data.glob(f"{BEFORE}*") if each.is_dir())
    return tuple(Former(each.name, sum(path.stat().st_size for path in each.rglob("*") if path.is_file())) for each in found)


def drop_former(data: Path, name: str) -> None:
    """Remove for good what stood here before a restore. Raises InvalidArgumentsError, OSError."""
    if name not in {each.name for each in former(data)}:
        known = ", ".join(each.name for each in former(data)) or "nothing"
        raise InvalidArgumentsError(f"Nothing is kept as {name[:60]!r}.", f"kept are: {known}.")
    shutil.rmtree(data / name)
    try:
        done = last(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("what the last restore replaced is not known: %s", error)
        return
    if done is not None and done.aside == name:
        acknowledge(data)
