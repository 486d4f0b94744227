"""Applies the first-boot file, if there is one that was not applied yet; says what came of it.

This runs at every start, before the network: what checks and stages a file is loaded only where there is one to apply.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path

import msgspec
from msgspec.structs import replace

from appliance.core.lifecycle.firstboot import card, reading, records
from appliance.core.lifecycle.firstboot.model import (
    FAULT,
    NAME,
    OUTCOME,
    PREPARED,
    Job,
    Outcome,
    Record,
    Wrong,
    home_of,
    record_file,
)
from appliance.core.lifecycle.firstboot.reading import FileError
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

NOTICE = "notice.d/first-boot.txt"
"""What the console says before the appliance has it."""
ERASE = ".erase-everything"
"""Lies in the data partition when all of it is to go at the next start."""


def apply(job: Job) -> Outcome:
    """Apply the file, or carry to its end what a cut left; the outcome is also told in the run directory.

    Nothing raises but where it cannot be told: a machine starts with whatever it has, and says what is wrong.
    """
    try:
        found = _apply(job)
    except Exception as error:  # the file is anybody's text; what no check foresaw must not cost the machine its network
        log.exception("the first-boot file could not be read or applied")
        step = "see `journalctl -u prime-spark-identity`; take the file away, or make it simpler, and start again."
        found = Outcome(
            "failed", str(job.boot / NAME), None, f"It could not be read or applied ({type(error).__name__}).", step
        )
    log.log(logging.ERROR if found.wrong else logging.INFO, "first-boot file: %s %s", found.state, found.message)
    tell(job.run, found)
    return found


def tell(run: Path, outcome: Outcome) -> None:
    """Say it to whoever looks, until the next start. Raises OSError."""
    run.mkdir(parents=True, exist_ok=True)
    notice = run / NOTICE
    if outcome.wrong:
        notice.parent.mkdir(exist_ok=True)
        wrong = (Wrong(outcome.line, outcome.message, outcome.next_step), *outcome.others)
        notice.write_text("".join(_noticed(outcome.file, each) for each in wrong), encoding="utf-8")
    else:
        notice.unlink(missing_ok=True)
    part = run / f".{OUTCOME}.part"
    part.write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=1))
    part.chmod(0o644)
    part.replace(run / OUTCOME)


def _noticed(file: str, wrong: Wrong) -> str:
    return f"{file}{f':{wrong.line}' if wrong.line else ''}: {wrong.message}\nNext: {wrong.next_step}\n"


def _apply(job: Job) -> Outcome:
    path = job.boot / NAME
    if (job.run / FAULT).exists():
        if not path.exists():
            return Outcome("none", str(path), warnings=_strays(job.boot, missing=True))
        told = "It is not applied while the data partition cannot be used: its passwords would be lost with it."
        return Outcome("waiting", str(path), None, told, "see the console: the data partition comes first.")
    try:
        empty_if_asked(job.data)
        done = _carry_out(job)
        settled = _settle(job, path)
        if done is not None:
            return _applied(path, done, settled)
    except (ApplianceError, OSError) as error:
        return _failed(path, error, "What was begun is not done yet")
    if not path.exists():
        return Outcome("none", str(path), warnings=_strays(job.boot, missing=True))
    return _new(job, path, settled)


def _new(job: Job, path: Path, settled: tuple[str, ...]) -> Outcome:
    try:
        raw = reading.read(path)
        if (was := _before(job, path, raw)) is not None:
            return replace(was, warnings=(*settled, *was.warnings, *_strays(job.boot)))
        from appliance.core.lifecycle.firstboot import stage, validate
        from appliance.core.lifecycle.firstboot.prepare import prepare

        found = validate.check(path, raw, job.parts, job.root)
        if not found.tables:
            return Outcome("none", str(path), message="It says nothing.", warnings=_strays(job.boot))
        stage.arm(job.data, prepare(job, path, raw, found))
    except FileError as error:
        return _broken(path, error, _strays(job.boot))
    except ApplianceError as error:
        return Outcome("broken", str(path), None, error.message, error.next_step, warnings=_strays(job.boot))
    except OSError as error:
        return _failed(path, error, "Nothing was applied")
    try:
        done = _carry_out(job)
        settled = _settle(job, path)
    except (ApplianceError, OSError) as error:
        return _failed(path, error, "It was applied in part")
    return _applied(path, done, settled) if done is not None else Outcome("none", str(path))


def _before(job: Job, path: Path, raw: bytes) -> Outcome | None:
    """What is to be said where the file was applied at an earlier start. Raises FileError, StoreError."""
    record = records.read_record(job.data)
    if record is not None and not record.erased:  # the card refuses to be written
        from appliance.core.lifecycle.firstboot import erase

        if erase.is_that(raw, record):
            return Outcome("kept", str(path), clock=record.clock, parts=record.parts)
    if b"applied" not in raw:
        return None
    applied = reading.parse(path, reading.decode(path, raw)).get("applied")
    if not isinstance(applied, dict):
        return None
    return Outcome("kept", str(path), clock=str(applied.get("clock", "")), warnings=_unread(path, raw, record))


def _unread(path: Path, raw: bytes, record: Record | None) -> tuple[str, ...]:
    """What is to be said of passwords that were written into an applied file: they are not read, and stay in it."""
    if record is not None:  # as this machine left it: nothing more is loaded
        left = raw[: record.length].removeprefix(reading.BOM)
        if hashlib.sha256(left).hexdigest() == record.masked:
            return ()
    from appliance.core.lifecycle.firstboot import erase

    if not erase.holds_secrets(raw):
        return ()
    return (f"{path.name} has new passwords and the table [applied]: take that table away, or the passwords out",)


def _broken(path: Path, error: FileError, warnings: tuple[str, ...]) -> Outcome:
    others = tuple(
        Wrong(each.line, _sentence(each.what), each.next_step) for each in error.others if isinstance(each, FileError)
    )
    return Outcome("broken", str(path), error.line, _sentence(error.what), error.next_step, warnings=warnings, others=others)


def _sentence(what: str) -> str:
    return what if what.endswith(".") else f"{what}."


def _carry_out(job: Job) -> Record | None:
    """What is prepared; None where nothing is. Raises ApplianceError, OSError."""
    if not any((job.data / PREPARED).glob("*")):
        return None
    from appliance.core.lifecycle.firstboot import stage

    done = None
    if stage.is_ready(job.data):
        done = stage.carry_out(job.data, job.root, job.parts.places(home_of(job.data)))
    stage.sweep(job.data)
    return done


def _settle(job: Job, path: Path) -> tuple[str, ...]:
    """Strike the secrets of an applied file out; what is to be said of that. Raises ApplianceError, OSError."""
    record = records.read_record(job.data)
    if record is None or record.erased:
        return ()
    from appliance.core.lifecycle.firstboot import erase

    try:
        if path.exists():
            with card.writable(job.boot, job.root):
                erase.strike_out(path, record)
        records.write(record_file(job.data), replace(record, erased=True))
    except (ApplianceError, OSError) as error:
        told = error.message if isinstance(error, ApplianceError) else str(error)
        return (f"the passwords in {path.name} could not be struck out: {told} Remove the file on another computer.",)
    return ()


def _applied(path: Path, record: Record, settled: tuple[str, ...]) -> Outcome:
    return Outcome("applied", str(path), clock=record.clock, parts=record.parts, warnings=(*settled, *record.warnings))


def _failed(path: Path, error: ApplianceError | OSError, what: str) -> Outcome:
    told = error.message if isinstance(error, ApplianceError) else f"{error.filename or 'the disk'}: {error.strerror}."
    step = getattr(error, "next_step", "") or "see the data partition (dmesg, df), then start again: it goes on."
    return Outcome("failed", str(path), None, f"{what}: {told}", step)


def _strays(boot: Path, *, missing: bool = False) -> tuple[str, ...]:
    """What is to be said of files beside it."""
    found = reading.strays(boot)
    told = [f"{name} may hold the same passwords: remove it" for name in found]
    if missing:
        near = [
            name for name in found if name.lower() in {f"{NAME}{reading.TEXT}", "prime-spark.txt"} or name.endswith(".toml")
        ]
        told = [f"{name} is not read: call it {NAME}" for name in near] + [each for each in told if each.split()[0] not in near]
    return tuple(told)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def empty_if_asked(data: Path) -> bool:
    """Empty the data partition where that was asked for; the request goes last. Raises OSError.

    Its directories stay, empty: one is mounted elsewhere already (/home), and units cannot do without others.
    """
    if not (data / ERASE).exists():
        return False
    for each in data.iterdir():
        if each.name in {ERASE, "lost+found"}:
            continue
        folder = each.is_dir() and not each.is_symlink()
        for one in each.iterdir() if folder else (each,):
            _remove(one)
    card.flush(data)
    (data / ERASE).unlink()
    card.flush(data)
    os.sync()
    log.warning("the data partition was emptied, as was asked for")
    return True
