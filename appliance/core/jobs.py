"""Jobs: work that takes longer than a request, with progress, cancellation and a result that is kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from appliance.core.events import new_id
from appliance.core.model import JobState, JobStatus
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.errors import ApplianceError, ConflictError, NotFoundError

log = logging.getLogger(__name__)

ENDED = {JobState.completed, JobState.failed, JobState.cancelled, JobState.interrupted}
PARALLEL = 2
KEEP = 500
"""Ended jobs kept; those that ended first go first. A job that has not ended is never dropped."""
QUEUE = 200
"""Most jobs that have not ended; further ones are refused."""
PRUNE = (
    "DELETE FROM jobs WHERE rowid IN (SELECT rowid FROM jobs WHERE state NOT IN ('pending', 'running') "
    "ORDER BY rowid DESC LIMIT -1 OFFSET ?)"
)
"""Rows are numbered in the order of their last writing, and an ended job is not written again: no clock has a say."""


class JobHandle:
    """What a job's function gets, to tell how far it is."""

    def __init__(self, jobs: Jobs, job_id: str) -> None:
        self.job_id = job_id
        self.error = ""
        self._jobs = jobs

    def report(self, progress: float | None, message: str = "") -> None:
        """Say how far it is (0…1) and what it does now."""
        self._jobs.change(self.job_id, progress=progress, message=message)

    def fail(self, error: str) -> None:
        """Have the job end as failed, with this reason, although its function returns a result."""
        self.error = error


class Jobs:
    """Runs jobs and keeps their outcome.

    Args:
        store: An open store.
        state: Where they are shown (Section.jobs).
        clock: For times.
    """

    def __init__(self, store: Store, state: LiveState, clock: Clock) -> None:
        self.on_end: Callable[[str, dict[str, object]], Awaitable[None]] | None = None
        """Awaited with "job.ended" and the facts when a job has ended; the audit has who asked for it."""
        self._store = store
        self._state = state
        self._clock = clock
        self._jobs: dict[str, JobStatus] = {}
        self._ended: dict[str, None] = {}
        """Ids of ended jobs, the one that ended first in front."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(PARALLEL)

    async def load(self) -> None:
        """Bring back the jobs of earlier runs; what had not ended then is interrupted now."""
        rows = await self._store.read(lambda connection: connection.execute("SELECT body FROM jobs ORDER BY rowid").fetchall())
        found = [msgspec.json.decode(body, type=JobStatus) for (body,) in rows]
        new = [job for job in found if job.job_id not in self._jobs]  # else the store was restarted: what is here is newer
        self._jobs.update((job.job_id, job) for job in sorted(new, key=lambda job: job.created))
        self._ended.update((job.job_id, None) for job in new if job.state in ENDED)
        for job in new:
            if job.state not in ENDED:
                note = "the appliance ended while it ran"
                await self._finish(job.job_id, state=JobState.interrupted, error=note)
        self._show()

    async def submit(
        self, name: str, owner: str, work: Callable[[JobHandle], Awaitable[Any]], *, at_once: bool = False
    ) -> JobStatus:
        """Queue a job; it is on disk when this returns. Its result must be JSON-able.

        Args:
            name: What it does.
            owner: Who asked for it.
            work: Does it.
            at_once: It waits for no other job: it only watches something that runs anyway.

        Raises:
            ConflictError: Too many jobs wait already.
            StoreError: It is not on disk, and will not run.
        """
        if len(self._jobs) - len(self._ended) >= QUEUE:
            raise ConflictError(f"{QUEUE} jobs wait or run already.", "wait until some have ended, or cancel some.")
        job = JobStatus(new_id(), name, owner, JobState.pending, self._clock.wall())
        self._jobs[job.job_id] = job
        try:
            await self._save(job)
        except BaseException:  # also where the caller went away meanwhile: nobody was told of this job
            del self._jobs[job.job_id]
            raise
        self._show()
        self._tasks[job.job_id] = asyncio.create_task(self._run(job.job_id, work, at_once), name=f"job {name}")
        return job

    def get(self, job_id: str) -> JobStatus:
        """A job by its id or an unambiguous ending of it. Raises NotFoundError."""
        found = [job for key, job in self._jobs.items() if key == job_id or (len(job_id) >= 4 and key.endswith(job_id))]
        if len(found) != 1:
            what = "No job has" if not found else f"{len(found)} jobs have"
            raise NotFoundError(f"{what} the id {job_id!r}.", "list them with `prime-spark job list`.")
        return found[0]

    def all(self) -> tuple[JobStatus, ...]:
        """All jobs, newest first."""
        return tuple(reversed(self._jobs.values()))

    async def wait(self, job_id: str) -> JobStatus:
        """Return when the job has ended."""
        job = self.get(job_id)
        if task := self._tasks.get(job.job_id):
            await asyncio.wait({task})
        return self.get(job.job_id)

    async def cancel(self, job_id: str) -> JobStatus:
        """Cancel a job and wait until it has ended. Raises NotFoundError, ConflictError where it had ended."""
        job = self.get(job_id)
        task = self._tasks.get(job.job_id)
        if task is None or job.state in ENDED:
            raise ConflictError(f"The job {job.name} has ended ({job.state.value}).", "there is nothing to cancel.")
        task.cancel()
        await asyncio.wait({task})
        await self._cancelled_unstarted(job.job_id)
        return self.get(job.job_id)

    async def stop(self, deadline: float) -> None:
        """Cancel all jobs and wait up to `deadline` seconds."""
        tasks = dict(self._tasks)
        for task in tasks.values():
            task.cancel()
        try:
            async with asyncio.timeout(deadline):
                if tasks:
                    await asyncio.wait(tasks.values())
                await asyncio.gather(*(self._cancelled_unstarted(job_id) for job_id in tasks))
        except TimeoutError:
            late = sum(not task.done() for task in tasks.values())
            log.error("%d of %d jobs did not end within %g s", late, len(tasks), deadline)

    async def _cancelled_unstarted(self, job_id: str) -> None:
        """A task that is cancelled before its first step never runs: its job ends here."""
        job = self._jobs.get(job_id)
        if job is not None and job.state not in ENDED:
            self._tasks.pop(job_id, None)
            await self._finish(job_id, state=JobState.cancelled, error="cancelled before it began")

    def change(self, job_id: str, **changes: Any) -> None:
        """Change a running job's status on the screen only."""
        self._jobs[job_id] = msgspec.structs.replace(self._jobs[job_id], **changes)
        self._show()

    async def _run(self, job_id: str, work: Callable[[JobHandle], Awaitable[Any]], at_once: bool) -> None:
        try:
            async with contextlib.nullcontext() if at_once else self._slots:
                self.change(job_id, state=JobState.running, started=self._clock.wall())
                result = msgspec.to_builtins(await work(handle := JobHandle(self, job_id)))
            if handle.error:
                await self._finish(job_id, state=JobState.failed, result=result, error=handle.error)
            else:
                await self._finish(job_id, state=JobState.completed, result=result, progress=1.0)
        except asyncio.CancelledError:
            await asyncio.shield(self._finish(job_id, state=JobState.cancelled, error="cancelled"))
        except ApplianceError as error:
            await self._finish(job_id, state=JobState.failed, error=str(error))
        except Exception as error:
            log.exception("job %s failed", self._jobs[job_id].name)
            await self._finish(job_id, state=JobState.failed, error=f"{type(error).__name__}: {error}")
        finally:
            self._tasks.pop(job_id, None)

    async def _finish(self, job_id: str, **changes: Any) -> None:
        job = msgspec.structs.replace(self._jobs[job_id], ended=self._clock.wall(), **changes)
        try:
            await self._save(job)
        except ApplianceError as error:
            log.error("the outcome of job %s is not on disk: %s", job.name, error.message)
            job = msgspec.structs.replace(job, error=f"{job.error} (not kept: {error.message})".strip())
        self._jobs[job_id] = job
        self._ended[job_id] = None
        self._forget_oldest()
        self._show()
        await self._tell(job)

    async def _tell(self, job: JobStatus) -> None:
        if self.on_end is None:
            return
        facts: dict[str, object] = {"job_id": job.job_id, "name": job.name, "owner": job.owner, "state": job.state.value,
                 "message": job.message, "error": job.error}  # fmt: skip
        try:
            await self.on_end("job.ended", facts)
        except ApplianceError as error:
            log.error("the end of job %s is not among the events: %s", job.name, error.message)

    async def _save(self, job: JobStatus) -> None:
        body = msgspec.json.encode(job)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO jobs (job_id, state, created, body) VALUES (?, ?, ?, ?)",
                (job.job_id, job.state.value, job.created, body),
            )
            connection.execute(PRUNE, (KEEP,))

        await self._store.write(write)

    def _forget_oldest(self) -> None:
        while len(self._ended) > KEEP:
            oldest = next(iter(self._ended))
            del self._ended[oldest], self._jobs[oldest]

    def _show(self) -> None:
        self._state.put(Section.jobs, self.all())
