"""One turn: it listens, recognises, understands, acts, and says what came of it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import msgspec

from appliance.core.events import new_id
from appliance.core.model import Actor
from appliance.core.observe.spans import child
from appliance.core.voice.capture import Capture, Says
from appliance.core.voice.kept import KeptSound
from appliance.core.voice.model import Hit, Outcome, Place, Reply, Stage, Timings, Transcript, Utterance
from appliance.core.voice.mouth import Answer
from appliance.core.voice.room import Room
from appliance.core.voice.words import ALIKE, LIKELY, without
from appliance.errors import ApplianceError, DeviceError

log = logging.getLogger(__name__)

LOCAL = "local"
NAMED_SECONDS = 0.9
"""What is no longer than that, and begins with the wake word, is the wake word alone: what the model writes after it comes from
the noise. Six voices said "hey spark, stop" in 1.26 s and more, "hey prime" in 0.69 to 1.22 s."""
AGAIN = 4
"""Times that an utterance without words after the wake word is listened on from."""
CHIME = 0.35
"""Seconds after the wake word in which whoever goes on in one breath is not disturbed by a tone."""
RECOGNISE = 60.0
UNDERSTAND = 300.0
"""Seconds that recognition, and understanding with the action, may take at the very most; engines have limits of their own."""
SILENT = frozenset({Outcome.unknown, Outcome.empty})
"""What is not answered where nobody has called it: somebody may have spoken to somebody else."""


@dataclass(frozen=True)
class Start:
    """How a turn begins.

    Attributes:
        capture: What is being said.
        actor: On whose behalf it acts.
        origin: See Utterance.origin.
        hit: The wake word that began it.
        expects: "confirm" or "slot", where it answers a question.
        stage: While it listens.
    """

    capture: Capture
    actor: Actor
    origin: str
    hit: Hit | None = None
    expects: str = ""
    stage: Stage = Stage.listening


class Turn:
    """One turn; `run` it once, then its `utterance` tells.

    Args:
        room: What it shares with others.
        start: How it begins.
        kept: Keeps its sound, where that is wanted.
    """

    def __init__(self, room: Room, start: Start, kept: KeptSound | None) -> None:
        self._room, self._start, self._kept = room, start, kept
        self._capture = start.capture
        self._time = room.clock.wall()
        self._id = new_id()
        self._named = start.hit.phrase if start.hit else ""
        self._guess: asyncio.Task[Transcript] | None = None
        self._hearing: asyncio.Task[Reply] | None = None
        self._answer: Answer | None = None
        self._transcript: Transcript | None = None
        self._times: dict[str, float | None] = {}
        self._notes: list[str] = []
        self._pcm = b""
        self._chimed = self._cut = False
        self._trace = ""
        self._key = ""
        self._outcome = Outcome.empty
        self.silent = False
        """Nobody spoke at all."""
        self.reply: Reply | None = None

    async def run(self) -> None:
        """From listening until the last word of the answer was heard."""
        facts = {"prime_spark.origin": self._start.origin}
        with self._room.kit.ground.observer.spans.span("voice turn", facts) as span:
            self._trace = span.trace_id if span.sampled else ""
            try:
                await self._go()
            except asyncio.CancelledError:
                if self.reply is None:
                    self._outcome = Outcome.cancelled
                else:
                    self._notes.append("silenced")
                if self._answer is not None:
                    await self._answer.stop()
                raise
            except (ApplianceError, TimeoutError) as error:
                await self._failed(error)
            finally:
                self._drop()
                span.set({"prime_spark.outcome": self._outcome.value})

    async def _go(self) -> None:
        self._room.hearing = ""
        self._room.stages.go(self._start.stage)
        self._room.look_where()
        self._room.beside(self._room.kit.dialogue.prepare())
        if self._start.origin != "follow-up":
            self._room.beside(self._chime(CHIME if self._start.hit else 0.0))
        self._transcript = await self._listen()
        if self._room.ear is not None:
            self._room.ear.release(self._capture)
        if self._transcript is not None and self._transcript.text:
            await self._understand(self._transcript)
        elif not self.silent and self._start.origin != "follow-up":
            self._room.beside(self._room.mouth.tone("done") if self._room.settings.tones else _nothing())
        await self._keep()

    async def _chime(self, delay: float) -> None:
        """Say that it listens, where whoever called does not speak already."""
        await asyncio.sleep(delay)
        waits = self._room.stages.now is Stage.listening and self._capture.quiet
        if self._room.settings.tones and waits and not self._chimed:
            self._chimed = True
            await self._room.mouth.tone("listening")

    async def _listen(self) -> Transcript | None:
        """What was said; None where nobody spoke. Raises VoiceError, AbsentError, DeviceError."""
        tries = AGAIN
        while True:
            says = await self._next()
            if says is Says.nothing:
                self.silent = True
                return None
            if says is Says.gone:
                raise DeviceError("the microphone went away.", "look at its cable; see `prime-spark voice devices`.")
            if says in {Says.start, Says.resume}:
                self._drop()
                self._room.look_where()
            elif says is Says.pause:
                self._speculate()
            else:
                found = await self._known(cut=says is Says.cut)
                if found.text or not self._start.hit or not tries:
                    return found
                tries -= 1
                self._drop()
                self._capture.again()
                self._named = ""
                self._room.stages.go(self._start.stage)
                self._room.beside(self._chime(0.0))

    async def _next(self) -> Says:
        """What happens next; a pause after a whole command is its end."""
        waits = asyncio.create_task(self._capture.next(), name="voice listens")
        try:
            while not waits.done():
                guess = self._guess
                fresh = guess is not None and not guess.done()
                await asyncio.wait({waits, guess} if guess and fresh else {waits}, return_when=asyncio.FIRST_COMPLETED)
                if not waits.done() and self._whole():
                    return Says.end
            return waits.result()
        finally:
            waits.cancel()

    def _whole(self) -> bool:
        """Whether what was said before the pause is surely all of it."""
        if self._guess is None or not self._guess.done() or self._guess.exception() is not None:
            return False
        found = self._guess.result()
        self._room.hearing = found.text
        self._room.changed()
        return bool(found.text) and self._room.kit.dialogue.whole(found)

    @property
    def _alone(self) -> bool:
        """Whether no more than the wake word was said so far."""
        began, ended = self._capture.began, self._capture.ended
        return bool(self._named) and began is not None and ended is not None and ended - began <= NAMED_SECONDS

    def _speculate(self) -> None:
        """Recognise in a pause, as though it were the end; where sound leaves the house for it, only at the end."""
        if self._alone:
            return
        first = self._room.settings.stt[0]
        service = self._room.settings.services.get(first)
        if service is None or service.place != "cloud":
            self._pcm = self._capture.pcm()
            self._guess = asyncio.create_task(self._recognise(self._pcm), name="voice recognises")

    def _drop(self) -> None:
        if self._guess is not None:
            self._guess.cancel()
            self._guess.add_done_callback(_seen)
            self._guess = None

    async def _known(self, *, cut: bool) -> Transcript:
        """The end has come: what was said."""
        capture, now = self._capture, self._room.now()
        self._room.stages.go(Stage.thinking)
        if capture.began is not None and capture.ended is not None:
            self._times["speech"] = (capture.ended - capture.began) * 1000
            self._times["endpoint"] = max(0.0, now - capture.ended) * 1000
        if cut:
            self._cut = True
            self._notes.append(f"cut off after {self._room.settings.utterance_seconds:g} s")
            self._drop()
        if self._alone:
            return Transcript("", "")
        if self._guess is None:
            self._pcm = capture.pcm()
            return await self._recognise(self._pcm)
        return await self._guess

    async def _recognise(self, pcm: bytes) -> Transcript:
        kit = self._room.kit
        phrases = self._room.settings.wake_words
        wanted = kit.dialogue.sentences()
        wanted = msgspec.structs.replace(wanted, before=(*phrases, *wanted.before), said=self._named)
        with child("voice stt", {"prime_spark.seconds": round(len(pcm) / 32000, 2)}):
            async with asyncio.timeout(RECOGNISE):
                found = await kit.engines.transcribe(pcm, wanted, self._id)
        self._times["stt"] = found.took_ms
        lenient = self._named and found.engine != LOCAL  # others know nothing of what was said before
        return msgspec.structs.replace(found, text=without(found.text, phrases, LIKELY if lenient else ALIKE))

    async def _understand(self, transcript: Transcript) -> None:
        room = self._room
        room.hearing = transcript.text
        room.stages.go(Stage.thinking)
        room.changed()
        began = self._room.now()
        self._answer = room.mouth.answer(self._id)
        with child("voice understand"):
            async with asyncio.timeout(UNDERSTAND):
                hear = room.kit.dialogue.hear(transcript, self._start.actor, self._acts, self._sentence)
                self._hearing = asyncio.create_task(hear, name="voice understands")
                try:
                    await asyncio.wait({self._hearing})
                finally:
                    self._hearing.cancel()
        if not self._hearing.cancelled():
            self.reply = self._hearing.result()
            self._outcome = self.reply.outcome
        else:
            self._outcome = Outcome.answered
        ended = self._room.now()
        acted = self._times.pop("acted", None)
        self._times["understand"] = ((acted or ended) - began) * 1000
        if acted is not None:
            self._times["act"] = (ended - acted) * 1000
        await self._say()

    def _acts(self, action: str) -> None:
        """The action is begun now."""
        now = self._room.now()
        self._times["acted"] = now
        if self._capture.ended is not None:
            self._times["to_action"] = max(0.0, now - self._capture.ended) * 1000
        self._room.stages.go(Stage.acting)

    async def _sentence(self, text: str) -> None:
        """A sentence of a language model's answer has come."""
        if self._answer is not None and not self._answer.stopped:
            self._room.stages.go(Stage.speaking)
            self._answer.add(text)

    async def _say(self) -> None:
        """Say what has not been said, and wait until it was heard."""
        answer, reply = self._answer, self.reply
        if answer is None or answer.stopped:
            return
        unasked = self._start.origin == "follow-up" and not self._start.expects and self._outcome in SILENT
        if not unasked:
            told = [f"I stopped listening after {self._room.settings.utterance_seconds:g} seconds."] * self._cut
            streamed = reply is not None and reply.source == "llm" and bool(answer.said)
            told.append(reply.text if reply is not None and not streamed else "")
            told.append(self._room.degraded.news())
            for text in filter(None, told):
                self._room.stages.go(Stage.speaking)
                answer.add(text)
        try:
            await answer.wait()
        finally:  # also of one that is silenced
            self._heard(answer)

    def _heard(self, answer: Answer) -> None:
        self._times["tts"] = answer.tts_ms
        if answer.first_heard is not None and self._capture.ended is not None:
            self._times["to_sound"] = max(0.0, answer.first_heard - self._capture.ended) * 1000
        if answer.problem:
            self._notes.append(answer.problem)

    async def say(self, text: str) -> None:
        """Say something more; it can be interrupted as the answer can."""
        self._room.stages.go(Stage.speaking)
        self._answer = self._room.mouth.answer(self._id)
        self._answer.add(text)
        await self._answer.wait()

    def interrupt(self) -> None:
        """Whoever speaks the wake word has it be silent."""
        self._notes.append("barged in")
        if self._hearing is not None:
            self._hearing.cancel()
        if self._answer is not None:
            self._room.beside(self._answer.stop())

    async def _failed(self, error: Exception) -> None:
        """Nothing was understood: say why."""
        told = error.message if isinstance(error, ApplianceError) else "it took too long"
        self._outcome = Outcome.failed
        self._notes.append(told.rstrip("."))
        log.warning("an utterance failed: %s", told)
        text = f"I cannot do that now: {told}"
        self.reply = Reply(text, Outcome.failed, source="local")
        self._answer = self._answer or self._room.mouth.answer(self._id)
        if self._room.settings.tones and not self._answer.said:
            await self._room.mouth.tone("trouble")
        await self._say()

    async def _keep(self) -> None:
        if self._kept is None or not self._pcm:
            return
        try:
            self._key = await self._kept.keep(self._id, self._pcm, self._transcript.text if self._transcript else "")
        except ApplianceError as error:
            self._notes.append(f"its sound is not kept: {error.message}".rstrip("."))

    def utterance(self) -> Utterance:
        """What came of it."""
        found, reply, hit = self._transcript, self.reply, self._start.hit
        notes = [*self._notes, "clipped"] if self._room.sound_problem == "clipped" else self._notes
        ear = self._room.ear
        return Utterance(
            utterance_id=self._id, time=self._time, origin=self._start.origin,
            wake_word=hit.phrase if hit else "", wake_score=hit.score if hit else None,
            words=found.text if found else "", understood=reply.understood if reply else "",
            engine=found.engine if found else "",
            place=found.place if found else Place.local, fell_back=self._fell_back(), outcome=self._outcome,
            action=reply.action if reply else "", reply=self._said(), confidence=reply.confidence if reply else 0.0,
            direction=ear.direction if ear else None, timings=self._timings(), trace_id=self._trace, kept=self._key,
            note="; ".join(notes),
        )  # fmt: skip

    def _said(self) -> str:
        if self.reply is not None:
            return self.reply.text
        return " ".join(self._answer.said) if self._answer is not None else ""

    def _fell_back(self) -> tuple[str, ...]:
        heard = self._transcript.fell_back if self._transcript else ()
        return (*heard, *(self._answer.fell_back if self._answer else ()))

    def _timings(self) -> Timings:
        return Timings(**{name: None if value is None else round(value, 1) for name, value in self._times.items()})


def _seen(task: asyncio.Task[Transcript]) -> None:
    """Its failure is nobody's concern any more."""
    if not task.cancelled():
        task.exception()


async def _nothing() -> None:
    """Do nothing."""
