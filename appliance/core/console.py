"""What one console sees of the appliance: it reads, watches and invokes, and never touches a device.

A console lives on the UI loop; actions run on the core loop. Both sides meet here and nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from appliance.core.actions import ActionInfo
from appliance.core.dispatch import Dispatcher
from appliance.core.fleet.terminals import OpenTerminal, ShellEnd, Terminals
from appliance.core.logs import LogRing
from appliance.core.model import Actor
from appliance.core.presence import Presence
from appliance.core.state import LiveState, Section, Snapshot, Watch
from appliance.errors import AbsentError

TOUCH = 10.0
"""Seconds between two signs of life of one console."""


class Console:
    """The appliance as one session sees it.

    Args:
        state: The live state.
        dispatcher: Carries actions out.
        logs: The log ring.
        presence: Where this session shows itself.
        core: The core loop.
        actor: Who sits at this console.
        session_id: Its id in the presence.
        terminals: Shells that are open on nodes; None where there are none.
    """

    def __init__(
        self,
        state: LiveState,
        dispatcher: Dispatcher,
        logs: LogRing,
        presence: Presence,
        core: asyncio.AbstractEventLoop,
        actor: Actor,
        session_id: str,
        terminals: Terminals | None = None,
    ) -> None:
        self.state = state
        self.logs = logs
        self.actor = actor
        self.session_id = session_id
        self._dispatcher = dispatcher
        self._presence = presence
        self._core = core
        self._watches: list[Watch] = []
        self._touched = -TOUCH
        self._terminals = terminals
        self.hand_over: Callable[[str], Awaitable[ShellEnd]] | None = None
        """Gives this session's terminal to a shell on a node until that ends; None where the session has none to give."""

    def get(self, section: Section) -> Snapshot:
        """One section of the live state, as it is now."""
        return self.state.get(section)

    def age(self, section: Section) -> float | None:
        """Seconds since the section was put; None where it never was."""
        return self.state.age(section)

    def actions(self) -> list[ActionInfo]:
        """The actions that this actor may invoke, by name."""
        return [action.describe() for action in self._dispatcher.registry if action.role <= self.actor.role]

    def allowed(self) -> frozenset[str]:
        """Names of the actions that this actor may invoke; unlike `actions`, it makes no schemas."""
        return frozenset(action.name for action in self._dispatcher.registry if action.role <= self.actor.role)

    def action(self, name: str) -> ActionInfo | None:
        """One action; None where there is none, or this actor's role does not reach for it."""
        found = next((action for action in self._dispatcher.registry if action.name == name), None)
        return found.describe() if found is not None and found.role <= self.actor.role else None

    async def invoke(self, name: str, args: dict[str, Any] | None = None, *, confirm: bool = False) -> Any:
        """Carry an action out on the core loop; awaited on the UI loop.

        Raises:
            ApplianceError: As `Dispatcher.invoke`.
        """
        work = self._dispatcher.invoke(name, args or {}, self.actor, confirm=confirm)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._core))

    async def shell(self, node: str, term: str, columns: int, rows: int) -> FarTerminal:
        """Open an interactive shell on a node; awaited on the UI loop.

        Raises:
            ApplianceError: As `invoke`; AbsentError where this appliance has no shells.
        """
        if self._terminals is None:
            raise AbsentError("This appliance opens no shells on nodes.", "use ssh.")
        size = {"columns": max(1, columns), "rows": max(1, rows)}
        told = await self.invoke("fleet.shell", {"node": node, "term": term or "vt100", **size})
        return FarTerminal(self._terminals.take(told["terminal"], self.actor), told["user"], self._core)

    def watch(
        self, sections: Iterable[Section], callback: Callable[[frozenset[Section]], None], min_interval: float = 0.1
    ) -> Watch:
        """Be told of changes, on the core's thread: `callback` must only post a message."""
        watch = self.state.watch(sections, callback, min_interval)
        self._watches = [other for other in self._watches if not other.closed]
        self._watches.append(watch)
        return watch

    def show(self, screen: str, columns: int, rows: int) -> None:
        """Tell the others what this console shows."""
        self._core.call_soon_threadsafe(
            lambda: self._presence.change(self.session_id, screen=screen, columns=columns, rows=rows)
        )

    def resized(self, columns: int, rows: int) -> None:
        """Tell the others how large this console is now."""
        self._core.call_soon_threadsafe(lambda: self._presence.change(self.session_id, columns=columns, rows=rows))

    def touch(self) -> None:
        """Tell the others that somebody is at this console; at most every `TOUCH` seconds."""
        now = time.monotonic()
        if now - self._touched >= TOUCH:
            self._touched = now
            at = time.time()
            self._core.call_soon_threadsafe(lambda: self._presence.change(self.session_id, active=at))

    def close(self) -> None:
        """Drop all watches; more than once is fine."""
        for watch in self._watches:
            watch.close()
        self._watches.clear()
        self.hand_over = None


class FarTerminal:
    """A shell on a node, as the UI loop reads and writes it; the shell itself lives on the core loop.

    Args:
        terminal: It.
        user: Who one is there.
        core: The core loop.
    """

    def __init__(self, terminal: OpenTerminal, user: str, core: asyncio.AbstractEventLoop) -> None:
        self.user = user
        self._terminal = terminal
        self._core = core

    async def read(self) -> bytes:
        """See fleet.model.Terminal."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._terminal.read(), self._core))

    async def write(self, data: bytes) -> None:
        """See fleet.model.Terminal."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._terminal.write(data), self._core))

    def resize(self, columns: int, rows: int) -> None:
        """See fleet.model.Terminal."""
        self._core.call_soon_threadsafe(self._terminal.resize, columns, rows)

    def close(self) -> asyncio.Future[int | None]:
        """End it, whether or not anybody waits for the exit status."""
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._terminal.close(), self._core))
