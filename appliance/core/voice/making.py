"""The ear, put together for the microphone that is there."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from appliance.core.state import Section
from appliance.core.voice.detect.endpoint import Endpointer, Noise
from appliance.core.voice.detect.front import Front
from appliance.core.voice.ear import Around, Ear
from appliance.core.voice.ground import Kit
from appliance.core.voice.model import FRAME, WIDTH, Hit
from appliance.core.voice.spotting import Spotting
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.core.voice.service import VoiceService

log = logging.getLogger(__name__)

LOCAL = "local"
TAIL = bytes(FRAME * WIDTH * 16)
"""Silence after a piece that another machine listens to: its model wants to hear that the word is over."""


async def make_ear(service: VoiceService) -> Ear:
    """Load what listens, in a thread. Raises AbsentError."""
    settings, clock, room = service.settings, service.ground.clock, service.room
    front = await asyncio.to_thread(
        Front, settings.wake_words, settings.wake_models, settings.wake_sensitivity, clock.wall
    )  # fmt: skip
    noise = Noise()
    ends = functools.partial(Endpointer, settings.end_silence_ms, settings.utterance_seconds, noise)
    local = LOCAL in settings.wake
    phrases = front.uncovered if settings.wake == (LOCAL,) else settings.wake_words
    around = Around(
        stage=lambda: room.stages.now, saying=lambda: room.mouth.saying, wakes=service.talks.wake, levels=service.level,
        watched=lambda: service.ground.state.watched(Section.sound), begun=service.begun, barge_in=settings.barge_in,
        models=local,
    )  # fmt: skip
    ear = Ear(front, None, ends, around)
    if phrases:
        look = functools.partial(look_for, service.kit)
        wake = Spotting(phrases, look, settings.wake_sensitivity, ear.woken, clock.wall, service.ground.now, noise)
        ear.spotting = wake
    return ear


async def look_for(kit: Kit, pcm: bytes, phrases: tuple[str, ...]) -> tuple[Hit, ...]:
    """Have whoever listens for wake words, in their order, listen to a piece of sound. Raises VoiceError, AbsentError."""
    failed: ApplianceError | None = None
    away = True
    for name in kit.settings.wake:
        try:
            if name == LOCAL:
                found: tuple[Hit, ...] = await kit.local.spot(pcm, phrases)
                return found
            if away:
                away = False  # the tiers have an order of their own for all the others
                phrase = await kit.engines.wake(_pieces(pcm), phrases)
                return (Hit(phrase, 1.0, name),) if phrase else ()
        except ApplianceError as error:
            failed = error
    if failed is not None:
        raise failed
    return ()


async def _pieces(pcm: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(pcm), FRAME * WIDTH):
        yield pcm[start : start + FRAME * WIDTH]
    yield TAIL
