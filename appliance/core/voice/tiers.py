"""All engines of the voice in the operator's order, each falling back to the next; what leaves the house is in the ledger."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from appliance.core.ports import Clock
from appliance.core.voice.engine import SpeechToText, TextToSpeech
from appliance.core.voice.ledger import Leaving, VoiceLedger, WithheldError
from appliance.core.voice.model import RATE, WIDTH, EngineStatus, Place, Sentences, Speech, Transcript
from appliance.core.voice.outgoing import Outgoing
from appliance.core.voice.tier import Tier
from appliance.errors import ApplianceError, StoreError, VoiceError
from appliance.settingvoice import VoiceSettings

log = logging.getLogger(__name__)

T = TypeVar("T", Transcript, Speech)
LOCAL_SECONDS = 30.0
"""An engine of this machine is given up after so long, beside the length of the sound."""
GRACE = 1.0
"""Seconds that a service may take beyond its own deadline to say what happened."""
REST = (2.0, 60.0)
Why = dict[str, str]
"""Engines that did not answer, by name."""


class TieredEngines:
    """The engines (engine.Engines).

    Args:
        settings: The operator's order, and where the services are.
        local_stt: Recognises on this machine.
        local_tts: Speaks on this machine.
        ledger: Written before anything leaves the house.
        clock: For times.
        privacy: "edge-only" or "cloud", as it is now.
        power: What the power asks for now: "edge-only" bars the cloud too.
        rest: Seconds until an engine is looked at again after a failure: at first, and at most.
    """

    def __init__(
        self, settings: VoiceSettings, local_stt: SpeechToText, local_tts: TextToSpeech, ledger: VoiceLedger, clock: Clock,
        privacy: Callable[[], str], power: Callable[[], str | None] = lambda: None, rest: tuple[float, float] = REST,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._privacy = privacy
        self._power = power
        self._rest = rest
        self._outgoing = Outgoing(ledger)
        self._looked = False
        """The ledger has told its sums."""
        self._stt = self._tiers("stt", settings.stt, local_stt)
        self._tts = self._tiers("tts", settings.tts, local_tts)
        self._wake = self._tiers("wake", settings.wake, None)

    # -- work ----------------------------------------------------------------------------------------------------------

    async def transcribe(self, pcm: bytes, sentences: Sentences, utterance_id: str = "") -> Transcript:
        """Ask the first that is well; then the next, with the whole utterance. Raises VoiceError where none answers."""

        async def ask(engine: Any, **sent: Any) -> Transcript:
            found: Transcript = await engine.transcribe(pcm, sentences, **sent)
            return found

        return await self._first(self._stt, ask, utterance_id, audio=len(pcm), text=0)

    async def synthesize(self, text: str, utterance_id: str = "") -> Speech:
        """Likewise. A text without a word is no sound. Raises VoiceError where none answers."""
        from appliance.core.voice.local.spoken import speakable

        said = speakable(text)
        if not said:
            return Speech(b"", RATE, self._tts[0].name, self._tts[0].place)

        async def ask(engine: Any, **sent: Any) -> Speech:
            found: Speech = await engine.synthesize(said, **sent)
            return found

        return await self._first(self._tts, ask, utterance_id, audio=0, text=len(said.encode()))

    async def wake(self, frames: AsyncIterator[bytes], phrases: tuple[str, ...]) -> str:
        """Have a service beyond this machine listen for wake words.

        Args:
            frames: What sounds like speech, as it comes. Where a service fails, the next one gets what comes then.
            phrases: What is listened for.

        Returns:
            The phrase that was heard, or "" where the stream ended.

        Raises:
            VoiceError: No service answers.
        """
        why: Why = {}
        for tier in await self._order(self._wake, why):
            began = self._clock.monotonic()
            try:
                found = await self._listen(tier, frames, phrases)
            except ApplianceError as error:
                _failed(tier, error, why)
                continue
            tier.answered(self._clock.monotonic() - began)
            return found
        raise _nobody(self._wake, "wake", why)

    # -- how they are --------------------------------------------------------------------------------------------------

    async def check(self) -> tuple[EngineStatus, ...]:
        """Look at all of them now; those of the cloud only where the cloud may be asked at all."""
        await asyncio.gather(self._look(), *(tier.check() for tier in self._all()))
        return self.statuses()

    def statuses(self) -> tuple[EngineStatus, ...]:
        """Of all."""
        return tuple(tier.status() for tier in self._all())

    def degraded(self) -> str:
        """What does not work as it should, as one spoken sentence; empty where all is well."""
        for tiers, cannot in ((self._stt, "understand speech"), (self._tts, "speak")):
            if not any(not tier.barred() and not tier.trouble for tier in tiers):
                return f"I cannot {cannot} now; no engine answers."
        lost = [tier for tier in self._all() if tier.trouble and not tier.absent and not tier.barred()]
        if any(tier.place is Place.cloud for tier in lost):
            return "The cloud is away; I can do local commands."
        if lost:
            name = lost[0].name if lost[0].place is Place.edge else "My own engine"
            return f"{name} is away; another engine answers."
        wanted = any(tier.place is Place.cloud for tier in self._all()) and self._privacy() == "cloud"
        if wanted and self._ledger.capped:
            return "The cloud has had its share of today; I can do local commands."
        if wanted and self._power() == "edge-only":
            return "The cloud is not asked, to save power; I can do local commands."
        return ""

    async def close(self) -> None:
        """Let go of all, once the ledger has what really went."""
        await asyncio.gather(*(tier.close() for tier in self._all()))
        await self._outgoing.settled()

    async def _look(self) -> None:
        """See what the ledger counts now: a new day frees what the one before had used up.

        Each look is a write, which cards wear from: there is none where nothing was counted today and nothing may be.
        """
        today = self._ledger.totals.today_bytes or self._ledger.totals.today_text_bytes
        may = any(tier.place is Place.cloud and not tier.barred() for tier in self._all())
        if self._looked and not today and not may:
            return
        try:
            await self._ledger.refresh()
            self._looked = True
        except StoreError as error:
            log.warning("the voice's ledger cannot be read, so nothing leaves the house: %s", error.message)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _all(self) -> list[Tier]:
        return [*self._stt, *self._tts, *self._wake]

    def _tiers(self, kind: str, names: Sequence[str], local: Any) -> list[Tier]:
        tiers = []
        for name in names:
            if name != "local":
                engine, host, seconds = self._remote(kind, name)
                tiers.append(Tier(engine, kind, host, seconds, self._bar(engine.place), self._rest))
            elif local is not None:
                tiers.append(Tier(local, kind, "", LOCAL_SECONDS, lambda: "", self._rest))
        return tiers

    def _remote(self, kind: str, name: str) -> tuple[Any, str, float]:
        from appliance.core.voice.wyoming import engines

        service = self._settings.services[name]
        parts = urlsplit(service.url)
        host = f"{parts.hostname}:{parts.port}" if parts.hostname else parts.path
        if kind == "stt":
            return engines.RemoteSpeechToText(name, service, self._settings.language), host, service.timeout_seconds
        made = engines.RemoteTextToSpeech if kind == "tts" else engines.RemoteWake
        return made(name, service), host, service.timeout_seconds

    def _bar(self, place: Place) -> Callable[[], str]:
        def barred() -> str:
            if place is not Place.cloud:
                return ""
            if self._privacy() != "cloud":
                return "nothing may leave the house (privacy edge-only)"
            return "nothing may leave the house while the power is short" if self._power() == "edge-only" else ""

        return barred

    async def _order(self, tiers: list[Tier], why: Why) -> list[Tier]:
        """Those that are well, in the operator's order; then, as the last resort, those that rest."""
        if self._ledger.capped and any(tier.place is Place.cloud and not tier.barred() for tier in tiers):
            await self._look()
        for tier in tiers:
            if told := tier.barred() or (self._ledger.capped if tier.place is Place.cloud else "") or tier.trouble:
                why[tier.name] = told
        rests = [tier for tier in tiers if tier.trouble and tier.trouble == why.get(tier.name)]
        return [tier for tier in tiers if tier.name not in why] + rests

    async def _first(
        self, tiers: list[Tier], ask: Callable[..., Awaitable[T]], utterance_id: str, *, audio: int, text: int
    ) -> T:
        why: Why = {}
        asked = []
        for tier in await self._order(tiers, why):
            began = self._clock.monotonic()
            leaving = Leaving(
                service=tier.name, host=tier.host, kind=tier.kind, utterance_id=utterance_id, audio_bytes=audio, text_bytes=text
            )
            try:
                long = audio / WIDTH / RATE if tier.place is Place.local else GRACE
                async with asyncio.timeout(tier.seconds + long):
                    found = await self._ask(tier, ask, leaving)
            except (ApplianceError, TimeoutError) as error:
                asked.append(tier.name)
                _failed(tier, error, why)
                continue
            kept = isinstance(found, Transcript) and found.kept
            tier.answered(None if kept else self._clock.monotonic() - began)
            before = [each.name for each in tiers[: tiers.index(tier)]] + asked
            told = tuple(f"{name}: {why[name]}" for name in dict.fromkeys(before) if name in why and name != tier.name)
            return msgspec.structs.replace(found, fell_back=told)
        raise _nobody(tiers, tiers[0].kind, why)

    async def _ask(self, tier: Tier, ask: Callable[..., Awaitable[T]], leaving: Leaving) -> T:
        if tier.place is not Place.cloud:
            return await ask(tier.engine)
        return await self._outgoing.ask(leaving, tier.barred, lambda sent: ask(tier.engine, sent=sent))

    async def _listen(self, tier: Tier, frames: AsyncIterator[bytes], phrases: tuple[str, ...]) -> str:
        engine = tier.engine
        if tier.place is not Place.cloud:
            return str(await engine.detect(frames, phrases))
        leaving = Leaving(service=tier.name, host=tier.host, kind=tier.kind)
        listens = lambda sent, more: engine.detect(frames, phrases, sent, more)  # noqa: E731 one of two
        return str(await self._outgoing.stream(leaving, tier.barred, listens))


def _failed(tier: Tier, error: ApplianceError | TimeoutError, why: Why) -> None:
    """Note why an engine did not answer; it is held against it, unless it was never asked."""
    told = error if isinstance(error, ApplianceError) else VoiceError(f"It did not answer within {tier.seconds:g} s.")
    why[tier.name] = told.message.rstrip(".")
    if not isinstance(told, WithheldError):
        tier.failed(told)


def _nobody(tiers: list[Tier], kind: str, why: Why) -> VoiceError:
    """What to do is that of the only one that tells it; where several do, the list of them has it."""
    what = {"stt": "Nothing recognised the speech", "tts": "Nothing made the speech", "wake": "Nothing listens for wake words"}
    told = "; ".join(f"{name}: {reason}" for name, reason in why.items()) or "no service is set up for it"
    steps = {step for tier in tiers if (step := tier.status().next_step)}
    return VoiceError(f"{what[kind]}: {told}.", steps.pop() if len(steps) == 1 else "see `prime-spark voice engines`.")
