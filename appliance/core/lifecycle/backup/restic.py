"""restic, driven as a child: one repository, its key handed over in a pipe, a low priority, an end with ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance.core.lifecycle.backup import locks
from appliance.core.lifecycle.backup.faults import LockedError, NoLockError, TargetAwayError, explain
from appliance.errors import AbsentError

PROGRAM = "restic"
INSTALL = "sudo apt-get install restic"
TAG = "prime-spark"
QUIET = (("ionice", "-c", "3"), ("nice", "-n", "15"))
"""What makes it wait for everybody else (util-linux, coreutils)."""
HOUSEKEEPING = 600.0
"""Seconds for a listing, an unlock."""
PAUSES = (0.1, 1.0, 3.0)
"""Seconds between tries where somebody holds the repository."""
GRACE = 5.0
"""Seconds that it has to take its locks away when it is to stop."""
LINE = 4 << 20
"""Longest line of an answer, bytes: a listing is one line."""
TOLD = 10
"""First and last lines of its complaints that are kept."""
READING = frozenset({"snapshots", "restore", "check"})
"""Commands that change nothing in the repository."""
FRAME = re.compile(r"\S+/\S+\.go:\d+|[\w./-]+\.[\w.()*]+")
"""A line of a list of calls, as Go programs add it to an error."""
PASSED = ("PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR")


class Made(NamedTuple):
    """A new snapshot.

    Attributes:
        snapshot: Its id.
        added: Bytes that were new.
        stored: Bytes that they take in the repository; None where this restic does not tell it.
    """

    snapshot: str
    added: int
    stored: int | None


@dataclass(frozen=True)
class Repository:
    """Where a repository is and how it is opened.

    Attributes:
        location: As restic has it: a directory, or s3:http://HOST:PORT/BUCKET/PREFIX.
        key: Its password.
        environ: Further variables, such as the keys of S3; never logged.
        work: Private directory for its cache and temporary files.
        upload_kib: Most that goes there, KiB/s; 0 for no bound.
    """

    location: str
    key: bytes
    environ: Mapping[str, str]
    work: Path
    upload_kib: int = 0


class Restic:
    """Calls on one repository. Each raises TargetAwayError, DiskFullError, BackupError; AbsentError without the program.

    Args:
        repository: It.
        environ: This process's environment; little of it is handed on.
    """

    def __init__(self, repository: Repository, environ: Mapping[str, str]) -> None:
        self._repository = repository
        self._environ = environ

    async def make(self) -> None:
        """Make the repository."""
        await self._run(["init"], HOUSEKEEPING)

    async def backup(self, tree: Path, host: str, tags: tuple[str, ...], limit: float, report: Callable[[float], None]) -> Made:
        """Keep a directory. Raises NoRepositoryError too."""
        summary: dict[str, Any] = {}

        def take(line: bytes) -> None:
            said = msgspec.json.decode(line)
            if said.get("message_type") == "status":
                report(float(said.get("percent_done", 0.0)))
            elif said.get("message_type") == "summary":
                summary.update(said)

        marks = [part for tag in (TAG, *tags) for part in ("--tag", tag)]
        await self._run(["backup", "--json", "--host", host, *marks, "."], limit, take=take, cwd=tree)
        packed = summary.get("data_added_packed")
        return Made(str(summary["snapshot_id"]), int(summary["data_added"]), None if packed is None else int(packed))

    async def snapshots(self) -> list[dict[str, Any]]:
        """All of ours, oldest first."""
        out = await self._run(["snapshots", "--json", "--tag", TAG], HOUSEKEEPING)
        return sorted(msgspec.json.decode(out or b"[]") or [], key=lambda each: str(each["time"]))

    async def restore(self, snapshot: str, target: Path, limit: float) -> None:
        """Write a snapshot into a directory."""
        await self._run(["restore", snapshot, "--target", str(target)], limit)

    async def check(self, percent: float, limit: float) -> None:
        """Check the repository's structure, and read this share of its data."""
        await self._run(["check", f"--read-data-subset={percent:g}%"], limit)

    async def forget(self, host: str, keep: tuple[int, int, int, int], limit: float) -> None:
        """Forget snapshots past what is kept (all of so many days; days, weeks, months) and free their room."""
        every, days, weeks, months = (str(each) for each in keep)
        whole = ["--keep-within", f"{every}d"] if keep[0] else []
        kept = ["--keep-last", "1", *whole, "--keep-daily", days, "--keep-weekly", weeks, "--keep-monthly", months]
        await self._run(["forget", "--host", host, "--tag", TAG, "--group-by", "host", *kept, "--prune"], limit)

    async def drop(self, snapshot: str, limit: float) -> None:
        """Forget one snapshot and free its room."""
        await self._run(["forget", snapshot, "--prune"], limit)

    async def _run(
        self, words: list[str], limit: float, take: Callable[[bytes], None] | None = None, cwd: Path | None = None
    ) -> bytes:
        """Run it to its end; what it says on its standard output. A lock whose process is gone, such as ours of a life before,
        is removed; those of others that are at work stay, and then it is refused. What only reads needs no lock where none can
        be made: on a full disk, or one that may not be written.
        """
        try:
            return await self._patiently(words, limit, take, cwd)
        except NoLockError as error:
            if words[0] not in READING:
                raise error.why from error
            return await self._once([*words, "--no-lock"], limit, take, cwd)

    async def _patiently(self, words: list[str], limit: float, take: Callable[[bytes], None] | None, cwd: Path | None) -> bytes:
        for pause in PAUSES:
            try:
                return await self._once(words, limit, take, cwd)
            except LockedError:
                await asyncio.sleep(pause)  # one that was just killed needs a moment to be gone
                await self._unlock()
        return await self._once(words, limit, take, cwd)

    async def _unlock(self) -> None:
        ids = (await self._once(["list", "locks"], HOUSEKEEPING)).split()
        held = [locks.read(await self._once(["cat", "lock", each.decode(), "--no-lock"], HOUSEKEEPING)) for each in ids]
        every = ["--remove-all"] if all(locks.dead(each) for each in held) else []
        await self._once(["unlock", *every], HOUSEKEEPING)

    async def _once(
        self, words: list[str], limit: float, take: Callable[[bytes], None] | None = None, cwd: Path | None = None
    ) -> bytes:
        program = shutil.which(PROGRAM, path=self._environ.get("PATH"))
        if program is None:
            raise AbsentError("restic is not installed; it keeps the backups.", INSTALL)
        for each in ("cache", "tmp"):
            (self._repository.work / each).mkdir(mode=0o700, parents=True, exist_ok=True)
        reading, writing = os.pipe()
        try:
            command = [*self._before(), program, *self._options(), *words]
            child = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                env=self._variables(reading), pass_fds=(reading,), cwd=cwd, limit=LINE,
            )  # fmt: skip
            os.write(writing, self._repository.key)
        finally:
            os.close(reading)
            os.close(writing)
        return await self._follow(child, words[0], limit, take)

    async def _follow(
        self, child: asyncio.subprocess.Process, what: str, limit: float, take: Callable[[bytes], None] | None
    ) -> bytes:
        if child.stdout is None or child.stderr is None:
            raise ValueError("a child without pipes")
        said: list[bytes] = []
        complaints = Complaints()
        try:
            async with asyncio.timeout(limit), asyncio.TaskGroup() as group:
                group.create_task(_lines(child.stderr, lambda line: complaints.add(line.decode(errors="replace"))))
                group.create_task(_lines(child.stdout, take or said.append))
                group.create_task(child.wait())
        except TimeoutError:
            told = f"restic {what} did not end within {limit:.0f} s at {self._repository.location}."
            raise TargetAwayError(told, "see whether the target hangs, and backup.limit_hours.") from None
        finally:
            await _end(child)
        if child.returncode:
            raise explain(what, self._repository.location, str(complaints))
        return b"\n".join(said)

    def _before(self) -> list[str]:
        path = self._environ.get("PATH")
        found = [[str(program), *rest] for name, *rest in QUIET if (program := shutil.which(name, path=path))]
        if tie := shutil.which("setpriv", path=path):  # it must not outlive us (prctl(2), PR_SET_PDEATHSIG)
            found.insert(0, [tie, "--pdeathsig", "KILL", "--"])
        return [word for each in found for word in each]

    def _options(self) -> list[str]:
        limits = ["--limit-upload", str(self._repository.upload_kib)] if self._repository.upload_kib else []
        local = not self._repository.location.startswith("s3:")
        return [*limits, *(["--no-cache"] if local else ["--cleanup-cache"])]

    def _variables(self, descriptor: int) -> dict[str, str]:
        passed = {name: self._environ[name] for name in PASSED if name in self._environ}
        return {
            "HOME": str(self._repository.work), **passed, **self._repository.environ,
            "GOMAXPROCS": "1", "RESTIC_PROGRESS_FPS": "1",
            "RESTIC_REPOSITORY": self._repository.location, "RESTIC_PASSWORD_FILE": f"/dev/fd/{descriptor}",
            "RESTIC_CACHE_DIR": str(self._repository.work / "cache"), "TMPDIR": str(self._repository.work / "tmp"),
        }  # fmt: skip


class Complaints:
    """What a child says of its trouble: the first lines and the last ones, without the calls that restic's language lists."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=TOLD)

    def add(self, line: str) -> None:
        """One more line."""
        if FRAME.fullmatch(line):
            return
        if len(self._first) < TOLD:
            self._first.append(line)
        else:
            self._last.append(line)

    def __str__(self) -> str:
        return "\n".join([*self._first, *self._last])


async def _lines(stream: asyncio.StreamReader, take: Callable[[bytes], None]) -> None:
    while line := await stream.readline():
        if line.strip():
            take(line.strip())


async def _end(child: asyncio.subprocess.Process) -> None:
    """Have it end, however this came to its end; nothing is waited for without a bound."""
    if child.returncode is not None:
        return
    for stop in (child.terminate, child.kill):
        with contextlib.suppress(ProcessLookupError):
            stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(child.wait()), GRACE)
            return
