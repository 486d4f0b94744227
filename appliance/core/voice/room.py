"""What all turns share: the stage, the mouth, the ear, what is counted, and what is shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from appliance.core.model import Health
from appliance.core.ports import MicrophoneArray
from appliance.core.voice.ear import Ear
from appliance.core.voice.figures import VoiceFigures
from appliance.core.voice.ground import Kit
from appliance.core.voice.model import EngineStatus, Place, Stage
from appliance.core.voice.mouth import Answer, Mouth
from appliance.core.voice.stage import LIGHTS, Stages
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)


class Degraded:
    """Says once what does not work any more, and once that it works again.

    Args:
        sentence: What does not work now, or "".
        engines: As they are now.
    """

    def __init__(self, sentence: Callable[[], str], engines: Callable[[], tuple[EngineStatus, ...]]) -> None:
        self._sentence, self._engines = sentence, engines
        self._told = ""
        self._bad: frozenset[tuple[str, str]] = frozenset()

    def news(self) -> str:
        """What is to be said now; "" where nothing has changed since it was said last."""
        now = self._sentence()
        if now == self._told:
            return ""
        before, self._told = self._bad, now
        self._bad = frozenset(
            (each.name, each.place.value) for each in self._engines() if each.health in {Health.unhealthy, Health.absent}
        )
        return now or _healed(before - self._bad)


def _healed(back: frozenset[tuple[str, str]]) -> str:
    if any(place == Place.cloud.value for _, place in back):
        return "The cloud is back."
    names = sorted({name for name, place in back if place == Place.edge.value})
    if names:
        return f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} back."
    return "Everything works again."


class Room:
    """Everything that a turn needs.

    Args:
        kit: Engines, dialogue, settings.
        mouth: Speaks.
        figures: Counts.
        changed: Called where what is shown has changed.
    """

    def __init__(self, kit: Kit, mouth: Mouth, figures: VoiceFigures, changed: Callable[[], None]) -> None:
        self.kit, self.mouth, self.figures, self.changed = kit, mouth, figures, changed
        self.settings = kit.settings
        self.clock, self.now = kit.ground.clock, kit.ground.now
        self.stages = Stages(self.clock, self._staged)
        self.ear: Ear | None = None
        """While a microphone is open."""
        self.array: MicrophoneArray | None = None
        """While one is there."""
        self.array_problem = ""
        self.sound_problem = ""
        """Of the newest level."""
        self.hearing = ""
        """Words so far of the utterance under way."""
        self.asking = ""
        """What it waits for a yes to."""
        self.announcing: Answer | None = None
        """What is being said without anybody having spoken."""
        self.degraded = Degraded(kit.degraded, lambda: kit.engines.statuses() if kit.has("engines") else ())
        self._tasks: set[asyncio.Task[None]] = set()

    def _staged(self, stage: Stage) -> None:
        self.beside(self._with_array(lambda array: array.lights(LIGHTS[stage])))
        self.changed()

    def look_where(self) -> None:
        """Ask the array from where the speech comes; the answer is there some milliseconds later."""

        def ask(array: MicrophoneArray) -> None:
            if self.ear is not None:
                self.ear.direction = array.direction()

        self.beside(self._with_array(ask))

    async def _with_array(self, work: Callable[[MicrophoneArray], None]) -> None:
        """An array that fails stops nothing."""
        if (array := self.array) is None:
            return
        try:
            await asyncio.to_thread(work, array)
            self.array_problem = ""
        except ApplianceError as error:
            if error.message != self.array_problem:
                log.warning("the microphone array: %s", error.message)
            self.array_problem = error.message

    def silence(self) -> None:
        """Whoever is to be heard silences what is being announced."""
        if self.announcing is not None:
            self.beside(self.announcing.stop())

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work, name="voice beside")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for what is still done, a moment long."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=2.0)
