"""The SQLite store: one writer thread that commits in groups, one reader thread, WAL, synchronous=FULL.

A write is acknowledged after its commit reached the disk. Writes that arrive while a commit is under way share the
next one (group commit), each in a savepoint, so a failing one spoils no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from appliance.core.migrations import migrate
from appliance.core.observe.spans import child
from appliance.errors import DamagedError, DiskFullError, StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
SPINE = "appliance.core.migrations"
GROUP = 500
"""Most writes in one transaction."""
CLOSING = 4.0
"""Seconds that closing waits for the writer; what it has not answered by then was never acknowledged."""
PROVEN = 60.0
"""Seconds for which a commit proves that the next one would succeed too."""


class _Job:
    __slots__ = ("error", "future", "loop", "result", "work")

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None

    def settle(self) -> None:
        """Hand the outcome over; on the caller's loop."""
        if self.future.cancelled():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Store:
    """A durable database.

    Args:
        path: The file.
        migrations: The package whose migrations make its tables.
    """

    def __init__(self, path: Path, migrations: str = SPINE) -> None:
        self.path = path
        self._migrations = migrations
        self.last_error: StoreError | None = None
        """The newest write's error; None again after a write that succeeded."""
        self._committed = 0.0
        """When the newest commit succeeded, on the monotonic clock."""
        self._busy = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._writer: threading.Thread | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._reading: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open and migrate; blocks.

        Raises:
            StoreError: The file is not a database, is damaged, is newer than the program, or cannot be written.
        """
        with contextlib.ExitStack() as undo:
            try:
                make_file(self.path)
                connection = undo.enter_context(contextlib.closing(connect(self.path)))
                migrate(connection, self._migrations)
                reading = undo.enter_context(contextlib.closing(connect(self.path)))
                reading.execute("PRAGMA query_only=ON")
            except sqlite3.Error as error:
                raise explain(error, self.path) from error
            except OSError as error:
                reason = f"{self.path} cannot be written: {error.strerror}."
                raise StoreError(reason, f"make {self.path.parent} writable for this user.") from error
            undo.pop_all()
        self._reading = reading
        self._reader = ThreadPoolExecutor(1, "store-read")
        self._jobs = queue.SimpleQueue()  # a writer of before that hangs keeps its own
        writer = threading.Thread(target=self._write_loop, args=(connection, self._jobs), name="store-write", daemon=True)
        writer.start()
        self._writer = writer  # only now: whoever closes meanwhile waits for its end

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the writer's transaction; returns when it is on disk.

        Where the caller is cancelled before `work` began, it is not run at all; later than that it may be on disk.

        Raises:
            DiskFullError: No room; nothing of `work` is kept.
            StoreError: Any other failure of the database.
        """
        job = _Job(work, asyncio.get_running_loop())
        with self._gate:  # against `close`: what is queued after its mark would never be answered
            if self._writer is None:
                raise StoreError("The store is not open.", "start the appliance.")
            self._jobs.put(job)
        with child("sqlite write", kind="client") as span:
            if span.sampled:
                span.set(_facts(work))
            return await job.future  # type: ignore[no-any-return]

    async def probe(self, deadline: float) -> None:
        """Show that writes reach the disk: by one, unless the writer rests after a success of the last minute.

        Args:
            deadline: Seconds.

        Raises:
            StoreError: They do not, or not in time.
        """
        rests = not self._busy and self._jobs.empty() and self.last_error is None
        if rests and time.monotonic() - self._committed < PROVEN:
            return
        try:
            async with asyncio.timeout(deadline):
                await self.write(_touch)
        except TimeoutError as error:
            reason = f"no write was answered for {deadline:g} s: the disk hangs, or a write does not end"
            raise StoreError(reason, f"look at the disk of {self.path.parent} (dmesg).") from error

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the reader's connection.

        Raises:
            StoreError: The database could not be read.
        """
        if self._reader is None or self._reading is None:
            raise StoreError("The store is not open.", "start the appliance.")
        reading = self._reading

        def guarded() -> T:
            try:
                return work(reading)
            except sqlite3.Error as error:
                raise explain(error, self.path) from error

        with child("sqlite read", kind="client") as span:
            if span.sampled:
                span.set(_facts(work))
            return await asyncio.get_running_loop().run_in_executor(self._reader, guarded)

    def close(self, deadline: float = CLOSING) -> None:
        """Write what is queued, then close; blocks for up to `deadline` seconds where the disk hangs."""
        with self._gate:
            writer, self._writer = self._writer, None
            if writer is not None:
                self._jobs.put(None)
        if writer is not None:
            writer.join(deadline)
            if writer.is_alive():
                log.error("%s was not closed within %g s: a write does not end", self.path, deadline)
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.shutdown()
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _write_loop(self, connection: sqlite3.Connection, waiting: queue.SimpleQueue[_Job | None]) -> None:
        open_ = True
        while open_:
            group = [waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(group) < GROUP and group[-1] is not None:
                    group.append(waiting.get_nowait())
            if group[-1] is None:
                open_ = False
            jobs = [job for job in group if job is not None]
            if jobs:
                self._busy = True
                self._commit(connection, jobs)
                self._busy = False
        connection.close()

    def _commit(self, connection: sqlite3.Connection, jobs: list[_Job]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                if not job.future.cancelled():  # its caller was told that it is not done: then it must not be
                    _run_in_savepoint(connection, job, self.path)
            connection.execute("COMMIT")
            self._committed = time.monotonic()
            self.last_error = next((job.error for job in jobs if isinstance(job.error, StoreError)), None)
        except sqlite3.Error as error:
            self._fail(connection, jobs, explain(error, self.path))
        except Exception as error:
            log.exception("a write ended the transaction that it shared")
            self._fail(connection, jobs, StoreError(f"A write broke its transaction: {error}.", "see the log."))
        for loop in {job.loop for job in jobs}:
            mine = [job for job in jobs if job.loop is loop]
            with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle_all, mine)

    def _fail(self, connection: sqlite3.Connection, jobs: list[_Job], error: StoreError) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self.last_error = error
        log.error("a transaction of %d writes was rolled back: %s", len(jobs), error.message)
        for job in jobs:
            job.error = error


def _facts(work: Work) -> dict[str, str]:
    """Work as attributes of a span: where it stands in the program."""
    return {"db.system.name": "sqlite", "code.function.name": str(getattr(work, "__qualname__", type(work).__name__))}


def _settle_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.settle()


def _run_in_savepoint(connection: sqlite3.Connection, job: _Job, path: Path) -> None:
    connection.execute("SAVEPOINT work")
    try:
        job.result = job.work(connection)
        connection.execute("RELEASE work")
    except Exception as error:
        job.error = explain(error, path) if isinstance(error, sqlite3.Error) else error
        if not connection.in_transaction:  # SQLite rolled the whole transaction back (disk full, I/O error)
            raise
        connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")


def _touch(connection: sqlite3.Connection) -> None:
    """A change that is really written, and means nothing."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.execute(f"PRAGMA user_version = {1 - version % 2}")


def make_file(path: Path) -> None:
    """Make the database's file, of mode 0600, before SQLite does: its -wal and -shm files take over that mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):  # of a life before, too
        with contextlib.suppress(FileNotFoundError):
            path.with_name(name).chmod(0o600)


def connect(path: Path) -> sqlite3.Connection:
    """Open the database in WAL mode with full durability; transactions are explicit."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA journal_size_limit=4194304")
    return connection


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """The error as one of ours, with the next step."""
    text = str(error)
    if "full" in text:
        return DiskFullError(f"No room to write {path.name}: {text}.", f"free space on the file system of {path.parent}.")
    if "malformed" in text or "not a database" in text:
        return DamagedError(f"{path} is damaged: {text}.", "move it away and restore a backup; the appliance makes a new one.")
    if "readonly" in text or "unable to open" in text:
        return StoreError(f"{path} cannot be written: {text}.", f"make {path.parent} writable for this user.")
    return StoreError(f"The database {path.name} failed: {text}.", "see the log.")
