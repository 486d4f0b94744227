"""Work that is given up where whoever asked for it goes away."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

T = TypeVar("T")


async def unless_gone(request: Request, work: asyncio.Future[T]) -> T:
    """What the work comes to; it is cancelled, and has ended, where the caller goes. Raises ClientDisconnect."""
    gone = asyncio.ensure_future(departure(request.receive))
    try:
        both: set[asyncio.Future[Any]] = {work, gone}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientDisconnect
    finally:
        gone.cancel()
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def departure(receive: Receive) -> None:
    """Return when the caller has gone; what still comes of the request is passed over."""
    while (await receive())["type"] != "http.disconnect":
        pass
