"""Refusals in the audit: the first few of each actor have rows of their own, the rest are counted into one row.

Whoever may ask may be refused as often as he likes; a row for each would push everybody's history out of the bounded log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from appliance.core.model import Actor

OWN = 5
"""Refusals of an actor that have rows of their own, in one window."""
WINDOW = 600.0
"""Seconds from an actor's first refusal until the further ones are written, as one row."""
ACTORS = 256
"""Actors told apart at a time; what is beyond shares one count."""

Write = Callable[[Actor, str, str], Coroutine[Any, Any, None]]
"""Makes a row of (actor, action, detail); tells failures itself."""


@dataclass
class _Window:
    actor: Actor
    action: str
    detail: str
    timer: asyncio.TimerHandle
    seen: int = 0


def printed(text: str) -> str:
    """Text that has a form in UTF-8: halves of surrogate pairs, which JSON and names of files can bring, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


class Refusals:
    """Counts refusals and writes what the log can bear.

    Args:
        write: Writes one row.
        window: Seconds; see WINDOW.
    """

    def __init__(self, write: Write, window: float = WINDOW) -> None:
        self._write = write
        self._window = window
        self._open: dict[tuple[str, str, str], _Window] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def note(self, actor: Actor, action: str, detail: str, kind: str = "") -> None:
        """Take note of one refusal; where it has a row of its own, that is written when this returns.

        Args:
            actor: Who is refused.
            action: What they wanted.
            detail: Why, for the audit.
            kind: Refusals of one actor and another kind are counted apart; there are only a few kinds.
        """
        key = (actor.name, actor.via, kind)
        if key not in self._open and len(self._open) >= ACTORS:
            key = ("", "", "")
        window = self._open.get(key)
        if window is None:
            timer = asyncio.get_running_loop().call_later(self._window, self._end, key)
            window = self._open[key] = _Window(actor, action, detail, timer)
        window.actor, window.action, window.detail = actor, action, detail
        window.seen += 1
        if window.seen <= OWN:
            await self._write(actor, action, detail)

    async def close(self, deadline: float) -> None:
        """Write every count now; waits up to `deadline` seconds."""
        for key in list(self._open):
            self._open[key].timer.cancel()
            self._end(key)
        if self._writing:
            await asyncio.wait(self._writing, timeout=deadline)

    def _end(self, key: tuple[str, str, str]) -> None:
        window = self._open.pop(key)
        if window.seen <= OWN:
            return
        detail = f"{window.seen - OWN} more refusals within {self._window:g} s; the last one: {window.detail}"
        task = asyncio.create_task(self._write(window.actor, window.action, detail), name="refusals")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
