"""Writes of one round of the event loop, joined into one: a commit costs the same for many tasks as for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from appliance.core.store import Store

Row = tuple[Any, ...]


class Gathering:
    """Joins them; they succeed or fail together.

    Args:
        store: An open store.
        write: Makes the work for a transaction of these rows.
    """

    def __init__(self, store: Store, write: Callable[[Sequence[Row]], Callable[[Any], None]]) -> None:
        self._store = store
        self._write = write
        self._rows: list[Row] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._writing: set[asyncio.Future[None]] = set()

    async def put(self, rows: Sequence[Row]) -> None:
        """These are on disk when this returns; they are written also where the caller goes away. Raises StoreError."""
        loop = asyncio.get_running_loop()
        if not self._waiters:
            loop.call_soon(self._start)
        done: asyncio.Future[None] = loop.create_future()
        self._rows += rows
        self._waiters.append(done)
        await done

    def _start(self) -> None:
        rows, self._rows = self._rows, []
        waiters, self._waiters = self._waiters, []
        writing = asyncio.ensure_future(self._store.write(self._write(rows)))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        writing.add_done_callback(lambda done: _settle(done, waiters))


def _settle(done: asyncio.Future[None], waiters: list[asyncio.Future[None]]) -> None:
    """Hand the outcome to all that are still there."""
    error = None if done.cancelled() else done.exception()
    for each in waiters:
        if each.done():
            continue
        if done.cancelled():
            each.cancel()
        elif error is not None:
            each.set_exception(error)
        else:
            each.set_result(None)
