"""What is said after the wake word goes to another machine, where that has this one as its satellite."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from appliance.core.events import new_id
from appliance.core.voice.capture import Capture, Says
from appliance.core.voice.ear import Ear
from appliance.core.voice.model import Hit, Outcome, Stage, Utterance
from appliance.core.voice.room import Room
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

PHRASE = 0.7
"""Seconds that a wake word takes: they are not sent."""
ONLY = 1.2
"""Speech that is no longer than this was nothing but the wake word."""
KNOWN = 3.5
"""Seconds since the wake word in which all of it is still known here; see ear.RING_SECONDS."""
WAIT = 120.0
"""Seconds that the other machine may take, its answer included."""


class Other(Protocol):
    """The other machine; see wyoming.satellite.Satellite."""

    @property
    def active(self) -> bool:
        """Whether it is there and ready."""

    @property
    def peer(self) -> str:
        """Its address."""

    async def hear(self, frames: AsyncIterator[bytes], phrase: str) -> str:
        """Send what is said; returns the words. Raises VoiceError."""


async def send(room: Room, other: Other, ear: Ear, hit: Hit, since: float) -> Utterance | None:
    """Give it one utterance; returns what came of it. It does not raise: a machine that fails is noted.

    None where it failed before it had all of it, and soon: then nothing was done by it there, and it can be understood here.

    Args:
        room: What turns share.
        other: The other machine.
        ear: Hears.
        hit: The wake word.
        since: When that began (monotonic).
    """
    began, note, words, whole = room.clock.wall(), "", "", asyncio.Event()
    room.stages.go(Stage.listening)
    capture = ear.capture(room.settings.listen_seconds, since + PHRASE)
    try:
        async with asyncio.timeout(WAIT):
            words = await other.hear(_frames(room, capture, whole), hit.phrase)
        outcome = Outcome.answered if words else Outcome.empty
    except (ApplianceError, TimeoutError) as error:
        note = error.message if isinstance(error, ApplianceError) else "the other machine took too long"
        outcome = Outcome.failed
        log.warning("%s got nothing of an utterance: %s", other.peer or "the satellite's server", note)
        if not whole.is_set() and room.now() - since < KNOWN:
            return None
        await room.mouth.tone("trouble")
    finally:
        ear.release(capture)
    return Utterance(
        new_id(), began, "wyoming", hit.phrase, hit.score, words, other.peer, outcome=outcome, direction=ear.direction,
        note=note.rstrip("."),
    )  # fmt: skip


async def _frames(room: Room, capture: Capture, whole: asyncio.Event) -> AsyncIterator[bytes]:
    """The sound until nothing more is said; then it is `whole`."""
    sound: asyncio.Queue[bytes] = asyncio.Queue()
    capture.tap = sound.put_nowait
    ends = asyncio.create_task(_end(capture), name="voice satellite listens")
    try:
        while not (ends.done() and sound.empty()):
            piece = asyncio.create_task(sound.get(), name="voice satellite hears")
            await asyncio.wait({piece, ends}, return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                piece.cancel()
                break
            yield piece.result()
        whole.set()
    finally:
        capture.tap = None
        ends.cancel()
        room.stages.go(Stage.thinking)


async def _end(capture: Capture) -> None:
    """Return when all was said, or nobody spoke."""
    while (says := await capture.next()) not in {Says.nothing, Says.gone, Says.cut}:
        if says is Says.end:
            long = (capture.ended or 0.0) - (capture.began or 0.0)
            if long > ONLY:
                return
            capture.again()
