"""What people ask of the voice: each method is what an action does."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.core.model import Actor, Role
from appliance.core.voice.kept import KeptSound, Recording
from appliance.core.voice.model import (
    RATE,
    WIDTH,
    EngineStatus,
    Outcome,
    Reply,
    SoundDevice,
    Stage,
    Transcript,
    Utterance,
    VoiceStatus,
)
from appliance.errors import AbsentError, ConflictError, InvalidArgumentsError, NotAuthorizedError, NotFoundError

if TYPE_CHECKING:
    from appliance.core.ports import MicrophoneArray
    from appliance.core.voice.ground import Talker
    from appliance.core.voice.service import VoiceService

log = logging.getLogger(__name__)

LARGEST = 64 * 2**20
"""Bytes of a recording that is recognised."""
LONGEST = 300.0
"""Seconds of it."""
TALKERS = 8
"""People whose last question is remembered at one time."""
EDGE, CLOUD = "edge-only", "cloud"


class Desk:
    """Serves actions.

    Args:
        service: The voice.
    """

    def __init__(self, service: VoiceService) -> None:
        self._service = service
        self._talkers: OrderedDict[tuple[str, str], tuple[Talker, asyncio.Lock]] = OrderedDict()
        self._asked: dict[tuple[str, str], float] = {}
        self._recorded = b""
        """The test recording; in memory only."""

    def status(self) -> VoiceStatus:
        """All of it."""
        return self._service.status()

    def utterances(self) -> tuple[Utterance, ...]:
        """The newest ones, newest first."""
        return self._service.status().utterances

    # -- speaking and listening ----------------------------------------------------------------------------------------

    async def listen(self, actor: Actor, seconds: float | None) -> Utterance:
        """Push to talk. Raises AbsentError, ConflictError."""
        self._need_ear()
        return await self._service.talks.press(actor, seconds)

    async def cancel(self) -> dict[str, bool]:
        """End what is under way, and be silent."""
        service = self._service
        cancelled = await service.talks.cancel() if service.room.ear is not None or service.talks.busy else False
        if service.kit.has("speaker"):
            service.room.mouth.hush()
        return {"cancelled": cancelled}

    async def mute(self, *, muted: bool) -> dict[str, bool]:
        """Have the microphone hear nothing, also after a restart; or hear again."""
        service, mark = self._service, self._service.ground.muted
        await asyncio.to_thread(_mark, mark, muted)
        if service.microphone is not None:
            service.microphone.muted = muted
            if muted:
                await service.talks.cancel()
            service.room.stages.rest(Stage.muted if muted else Stage.idle)
        service.publish()
        return {"muted": muted}

    async def say(self, text: str) -> dict[str, Any]:
        """Say something aloud; returns when it was heard. Raises AbsentError, ConflictError, VoiceError."""
        service = self._service
        if service.talks.busy or service.room.stages.now is Stage.speaking:
            raise ConflictError("Somebody is being served.", "wait, or end it with `prime-spark voice cancel`.")
        service.room.stages.go(Stage.speaking)
        answer = service.room.announcing = service.room.mouth.answer()
        try:
            answer.add(text)
            await answer.wait()
        finally:
            await answer.stop()
            service.room.announcing = None
            if not service.talks.busy:  # else its name was heard meanwhile, and it listens
                service.room.stages.rest()
        if answer.problem:
            step = answer.next_step or "see `prime-spark voice devices`."
            raise AbsentError(f"{answer.problem[:1].upper()}{answer.problem[1:]}.", step)
        return {"engine": answer.engine, "place": answer.place, "seconds": round(answer.seconds, 2)}

    async def ask(self, text: str, actor: Actor, *, aloud: bool) -> Reply:
        """As if it had been spoken; each person has a conversation of their own."""
        talker, lock = await self._talker(actor)
        async with lock:
            key = (actor.name, actor.via)
            waited = time.monotonic() - self._asked.get(key, 0.0)
            if talker.expecting and waited > max(60.0, self._service.settings.confirm_seconds):
                await talker.forget()  # a yes to what was asked long ago is no yes
            began = self._service.ground.clock.wall()
            reply = await talker.hear(Transcript(text, "text"), actor, lambda _: None, _unspoken)
            self._asked[key] = time.monotonic()
        self._service.talks.add(Utterance(
            _new_id(), began, "text", words=text, engine="text", outcome=reply.outcome, action=reply.action,
            reply=reply.text, confidence=reply.confidence,
        ))  # fmt: skip
        if aloud and reply.text and reply.outcome is not Outcome.empty:
            await self.say(reply.text)
        return reply

    async def _talker(self, actor: Actor) -> tuple[Talker, asyncio.Lock]:
        key = (actor.name, actor.via)
        if key not in self._talkers:
            made = await asyncio.to_thread(self._service.kit.new_dialogue)
            await made.prepare()
            self._talkers[key] = (made, asyncio.Lock())
            while len(self._talkers) > TALKERS:
                gone, _ = self._talkers.popitem(last=False)
                self._asked.pop(gone, None)
        self._talkers.move_to_end(key)
        return self._talkers[key]

    async def _dialogue(self) -> Talker:
        """That of whoever is heard, with its sentences ready."""
        talker = await asyncio.to_thread(lambda: self._service.kit.dialogue)
        await talker.prepare()
        return talker

    # -- recordings ----------------------------------------------------------------------------------------------------

    async def transcribe(self, file: str, data: str) -> Transcript:
        """Recognise a file on this machine, or what came in base64. Raises SoundError, VoiceError, NotFoundError."""
        if bool(file) == bool(data):
            raise InvalidArgumentsError("Neither a file nor data is given, or both.", "give one of them.")
        read, name = await asyncio.to_thread(_read, file, data)
        pcm = await asyncio.to_thread(_mono, read, name)
        talker = await self._dialogue()
        return await self._service.kit.engines.transcribe(pcm, talker.sentences(), _new_id())

    async def record(self, seconds: float) -> dict[str, float]:
        """Record the microphone for a test; kept until the next one. Raises AbsentError, DeviceError, ConflictError."""
        ear = self._need_ear()
        if self._service.muted:
            raise ConflictError("The microphone is muted.", "`prime-spark voice unmute`.")
        self._recorded = await ear.record(seconds)
        return {"seconds": round(len(self._recorded) / WIDTH / RATE, 2)}

    async def play(self, key: str) -> dict[str, float]:
        """Play the test recording, or a kept one. Raises NotFoundError, AbsentError, DeviceError."""
        pcm, rate = (await self._kept().get(key)) if key else (self._recorded, RATE)
        if not pcm:
            raise NotFoundError("There is no test recording.", "make one with `prime-spark voice record`.")
        return {"seconds": round(await self._service.room.mouth.play(pcm, rate), 2)}

    async def recordings(self) -> tuple[Recording, ...]:
        """Kept sound of utterances, newest first."""
        return await self._kept().all()

    async def forget(self, key: str) -> dict[str, int]:
        """Forget one, or all. Raises NotFoundError."""
        return {"forgotten": await self._kept().forget(key)}

    def _kept(self) -> KeptSound:
        return KeptSound(self._service.ground.memory, self._service.settings.keep_audio_days)

    # -- parts ---------------------------------------------------------------------------------------------------------

    async def devices(self) -> tuple[SoundDevice, ...]:
        """What PortAudio lists now. Raises AbsentError, DeviceError."""
        return await self._service.kit.cards.devices()

    async def engines(self) -> tuple[EngineStatus, ...]:
        """All engines, looked at now."""
        await self._service.kit.engines.check()
        self._service.publish()
        return self._service.kit.engines.statuses()

    async def privacy(self, mode: str, actor: Actor) -> dict[str, str]:
        """Whether anything may leave the house, at once and after a restart. Raises NotAuthorizedError, ConfigError."""
        kit = self._service.kit
        if mode == CLOUD and actor.role < Role.admin:
            told = f"Only an admin may let sound and words leave the house; {actor.name} is {actor.role.name}."
            raise NotAuthorizedError(told, "log in as a user with the role admin.")
        if mode == EDGE:
            kit.privacy = EDGE  # at once, whatever becomes of the file
        await self._service.ground.keep("voice.privacy", mode)
        kit.privacy = mode
        self._service.publish()
        return {"privacy": mode}

    async def ledger(self, limit: int) -> dict[str, Any]:
        """What left the house: totals, and the newest rows."""
        ledger = self._service.kit.ledger
        return {"totals": await ledger.refresh(), "rows": await ledger.rows(limit)}

    async def phrases(self) -> Any:
        """What can be said."""
        return await asyncio.to_thread((await self._dialogue()).phrases)

    async def parameters(self) -> Any:
        """Of the microphone array, as they are now. Raises AbsentError, DeviceError."""
        array = self._need_array()
        parameters = getattr(array, "parameters", None)
        if parameters is not None:
            return await asyncio.to_thread(parameters)
        status = await asyncio.to_thread(array.status)
        return [{"name": name, "value": value} for name, value in sorted(status.parameters.items())]

    async def tune(self, name: str, value: float) -> dict[str, Any]:
        """Set one. Raises AbsentError, DeviceError, InvalidArgumentsError."""
        found = await asyncio.to_thread(self._need_array().set, name, value)
        await self._service.read_array()
        self._service.publish()
        return {"name": name, "value": found}

    def _need_array(self) -> MicrophoneArray:
        room = self._service.room
        if room.array is None:
            raise AbsentError(
                "There is no microphone array that could be set.", "plug a ReSpeaker in; see `prime-spark doctor`."
            )
        return room.array

    def _need_ear(self) -> Any:
        ear = self._service.ear
        if ear is None:
            why = self._service.why
            raise AbsentError(f"Nothing listens: {why.reason}.", why.next_step)
        return ear


async def _unspoken(_: str) -> None:
    """Whoever reads the answer gets it whole."""


def _new_id() -> str:
    from appliance.core.events import new_id

    return new_id()


def _mark(path: Path, there: bool) -> None:
    if there:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    else:
        path.unlink(missing_ok=True)


def _read(file: str, data: str) -> tuple[bytes, str]:
    """The recording's bytes, and its name."""
    if data:
        try:
            return base64.b64decode(data, validate=True), "the recording"
        except binascii.Error as error:
            raise InvalidArgumentsError("The data is no base64.", "encode the recording's bytes (RFC 4648).") from error
    path = Path(file).expanduser()
    try:
        if path.stat().st_size > LARGEST:
            raise InvalidArgumentsError(f"{path} has more than {LARGEST // 2**20} MiB.", "cut it into pieces.")
        return path.read_bytes(), str(path)
    except OSError as error:
        raise NotFoundError(
            f"{path} cannot be read: {error.strerror or error}.", "name a recording on this machine."
        ) from error


def _mono(data: bytes, name: str) -> bytes:
    """One channel of 16 bits at RATE. Raises SoundError."""
    import numpy as np

    from appliance.core.inference.sound import decode
    from appliance.core.voice.wyoming.convert import Converter

    sound = decode(data, name, LONGEST)
    mono: bytes = np.clip(np.rint(sound.samples.mean(axis=1) * 32767), -32768, 32767).astype("<i2").tobytes()
    if sound.rate == RATE:
        return mono
    return Converter(sound.rate, WIDTH, 1, RATE).feed(mono, last=True)
