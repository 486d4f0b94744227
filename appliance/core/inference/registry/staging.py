"""A directory in which a version is put together; it goes when nothing works in it any more, also where the caller went."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from appliance.core.inference.registry.shelf import Shelf
from appliance.core.memory.uncut import uncut

P = ParamSpec("P")
T = TypeVar("T")


class Staging:
    """An empty directory on the shelf's file system, for one `async with`.

    Args:
        shelf: Where it lies.
        later: Has something done that nobody waits for.

    Raises:
        ModelError, DiskFullError: At the begin, where it cannot be made.
    """

    path: Path

    def __init__(self, shelf: Shelf, later: Callable[[Awaitable[None]], None]) -> None:
        self._shelf = shelf
        self._later = later
        self._under_way: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Staging:
        """Make it."""
        self.path = await asyncio.to_thread(self._shelf.stage)
        return self

    async def thread(self, function: Callable[P, T], *wanted: P.args, **more: P.kwargs) -> T:
        """Do something in a thread, which goes on though the caller is cancelled: it may write here as long as it runs."""
        return await self.whole(asyncio.to_thread(function, *wanted, **more))

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something to its end, though the caller is cancelled."""

        async def kept() -> T:
            task = asyncio.current_task()
            if task is not None:
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            return await work

        return await uncut(kept())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it, now or once what works in it has ended."""
        if self._under_way:
            self._later(self._remove())
        else:
            await uncut(self._remove())

    async def _remove(self) -> None:
        if self._under_way:
            await asyncio.wait(set(self._under_way))
        await asyncio.to_thread(self._shelf.unstage, self.path)
