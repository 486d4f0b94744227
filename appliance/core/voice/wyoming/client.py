"""A Wyoming server that does a part of the work: what all kinds of it have in common."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Artifact, AsrProgram, Describe, Info, TtsProgram, WakeProgram

from appliance.core.model import Health
from appliance.core.printable import printable
from appliance.core.voice.model import EngineStatus, Place
from appliance.core.voice.wyoming.link import Link, deadline, dial
from appliance.core.voice.wyoming.wire import NONSENSE, NonsenseError
from appliance.errors import VoiceError
from appliance.settingvoice import VoiceService

T = TypeVar("T", AsrProgram, TtsProgram, WakeProgram)
PASSED = 1000
"""Events that may come before the one that is awaited."""
WORDS = {"stt": "speech to text", "tts": "text to speech", "wake": "wake words"}


class Client(Generic[T]):
    """One service, asked for one kind of work; a connection for each request.

    Args:
        name: The operator's name for it.
        settings: Where it is, and what it is asked for.
        kind: "stt", "tts" or "wake".
        wanted: Model or voice; empty for its own choice.
    """

    def __init__(self, name: str, settings: VoiceService, kind: str, wanted: str = "") -> None:
        self.name = name
        self.place = Place(settings.place)
        self.kind = kind
        self.wanted = wanted
        self._settings = settings

    async def check(self) -> EngineStatus:
        """Ask what it offers. No sound goes with that."""
        try:
            health, reason, step, model = await self._judged()
        except VoiceError as error:
            health, reason, step, model = Health.unhealthy, error.message, error.next_step, ""
        return EngineStatus(self.name, self.kind, self.place, health, reason, step, model, checked=time.time())

    async def _judged(self) -> tuple[Health, str, str, str]:
        """Health, reason, next step, model, from its own description. Raises VoiceError."""
        async with self._link() as link:
            await link.write_event(Describe().event())
            event = await awaited(link, Info.is_type)
        judged: tuple[Health, str, str, str] = parsed(lambda: self._judge(Info.from_event(event)), event)
        return judged  # its parts may have any type: the package looks at none of them

    async def close(self) -> None:
        """There is nothing to let go of: each request has its own connection."""

    @contextlib.asynccontextmanager
    async def _link(self) -> AsyncIterator[Link]:
        """A connection that lives for as long as the service may take. Raises VoiceError."""
        async with deadline(self._settings.timeout_seconds):
            link = await dial(self._settings.url, self.place)
            try:
                yield link
            finally:
                link.close()

    def _judge(self, info: Info) -> tuple[Health, str, str, str]:
        """Health, reason, next step, model."""
        programs: list[T] = getattr(info, {"stt": "asr"}.get(self.kind, self.kind))
        installed = [each for each in programs if each.installed]
        if not installed:
            told = f"it answers, and does not offer {WORDS[self.kind]}"
            return Health.unhealthy, told, f"install it there, or take {self.kind} from voice.services.{self.name}.kinds.", ""
        names = [str(each.name) for program in installed for each in models(program) if each.installed]
        if self.wanted and self.wanted not in names:
            has = printable(", ".join(names[:5]))[:200] or "none"
            return Health.degraded, f"it has no {self.wanted}, and has {has}", "name one that it has.", ""
        return Health.healthy, "answers", "", self.wanted or printable((names or [str(installed[0].name)])[0])[:100]


def models(program: AsrProgram | TtsProgram | WakeProgram) -> list[Artifact]:
    """Its models or voices."""
    return list(program.voices if isinstance(program, TtsProgram) else program.models)


async def awaited(link: Link, *wanted: Callable[[str], bool]) -> Event:
    """The next event of a wanted type; others are passed over. Raises VoiceError, also where it tells an error."""
    for _ in range(PASSED):
        event = await link.read_event()
        if any(each(event.type) for each in wanted):
            return event
        if Error.is_type(event.type):
            told = parsed(lambda event=event: Error.from_event(event), event).text  # type: ignore[misc]
            raise VoiceError(f"It refused: {printable(str(told)[:200]).rstrip('.')}.", "see its log.")
    raise NonsenseError(f"{PASSED} events that nobody asked for")


def parsed(read: Callable[[], Any], event: Event) -> Any:
    """What an event says. Raises NonsenseError where it lacks what it must have."""
    try:
        return read()
    except NONSENSE as error:
        raise NonsenseError(f"{event.type!r:.40} with {error!r:.80}") from error
