"""One piece of work at a time, within its time; and what blocks, in a thread that can be stopped."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from appliance.core.lifecycle.backup.staging import Check
from appliance.errors import BackupError, ConflictError

T = TypeVar("T")


WORDS = {
    "backup": "A backup", "list": "A look into the repositories", "verify": "The proof of a backup",
    "forget": "The removal of a backup", "prune": "The removal of old backups", "export": "The export of a backup",
    "restore": "A restore",
}  # fmt: skip
"""What can be under way."""


class Alone:
    """Says what is under way, and lets nothing else begin meanwhile.

    Args:
        hours: Longest time of one piece of work.
        report: Told what is under way; empty for nothing.
    """

    def __init__(self, hours: float, report: Callable[[str, float | None], None]) -> None:
        self.busy = ""
        self._hours = hours
        self._report = report

    @contextlib.asynccontextmanager
    async def on(self, what: str) -> AsyncIterator[None]:
        """Raises ConflictError while something else is under way, BackupError where it takes too long."""
        if self.busy:
            raise ConflictError(f"{WORDS[self.busy]} is under way.", "wait for its end: prime-spark backup status")
        self.busy = what
        self._report(what, None)
        try:
            async with asyncio.timeout(self._hours * 3600):
                yield
        except TimeoutError:
            told = f"It took longer than {self._hours:g} h and was stopped."
            raise BackupError(told, "see whether the target is slow, or raise backup.limit_hours.") from None
        finally:
            self.busy = ""
            self._report("", None)


async def blocking(work: Callable[[Check], T]) -> T:
    """Run it in a thread, which stops soon after this is cancelled, and is waited for."""
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise BackupError("It was stopped.")

    task = asyncio.create_task(asyncio.to_thread(work, check))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # it was stopped: what it says of that is known
        raise
