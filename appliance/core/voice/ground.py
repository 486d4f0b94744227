"""What the voice stands on. Whatever is heavy is made when it is first asked for."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from appliance.core.model import Actor, Role, Severity
from appliance.core.ports import Clock, Microphone, MicrophoneArray, Sound, Speaker
from appliance.core.voice.engine import Engines
from appliance.core.voice.model import Hit, Reply, Sentences, SpeakerStatus, Transcript

if TYPE_CHECKING:
    from appliance.core.memory.memory import Memory
    from appliance.core.observe.observer import Observer
    from appliance.core.state import LiveState
    from appliance.core.voice.ledger import VoiceLedger
    from appliance.settingvoice import VoiceSettings

MICROPHONE = "microphone"
"""Name of whoever is heard."""


class Cards(Sound, Protocol):
    """The sound devices, and what opens them."""

    def microphone(self, name: str, rate: int) -> Microphone:
        """One that is not open yet."""

    def speaker(self, name: str, volume: float) -> Speaker:
        """One that is not open yet."""


class Tiers(Engines, Protocol):
    """The engines, and what they need besides."""

    async def check(self) -> object:
        """Look at all of them now."""

    async def wake(self, frames: AsyncIterator[bytes], phrases: tuple[str, ...]) -> str:
        """The phrase that another machine heard, or "". Raises VoiceError."""

    async def close(self) -> None:
        """Let go of them."""


class Spotter(Protocol):
    """Hears wake words that no model knows."""

    async def spot(self, pcm: bytes, phrases: tuple[str, ...]) -> tuple[Hit, ...]:
        """How well each phrase fits the sound, best first. Raises VoiceError, AbsentError."""


class Talker(Protocol):
    """Understands; see intents.dialogue.Dialogue."""

    @property
    def expecting(self) -> str:
        """ "confirm" or "slot" where it has asked for something, else ""."""

    async def prepare(self) -> None:
        """Have the sentences ready, made anew where names have changed."""

    def sentences(self) -> Sentences:
        """What may be said now."""

    def whole(self, transcript: Transcript) -> bool:
        """Whether it is surely one complete, harmless command."""

    async def hear(
        self, transcript: Transcript, actor: Actor, on_begin: Callable[[str], None],
        on_sentence: Callable[[str], Awaitable[None]],
    ) -> Reply:  # fmt: skip
        """Understand and act."""

    async def forget(self) -> Reply | None:
        """What waited for an answer is declined."""

    def phrases(self) -> Any:
        """What can be said."""


@dataclass(frozen=True)
class Ground:
    """What the voice stands on.

    Attributes:
        settings: As the operator has them.
        clock: For times that are shown.
        state: Where the voice is shown.
        observer: Told of its work.
        note: Publishes an event: name, severity, attributes.
        cards: Makes the sound devices.
        array: Makes what a microphone array offers.
        local: Makes the recognition on this machine.
        engines: Makes the engines of the recognition on this machine, and of how much may leave the house now.
        dialogue: Makes one that understands; likewise.
        server: Makes the Wyoming server; None where none is wanted.
        ledger: Makes the ledger of what left the house.
        memory: Gives the tiered memory.
        keep: Writes a setting into the configuration. Raises ConfigError.
        muted: Mark on the disk that stands for "muted".
        now: The monotonic clock that frames have their times of.
    """

    settings: VoiceSettings
    clock: Clock
    state: LiveState
    observer: Observer
    note: Callable[[str, Severity, dict[str, Any]], Awaitable[None]]
    cards: Callable[[], Cards]
    array: Callable[[], MicrophoneArray]
    local: Callable[[], Any]
    engines: Callable[[Any, Callable[[], str]], Tiers]
    dialogue: Callable[[Callable[[], str], Callable[[], str]], Talker]
    server: Callable[[Any], Any] | None
    ledger: Callable[[], VoiceLedger]
    memory: Callable[[], Memory]
    keep: Callable[[str, str], Awaitable[None]]
    muted: Path
    now: Callable[[], float] = time.monotonic


class Kit:
    """What was made of it so far.

    Args:
        ground: Makes it.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.settings = ground.settings
        self.privacy: str = ground.settings.privacy
        """As it is now."""
        self.actor = Actor(MICROPHONE, Role(ground.settings.role), "voice")
        """Whoever is heard."""

    @functools.cached_property
    def cards(self) -> Cards:
        """The sound devices."""
        return self.ground.cards()

    @functools.cached_property
    def speaker(self) -> Speaker | None:
        """Where it speaks; None where nothing shall be said aloud."""
        name = self.settings.speaker
        return self.cards.speaker(name, self.settings.volume / 100) if name else None

    def speaker_status(self) -> SpeakerStatus | None:
        """How the speaker is; one that was not used yet is told by its setting. None where nothing shall be said aloud."""
        if self.has("speaker"):
            return self.speaker.status() if self.speaker is not None else None
        return SpeakerStatus(self.settings.speaker) if self.settings.speaker else None

    @functools.cached_property
    def local(self) -> Any:
        """The recognition on this machine."""
        return self.ground.local()

    @functools.cached_property
    def ledger(self) -> VoiceLedger:
        """What left the house."""
        return self.ground.ledger()

    @functools.cached_property
    def engines(self) -> Tiers:
        """All engines."""
        return self.ground.engines(self, lambda: self.privacy)

    @functools.cached_property
    def dialogue(self) -> Talker:
        """Understands whoever is heard."""
        return self.new_dialogue()

    def new_dialogue(self) -> Talker:
        """One more that understands."""
        return self.ground.dialogue(lambda: self.privacy, self.degraded)

    def degraded(self) -> str:
        """What does not work as it should, where engines are used at all."""
        return self.engines.degraded() if self.has("engines") else ""

    def has(self, name: str) -> bool:
        """Whether it was made already."""
        return name in self.__dict__

    async def close(self) -> None:
        """Let go of what was made; whatever is asked for later is made anew."""
        for name in ("speaker", "dialogue"):
            self.__dict__.pop(name, None)
        for name in ("engines", "local", "cards"):
            made = self.__dict__.pop(name, None)
            if made is not None:
                await made.close()
