"""Turns one after the other: by wake word, by key, after an answer, for a yes or what was missing."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from appliance.core.model import Actor, Severity
from appliance.core.voice.ear import Ear
from appliance.core.voice.kept import KeptSound
from appliance.core.voice.model import Hit, Outcome, Stage, Utterance
from appliance.core.voice.room import Room
from appliance.core.voice.stage import RESTING
from appliance.core.voice.turn import Start, Turn
from appliance.errors import AbsentError, ApplianceError, ConflictError

log = logging.getLogger(__name__)

NEWEST = 50
"""Utterances that are shown."""
Away = Callable[[Ear, Hit, float], Awaitable[bool]]
"""Gives what is said after a wake word to another machine; False where none wants it."""


class Talks:
    """Whoever is served, one at a time.

    Args:
        room: What turns share.
        away: A satellite's other end, where there is one.
    """

    def __init__(self, room: Room, away: Away) -> None:
        self._room, self._away = room, away
        self._task: asyncio.Task[None] | None = None
        self._turn: Turn | None = None
        self._next: Start | None = None
        self._first: asyncio.Future[Utterance] | None = None
        self.utterances: deque[Utterance] = deque(maxlen=NEWEST)
        """Newest first."""

    @property
    def busy(self) -> bool:
        """Whether somebody is being served."""
        return self._task is not None

    def wake(self, hit: Hit, since: float) -> None:
        """A wake word was heard; what it is in began at `since` (monotonic)."""
        room, ear = self._room, self._room.ear
        if ear is None or (self.busy and room.stages.now is not Stage.speaking):
            return
        log.info("woken by %r (%.2f, %s)", hit.phrase, hit.score, hit.heard_by)
        room.figures.woke(hit.phrase, hit.heard_by)
        if not self.busy:
            room.silence()
            room.stages.go(Stage.listening)
            self._begin(self._called(ear, hit, since), None)
            return
        self._next = self._start(ear, hit, since)
        if self._turn is not None:
            self._turn.interrupt()

    def _start(self, ear: Ear, hit: Hit, since: float) -> Start:
        capture = ear.capture(self._room.settings.listen_seconds, since)
        return Start(capture, self._room.kit.actor, "microphone", hit)

    async def _called(self, ear: Ear, hit: Hit, since: float) -> None:
        if not await self._away(ear, hit, since):
            await self._converse(self._start(ear, hit, since))

    async def press(self, actor: Actor, seconds: float | None) -> Utterance:
        """The key: listen now, on behalf of `actor`; returns the utterance when it has ended. It silences an answer.

        Raises:
            AbsentError: There is no microphone.
            ConflictError: Somebody is being served, or the microphone is muted.
        """
        ear, stage = self._room.ear, self._room.stages.now
        if ear is None:
            raise AbsentError("There is no microphone.", "connect one; see `prime-spark voice devices`.")
        if stage is Stage.muted:
            raise ConflictError("The microphone is muted.", "`prime-spark voice unmute`.")
        if stage in {Stage.speaking, Stage.following}:
            await self.cancel()
        if self.busy:
            raise ConflictError("Somebody is being served.", "wait, or end it with `prime-spark voice cancel`.")
        self._room.silence()
        first: asyncio.Future[Utterance] = asyncio.get_running_loop().create_future()
        capture = ear.capture(seconds or self._room.settings.listen_seconds)
        self._room.stages.go(Stage.listening)
        self._begin(self._converse(Start(capture, actor, "key")), first)
        return await first

    def _begin(self, work: Any, first: asyncio.Future[Utterance] | None) -> None:
        self._first = first
        self._task = asyncio.get_running_loop().create_task(self._guarded(work), name="voice talk")

    async def _guarded(self, work: Awaitable[None]) -> None:
        room = self._room
        try:
            await work
        except asyncio.CancelledError:
            log.info("what was being said is given up")
        except Exception:
            log.exception("a talk failed")
        finally:
            self._task = self._turn = self._next = None
            room.hearing = room.asking = ""
            if self._first is not None and not self._first.done():
                self._first.set_exception(ConflictError("It ended before anything was heard.", "try again; see the log."))
            room.stages.rest()
            room.changed()

    async def _converse(self, start: Start) -> None:
        following: Start | None = start
        try:
            while following is not None:
                turn = self._turn = Turn(self._room, following, self._kept())
                try:
                    await turn.run()
                finally:
                    self._ended(turn, following)
                before, following = following, self._after(turn, following)
                following = following or await self._unanswered(turn, before)
        except asyncio.CancelledError:
            await self._room.kit.dialogue.forget()
            raise
        finally:
            if self._room.ear is not None and following is not None:
                self._room.ear.release(following.capture)

    def _after(self, turn: Turn, before: Start) -> Start | None:
        """What follows a turn."""
        room, ear, reply = self._room, self._room.ear, turn.reply
        interrupted, self._next = self._next, None
        if interrupted is not None or ear is None or turn.silent:
            return interrupted
        settings = room.settings
        if reply is not None and reply.expects:
            room.asking = reply.text
            stage = Stage.confirming if reply.expects == "confirm" else Stage.following
            return Start(ear.capture(settings.confirm_seconds), before.actor, "follow-up", None, reply.expects, stage)
        room.asking = ""
        ends = reply is None or reply.outcome is Outcome.cancelled or before.actor is not room.kit.actor
        if ends or not settings.follow_up_seconds:
            return None
        return Start(ear.capture(settings.follow_up_seconds), before.actor, "follow-up", None, "", Stage.following)

    async def _unanswered(self, turn: Turn, start: Start) -> Start | None:
        """The yes, or what was missing, did not come: nothing is done, and that is said."""
        if not start.expects or not turn.silent:
            return None
        reply = await self._room.kit.dialogue.forget()
        if reply is not None and reply.text:
            await turn.say(reply.text)
        interrupted, self._next = self._next, None
        return interrupted

    def _kept(self) -> KeptSound | None:
        settings = self._room.settings
        if not settings.keep_audio:
            return None
        return KeptSound(self._room.kit.ground.memory, settings.keep_audio_days)

    def _ended(self, turn: Turn, start: Start) -> None:
        one = turn.utterance()
        if turn.silent and start.expects:
            one = _declined(one)
        if turn.silent and start.origin == "follow-up" and not start.expects:
            return  # nobody said anything after the answer
        self.add(one)
        if self._first is not None and not self._first.done():
            self._first.set_result(one)

    def add(self, one: Utterance) -> None:
        """Show, count and tell an utterance that has ended."""
        self.utterances.appendleft(one)
        self._room.figures.ended(one)
        self._room.beside(self._tell(one))
        self._room.changed()

    async def _tell(self, one: Utterance) -> None:
        try:
            await self._room.kit.ground.note("voice.utterance", Severity.info, told(one, words=self._room.settings.tell_words))
        except ApplianceError as error:
            log.warning("an utterance is not among the events: %s", error.message)

    async def cancel(self) -> bool:
        """End what is under way; whether there was anything."""
        task = self._task
        if task is None:
            return False
        task.cancel()
        await asyncio.wait({task}, timeout=5.0)
        return True

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and a microphone listens."""
        return not self.busy and self._room.stages.now in RESTING


def _declined(one: Utterance) -> Utterance:
    return msgspec.structs.replace(one, outcome=Outcome.declined, note="no answer came")


def told(one: Utterance, *, words: bool) -> dict[str, Any]:
    """An utterance as the topic of events has it: never its sound, and words only where the operator wants that."""
    times = {name: value for name, value in msgspec.structs.asdict(one.timings).items() if value is not None}
    facts = {
        "utterance_id": one.utterance_id, "origin": one.origin, "wake_word": one.wake_word, "outcome": one.outcome.value,
        "action": one.action, "engine": one.engine, "place": one.place.value, "confidence": round(one.confidence, 3),
        "fell_back": len(one.fell_back), "direction": one.direction, "timings_ms": times, "trace_id": one.trace_id,
    }  # fmt: skip
    return facts | ({"words": one.words, "understood": one.understood, "reply": one.reply} if words else {})
