"""Interactive shells that are open on nodes: made by an action, then taken by the console that asked for it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec

from appliance.core.fleet.model import Terminal
from appliance.core.model import Actor
from appliance.errors import ApplianceError, ConflictError, NotFoundError

log = logging.getLogger(__name__)

MOST = 32
"""Shells open at one time, all consoles together."""
WAITS = 15.0
"""Seconds in which whoever asked must take it."""
Tell = Callable[[str, dict[str, object]], Awaitable[None]]


class ShellEnd(msgspec.Struct, frozen=True):
    """How an interactive shell ended."""

    node: str
    reason: str
    """In words."""
    status: int | None = None
    """Exit status; None where it was left, or cut off."""
    broken: bool = False
    """The link, not the shell or its user, ended it."""
    next_step: str = ""


class OpenTerminal:
    """One of them. On the core loop.

    Args:
        terminal: It.
        node: Where.
        actor: Whose.
        closed: Called with it when it was closed.
    """

    def __init__(self, terminal: Terminal, node: str, actor: Actor, closed: Callable[[OpenTerminal], None]) -> None:
        self.node = node
        self.actor = actor
        self.since = time.monotonic()
        self.read = terminal.read
        self.write = terminal.write
        self.resize = terminal.resize
        self._terminal = terminal
        self._closed = closed
        self._closing: asyncio.Task[int | None] | None = None

    async def close(self) -> int | None:
        """End it; more than once is fine. Its exit status, None where it has none."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"end of the shell on {self.node}")
        return await asyncio.shield(self._closing)

    async def _close(self) -> int | None:
        try:
            return await self._terminal.close()
        except ApplianceError as error:
            log.info("the shell on %s was not ended there: %s", self.node, error.message)
            return None
        finally:
            self._closed(self)


class Terminals:
    """All of them. On the core loop.

    Args:
        tell: Awaited with "fleet.shell-ended" and the facts when one has ended.
        waits: Seconds in which one must be taken.
    """

    def __init__(self, tell: Tell, waits: float = WAITS) -> None:
        self._tell = tell
        self._waits = waits
        self._offered: dict[str, OpenTerminal] = {}
        self._open: set[OpenTerminal] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def check(self) -> None:
        """Whether one more may be opened. Raises ConflictError."""
        if len(self._open) >= MOST:
            raise ConflictError(f"{MOST} shells are open already.", "leave one: Ctrl-], or close its session.")

    def offer(self, terminal: Terminal, node: str, actor: Actor) -> str:
        """Keep an open terminal for whoever asked; what it is taken by. One that nobody takes is closed."""
        made = OpenTerminal(terminal, node, actor, self._ended)
        token = secrets.token_urlsafe(16)
        self._offered[token] = made
        self._open.add(made)
        self._later(self._expire(token))
        return token

    async def _expire(self, token: str) -> None:
        await asyncio.sleep(self._waits)
        if (left := self._offered.pop(token, None)) is not None:
            await left.close()

    def take(self, token: str, actor: Actor) -> OpenTerminal:
        """A terminal that was opened for this actor; once. Raises NotFoundError."""
        found = self._offered.get(token)
        if found is None or found.actor != actor:
            raise NotFoundError("This shell is not there any more.", "open it again.")
        del self._offered[token]
        return found

    def _ended(self, terminal: OpenTerminal) -> None:
        if terminal in self._open:
            self._open.discard(terminal)
            self._later(self._told(terminal))

    async def _told(self, terminal: OpenTerminal) -> None:
        facts: dict[str, object] = {
            "node": terminal.node, "user": terminal.actor.name, "via": terminal.actor.via,
            "seconds": round(time.monotonic() - terminal.since, 1),
        }  # fmt: skip
        try:
            await self._tell("fleet.shell-ended", facts)
        except ApplianceError as error:
            log.error("the end of the shell on %s is not among the events: %s", terminal.node, error.message)

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
