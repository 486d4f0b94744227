"""The voice as a service: absent where no microphone is; nothing heavy is loaded before one is there."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from appliance.core.backoff import backoff
from appliance.core.model import Health, HealthReport
from appliance.core.state import Section
from appliance.core.voice.figures import VoiceFigures, Woken
from appliance.core.voice.ground import Ground, Kit
from appliance.core.voice.health import report
from appliance.core.voice.model import (
    RATE,
    ArrayStatus,
    LedgerTotals,
    MicrophoneStatus,
    SoundLevel,
    Speech,
    Stage,
    Utterance,
    VoiceStatus,
)
from appliance.errors import AbsentError, ApplianceError

if TYPE_CHECKING:
    from appliance.core.ports import Microphone, MicrophoneArray
    from appliance.core.voice.desk import Desk
    from appliance.core.voice.ear import Ear
    from appliance.core.voice.room import Room
    from appliance.core.voice.talks import Talks

log = logging.getLogger(__name__)

AGAIN = (0.5, 15.0)
"""Seconds until a microphone is looked for again: at first, and at most."""
STEADY = 30.0
"""After so long that it was open, earlier failures count no more."""
TICK = 0.5
"""Seconds between two looks at what is shown, while somebody watches."""
SELDOM = 5.0
"""Likewise while nobody does."""
CHECK = 30.0
"""Seconds between two looks at the engines."""
OFF = 'set voice.enabled = "auto".'


class VoiceService:
    """Listens, understands, acts, answers (implements ports.Service).

    Args:
        ground: What it stands on.
    """

    name = "voice"
    summary = "Hears its name, understands, acts and answers; Wyoming for other machines"
    depends: tuple[str, ...] = ("store", "memory")

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.settings = ground.settings
        self.kit = Kit(ground)
        self.figures = VoiceFigures(ground.observer.meter, lambda: ground.state.get(Section.voice).value)
        self.woken = Woken()
        self.microphone: Microphone | None = None
        self.server: Any = None
        self.server_problem = ""
        self._room: Room | None = None
        self._talks: Talks | None = None
        self._desk: Desk | None = None
        self._why = HealthReport(Health.absent, "no microphone was looked for yet", "wait a moment")
        self._tasks: set[asyncio.Task[None]] = set()
        self._array_status: ArrayStatus | None = None
        self._checked = self._array_read = float("-inf")

    @property
    def room(self) -> Room:
        """What turns share; loaded when it is first needed."""
        if self._room is None:
            from appliance.core.voice.mouth import Mouth
            from appliance.core.voice.room import Room

            mouth = Mouth(lambda: self.kit.engines, lambda: self.kit.speaker, _tone, self.ground.now)
            self._room = Room(self.kit, mouth, self.figures, self.publish)
        return self._room

    @property
    def talks(self) -> Talks:
        """Whoever is served."""
        if self._talks is None:
            from appliance.core.voice.talks import Talks

            self._talks = Talks(self.room, self._away)
        return self._talks

    @property
    def ear(self) -> Ear | None:
        """While a microphone is open."""
        return self._room.ear if self._room is not None else None

    @property
    def why(self) -> HealthReport:
        """Why no microphone listens, where none does."""
        return self._why

    @property
    def desk(self) -> Desk:
        """What people ask of it."""
        if self._desk is None:
            from appliance.core.voice.desk import Desk

            self._desk = Desk(self)
        return self._desk

    @property
    def muted(self) -> bool:
        """Whether the microphone is."""
        return self.microphone is not None and self.microphone.muted

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look what is there. Nothing is opened yet: what is missing is looked for again and again."""
        if self.settings.enabled == "no":
            self._why = HealthReport(Health.absent, "voice is switched off (voice.enabled)", OFF)
        else:
            found = await asyncio.to_thread(self.kit.cards.detect)
            absent = found.health is Health.absent and self.settings.enabled == "auto"
            opens = HealthReport(Health.degraded, "the microphone is being opened")
            self._why = HealthReport(Health.absent, found.reason, found.next_step) if absent else opens
        self.publish()

    async def run(self) -> None:
        """Listen, wherever and whenever there is a microphone."""
        works = [self._listening()] if self.settings.enabled != "no" else []
        works += [self._watching(), self._serving()]
        tasks = {asyncio.create_task(work, name="voice service") for work in works}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=3.0)

    async def stop(self) -> None:
        """End what is under way, and let go of everything."""
        if self._talks is not None:
            await self._talks.cancel()
        server, self.server = self.server, None
        if server is not None:
            await server.stop()
        if self._room is not None:
            self._room.stages.rest(Stage.absent)
            await self._room.close()
            self._close_array(self._room)
        await self.kit.close()

    async def health(self) -> HealthReport:
        """How it is: where no microphone is, absent."""
        return report(self, self._why)

    # -- listening -----------------------------------------------------------------------------------------------------

    async def _listening(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._listen_once()
            except ApplianceError as error:
                health = Health.absent if isinstance(error, AbsentError) else Health.unhealthy
                bad = Health.unhealthy if self.settings.enabled == "yes" else health
                self._why = HealthReport(bad, error.message.rstrip("."), error.next_step)
            failures = 1 if time.monotonic() - began > STEADY else failures + 1
            self.publish()
            await asyncio.sleep(backoff(failures, *AGAIN))

    async def _listen_once(self) -> None:
        """Listen until the microphone goes away. Raises AbsentError, DeviceError."""
        cards = self.kit.cards
        if self.settings.enabled == "auto":
            found = await asyncio.to_thread(cards.detect)
            if found.health is Health.absent:
                raise AbsentError(found.reason, found.next_step)
        microphone = self.microphone = self.microphone or cards.microphone(self.settings.microphone, self.settings.sample_rate)
        microphone.muted = await asyncio.to_thread(self.ground.muted.exists)
        room = self.room
        ear = await self._make_ear()
        room.array = await asyncio.to_thread(self._find_array)
        room.ear = ear
        warm = asyncio.create_task(self._warm(), name="voice warms up")
        try:
            await ear.listen(microphone)
            raise AbsentError("the microphone gives no more sound", "see `prime-spark voice devices`.")
        finally:
            warm.cancel()
            self.woken.keep(ear.statuses())
            room.ear = None
            self.microphone = None
            self._close_array(room)
            room.stages.rest(Stage.absent)
            await ear.close()

    async def _make_ear(self) -> Ear:
        from appliance.core.voice.making import make_ear

        return await make_ear(self)

    def begun(self) -> None:
        """The first sound has come."""
        self.room.stages.rest(Stage.muted if self.muted else Stage.idle)
        self.publish()

    def level(self, level: SoundLevel) -> None:
        """How loud it is."""
        self.room.sound_problem = level.problem
        self.ground.state.put(Section.sound, level)

    async def _warm(self) -> None:
        """Load what the first turn needs, before it comes."""
        try:
            await self._load_recognition()
            dialogue = await asyncio.to_thread(lambda: self.kit.dialogue)
            await dialogue.prepare()
            await self.kit.engines.check()
            await self.kit.ledger.refresh()
        except ApplianceError as error:
            log.warning("what the first turn needs is not there yet: %s", error.message)
        self.publish()

    async def _load_recognition(self) -> None:
        """Have the model in memory that looks for wake words: else the first thing that is said waits for it."""
        ear = self.ear
        if ear is not None and ear.spotting is not None and "local" in self.settings.wake:
            await self.kit.local.spot(bytes(2 * RATE), self.settings.wake_words)

    def _find_array(self) -> MicrophoneArray | None:
        """The microphone array, where there is one; blocks."""
        if not self.settings.array:
            return None
        array = self.ground.array()
        found = array.detect()
        return array if found.health in {Health.healthy, Health.degraded} else None

    def _close_array(self, room: Room) -> None:
        array, room.array = room.array, None
        if array is not None:
            array.close()

    # -- others --------------------------------------------------------------------------------------------------------

    async def _serving(self) -> None:
        """Be a Wyoming server, where that is wanted."""
        make, failures = self.ground.server, 0
        if make is None:
            await asyncio.Event().wait()
            return
        while True:
            server = await asyncio.to_thread(make, self.kit)
            try:
                await server.start()
            except ApplianceError as error:
                self.server_problem, failures = error.message.rstrip("."), failures + 1
                self.publish()
                await asyncio.sleep(backoff(failures, 1.0, 60.0))
                continue
            self.server, self.server_problem = server, ""
            if server.satellite is not None:
                server.satellite.play, server.satellite.stop = self.room.mouth.stream, self.room.mouth.hush
            self.publish()
            await asyncio.Event().wait()

    async def _away(self, ear: Ear, hit: Any, since: float) -> bool:
        satellite = self.server.satellite if self.server is not None else None
        if satellite is None or not satellite.active:
            return False
        from appliance.core.voice.away import send

        one = await send(self.room, satellite, ear, hit, since)
        if one is not None:
            self.talks.add(one)
        return one is not None

    # -- shown ---------------------------------------------------------------------------------------------------------

    async def _watching(self) -> None:
        """Keep what is shown true."""
        while True:
            watched = self.ground.state.watched(Section.voice)
            await asyncio.sleep(TICK if watched else SELDOM)
            now = time.monotonic()
            if self.kit.has("engines") and now - self._checked >= CHECK:
                self._checked = now
                await self._check()
            if watched and now - self._array_read >= SELDOM:
                self._array_read = now
                await self.read_array()
            self.publish()

    async def _check(self) -> None:
        try:
            await self.kit.engines.check()
        except ApplianceError as error:
            log.warning("the engines could not be looked at: %s", error.message)

    async def read_array(self) -> ArrayStatus | None:
        """What the array tells of itself, in full."""
        array = self.room.array if self._room is not None else None
        if array is None:
            self._array_status = None
            return None
        try:
            self._array_status = await asyncio.to_thread(array.status)
        except ApplianceError as error:
            self._array_status = ArrayStatus("ReSpeaker", problem=error.message, next_step=error.next_step)
        return self._array_status

    def publish(self) -> None:
        """Show the voice as it is now."""
        self.ground.state.put(Section.voice, self.status())

    def status(self) -> VoiceStatus:
        """The voice as it is now."""
        room, talks, kit, ear = self._room, self._talks, self.kit, self.ear
        utterances: tuple[Utterance, ...] = tuple(talks.utterances) if talks is not None else ()
        return VoiceStatus(
            stage=room.stages.now if room else Stage.absent, since=room.stages.since if room else 0.0,
            microphone=self._microphone_status(), speaker=kit.speaker_status(),
            array=self._array_status if room is not None and room.array is not None else None,
            wake=self.woken.whole(ear.statuses()) if ear is not None else (),
            engines=kit.engines.statuses() if kit.has("engines") else (),
            privacy=kit.privacy, role=self.settings.role, ledger=kit.ledger.totals if kit.has("ledger") else LedgerTotals(),
            hearing=room.hearing if room else "", asking=room.asking if room else "", utterances=utterances,
            degraded=kit.degraded(), server=self.server.address if self.server else "",
            clients=self.server.clients if self.server else 0, counts=dict(self.figures.counts),
            why=self._why.reason if ear is None else "", next_step=self._why.next_step if ear is None else "",
        )  # fmt: skip

    def _microphone_status(self) -> MicrophoneStatus | None:
        if self.ear is not None and self.microphone is not None:
            return self.microphone.status()
        if self._why.health is Health.absent and self.settings.microphone == "auto":
            return None
        return MicrophoneStatus(self.settings.microphone, problem=self._why.reason, next_step=self._why.next_step)


def _tone(kind: str) -> Speech:
    from appliance.core.voice.local.tones import tone

    return tone(kind)
