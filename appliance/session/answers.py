"""Commands of the text twin over SSH: each in a thread of a pool of its own, bounded per user and in time, and cut short
when whoever asked is gone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from appliance.core.model import Actor

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST, MOST_OF_ONE = 16, 4
"""Commands that are answered at one time: in all, and for one user."""
LONGEST = 900.0
"""Seconds that one command may take."""
LINE = 4096
"""Bytes that a line on standard input may have; more is thrown away."""
STOPPED = 130
"""Exit code of a command that was cut short, as a shell has it."""


class Errand:
    """One command under way: what it waits for, what it reads, and how it is cut short. Safe from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Future[Any] | None = None
        self._cut = False
        self._typed = b""
        self._line: Future[str] = Future()

    def wait(self, future: Future[T]) -> T:
        """The future's result; blocks. Raises CancelledError as soon as the command is cut short."""
        with self._lock:
            if self._cut:
                future.cancel()
            self._waiting = future
        try:
            return future.result()
        finally:
            with self._lock:
                self._waiting = None

    def cancel(self) -> None:
        """Cut it short: it waits for nothing any more."""
        with self._lock:
            self._cut = True
            waiting = self._waiting
        if waiting is not None:
            waiting.cancel()

    def line(self) -> str:
        """The first line of standard input, without its end; blocks. Raises CancelledError."""
        return self.wait(self._line)

    def feed(self, data: bytes) -> None:
        """Standard input; a terminal's Ctrl-C cuts the command short."""
        if b"\x03" in data:
            self.cancel()
        self._typed = (self._typed + data)[:LINE]
        if b"\n" in self._typed or b"\r" in self._typed:
            self.eof()

    def eof(self) -> None:
        """Nothing more comes."""
        if not self._line.done():
            self._line.set_result(self._typed.decode("utf-8", "replace").partition("\n")[0].partition("\r")[0])
            self._typed = b""


TextCommand = Callable[[list[str], Actor, int, Errand], tuple[int, str]]
"""(arguments, actor, width, errand) → (exit code, text); blocks, and waits through its errand alone."""


class Answers:
    """Answers commands. On the UI loop.

    Args:
        command: Answers one.
    """

    def __init__(self, command: TextCommand) -> None:
        self._command = command
        self._pool: ThreadPoolExecutor | None = None
        self._running: dict[Errand, str] = {}

    def __len__(self) -> int:
        return len(self._running)

    async def answer(self, arguments: list[str], actor: Actor, width: int, errand: Errand) -> tuple[int, str]:
        """(exit code, text) of one command line."""
        if reason := self._refusal(actor.name):
            return 1, f"error: {reason}\nnext: try again in a moment.\n"
        if self._pool is None:
            self._pool = ThreadPoolExecutor(MOST, "ssh-command")
        self._running[errand] = actor.name
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._carry_out, arguments, actor, width, errand)
        work.add_done_callback(lambda _: self._running.pop(errand, None))
        done, _ = await asyncio.wait({work}, timeout=LONGEST)
        if not done:
            errand.cancel()
            return 1, f"error: this took longer than {LONGEST:g} s and was stopped.\nnext: look at it on the console.\n"
        return work.result()

    def _refusal(self, user: str) -> str:
        if len(self._running) >= MOST:
            return f"{MOST} commands are being answered already."
        if Counter(self._running.values())[user] >= MOST_OF_ONE:
            return f"{MOST_OF_ONE} commands of {user} are being answered already."
        return ""

    def _carry_out(self, arguments: list[str], actor: Actor, width: int, errand: Errand) -> tuple[int, str]:
        try:
            return self._command(arguments, actor, width, errand)
        except CancelledError:
            log.debug("%s of %s was cut short", arguments[:2], actor.name)
            return STOPPED, "stopped\n"

    def close(self) -> None:
        """Cut short what is under way, and take no more."""
        for errand in list(self._running):
            errand.cancel()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
