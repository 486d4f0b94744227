"""A bound on what goes to and comes from the cloud."""

from __future__ import annotations

from collections.abc import Awaitable, Callable


def limiter(kib_per_second: int) -> Callable[[int], Awaitable[None]]:
    """A function that waits until so many bytes may pass; 0 KiB/s is no bound."""
    if not kib_per_second:
        return _free
    from aiolimiter import AsyncLimiter

    bucket = AsyncLimiter(kib_per_second, 1.0)

    async def pay(size: int) -> None:
        left = size / 1024
        while left > 0:
            part = min(left, kib_per_second)
            await bucket.acquire(part)
            left -= part

    return pay


async def _free(_: int) -> None:
    return
