"""Work on values, beside the loop where it takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
HEAVY = 32 * 1024
"""Bytes above which hashing and packing take longer than the way to a thread and back."""


async def beside(size: int, work: Callable[[], T]) -> T:
    """What the work on so many bytes gives: done at once where they are few, else in a thread. Raises what the work raises."""
    return work() if size <= HEAVY else await asyncio.to_thread(work)
