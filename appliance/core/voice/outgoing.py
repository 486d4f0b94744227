"""The only way out of the house: written down first, counted as it goes, corrected afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from appliance.core.voice.ledger import CUT_OFF, Leaving, VoiceLedger, WithheldError
from appliance.errors import ApplianceError, StoreError

if TYPE_CHECKING:
    from appliance.core.voice.wyoming.link import Sent

log = logging.getLogger(__name__)

T = TypeVar("T")
SLICE = 320_000
"""Bytes of a stream that are written down at a time: ten seconds."""
More = Callable[[int], Awaitable[None]]


class Outgoing:
    """Brings requests to services outside.

    Args:
        ledger: Where they are written down.
    """

    def __init__(self, ledger: VoiceLedger) -> None:
        self._ledger = ledger
        self._settling: set[asyncio.Task[None]] = set()

    async def ask(self, leaving: Leaving, barred: Callable[[], str], work: Callable[[Sent], Awaitable[T]]) -> T:
        """Do a piece of work that sends no more than it says.

        Raises:
            WithheldError: Nothing was sent: the cap is reached, or the ledger cannot be written.
            VoiceError: The service failed.
        """
        return await self._bracket(leaving, barred, lambda sent, _: work(sent))

    async def stream(self, leaving: Leaving, barred: Callable[[], str], work: Callable[[Sent, More], Awaitable[T]]) -> T:
        """The same for work that sends until it ends: it tells before each piece. Raises as `ask`."""
        return await self._bracket(msgspec.structs.replace(leaving, audio_bytes=SLICE), barred, work)

    async def settled(self) -> None:
        """Wait until the ledger has what really went."""
        await asyncio.gather(*self._settling)

    async def _bracket(self, leaving: Leaving, barred: Callable[[], str], work: Callable[[Sent, More], Awaitable[T]]) -> T:
        from appliance.core.voice.wyoming.link import Sent

        if why := barred():  # it may have changed while those before were asked
            raise WithheldError(f"Nothing was sent: {why}.")
        number = await self._reserve(leaving)
        sent, written, outcome = Sent(barred), leaving.audio_bytes, CUT_OFF

        async def more(count: int) -> None:
            nonlocal written
            if sent.audio + count > written:
                await self._extend(number, SLICE)
                written += SLICE

        try:
            found = await work(sent, more)
            outcome = "answered"
        except ApplianceError:
            whole = sent.audio >= leaving.audio_bytes and sent.text >= leaving.text_bytes
            outcome = "failed" if whole else CUT_OFF
            raise
        finally:
            await self._settle(number, sent, outcome)
        return found

    async def _reserve(self, leaving: Leaving) -> int:
        """Write the row; where the caller goes away meanwhile, it is taken back."""
        task = asyncio.ensure_future(self._ledger.reserve(leaving))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._keep(self._take_back(task))
            raise
        except StoreError as error:
            raise _unwritten(error) from error

    async def _take_back(self, task: asyncio.Future[int]) -> None:
        try:
            await self._ledger.settle(await task, 0, 0, CUT_OFF)
        except ApplianceError as error:
            log.warning("a row of the voice's ledger for what never left was not taken back: %s", error)

    async def _extend(self, number: int, count: int) -> None:
        try:
            await self._ledger.extend(number, count)
        except StoreError as error:
            raise _unwritten(error) from error

    async def _settle(self, number: int, sent: Sent, outcome: str) -> None:
        async def write() -> None:
            try:
                await self._ledger.settle(number, sent.audio, sent.text, outcome)
            except StoreError as error:
                log.error("the voice's ledger keeps what was set aside for a request: %s", error)

        await asyncio.shield(self._keep(write()))

    def _keep(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Work that goes on where its caller is cancelled."""
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task


def _unwritten(error: StoreError) -> WithheldError:
    told = f"The ledger cannot be written, so nothing leaves the house: {error.message}"
    return WithheldError(told, error.next_step)
