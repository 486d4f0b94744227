"""Cancellation: work that goes on to its end though nobody waits for it any more, and loops that do end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def uncut(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of some work, which a cancelled caller leaves alone: half of it would be worse than all or nothing.

    Raises:
        Exception: What the work raises.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_looked_at)
        raise


def _looked_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # whoever asked has gone, and was told that he does not know


def heed() -> None:
    """Raise the CancelledError that a library has swallowed, as asyncio.wait_for of Python 3.11 does at times.

    For loops: one that misses its end would never come to another.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
