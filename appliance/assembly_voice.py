"""The voice, put together from settings, spine and devices; a part of the composition root. At rest nothing is loaded."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from appliance.core.catalog.voice import voice_actions
from appliance.core.model import Severity
from appliance.core.state import Section
from appliance.core.voice.ground import Cards, Ground, Kit, Talker, Tiers
from appliance.core.voice.service import VoiceService

if TYPE_CHECKING:
    from appliance.core.actions import Action
    from appliance.core.llm.service import LlmService
    from appliance.core.memory.service import MemoryService
    from appliance.core.ports import MicrophoneArray
    from appliance.core.voice.ledger import VoiceLedger
    from appliance.runtime import Appliance

MIB = 1024 * 1024
MUTED = "voice-muted"
"""File in the data directory that stands for "muted"."""
SOUND = (
    "PATH", "HOME", "USER", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "PULSE_SERVER", "PULSE_COOKIE", "PULSE_RUNTIME_PATH",
    "PULSE_SINK", "PULSE_SOURCE",
    "PIPEWIRE_REMOTE", "PIPEWIRE_RUNTIME_DIR", "ALSA_CONFIG_PATH", "ALSA_CONFIG_DIR", "DBUS_SESSION_BUS_ADDRESS",
)  # fmt: skip
"""What programs that hear and speak are told of the environment: no secret is among it."""
Tell = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]


class _Making:
    """Makes the parts when they are asked for."""

    def __init__(self, spine: Appliance, llm: LlmService, environ: Mapping[str, str]) -> None:
        self._spine, self._llm = spine, llm
        self._settings = spine.settings.voice
        self._environ = {name: environ[name] for name in SOUND if name in environ}

    def cards(self) -> Cards:
        from appliance.hw.sound.devices import PortAudioSound

        return PortAudioSound(self._environ)

    def array(self) -> MicrophoneArray:
        from appliance.hw.sound.respeaker import ReSpeaker

        return ReSpeaker()

    def local(self) -> Any:
        from appliance.core.inference.manifest import places
        from appliance.core.voice.local.recognizer import LocalSpeechToText

        added = self._spine.paths.models
        found = next((place for place in places(None, added) if (place / "voice").is_dir()), added)
        return LocalSpeechToText(found, self._spine.clock, self._environ)

    def engines(self, kit: Kit, privacy: Callable[[], str]) -> Tiers:
        from appliance.core.voice.tiers import TieredEngines

        return TieredEngines(
            self._settings, kit.local, self._voice(), kit.ledger, self._spine.clock, privacy, self._power
        )  # fmt: skip

    def _voice(self) -> Any:
        wanted = self._settings
        if wanted.piper:
            from appliance.core.voice.local.piper import Piper

            return Piper(wanted.piper, self._environ)
        from appliance.core.voice.local.espeak import Espeak

        return Espeak(wanted.language, wanted.voice_speed, self._environ)

    def _power(self) -> str | None:
        status = self._spine.state.get(Section.power).value
        return status.routing if status is not None else None

    def dialogue(self, privacy: Callable[[], str], degraded: Callable[[], str]) -> Talker:
        from appliance.core.voice.intents import model
        from appliance.core.voice.intents.dialogue import Dialogue

        spine = self._spine
        return Dialogue(model.Ground(
            spine.dispatcher, spine.state, spine.clock, self._settings, lambda: self._llm.gateway, privacy, degraded,
            spine.settings.node.device_id,
        ))  # fmt: skip

    def ledger(self) -> VoiceLedger:
        from appliance.core.voice.ledger import VoiceLedger

        spine = self._spine
        return VoiceLedger(spine.store, spine.clock, round(self._settings.cloud_audio_mib_per_day * MIB))

    def server(self, kit: Kit) -> Any:
        """The Wyoming server; blocks while it is loaded."""
        from appliance import __version__
        from appliance.core.voice.detect.wake import WakeModels
        from appliance.core.voice.wyoming.server import Ears, WyomingServer
        from appliance.core.voice.wyoming.server import Ground as ServerGround

        wanted = self._settings
        models = WakeModels(wanted.wake_words, wanted.wake_models, wanted.wake_sensitivity)
        known = tuple(each.phrase for each in models.statuses() if not each.problem)

        def ears() -> Ears:
            return Ears(WakeModels(wanted.wake_words, wanted.wake_models, wanted.wake_sensitivity).feed, known)

        return WyomingServer(self._spine.settings.wyoming, ServerGround(
            engines=kit.engines, ears=ears if known else None, wake_words=known, version=__version__,
            language=wanted.language.partition("-")[0], voice=wanted.language, model="moonshine-tiny-en",
        ))  # fmt: skip


def build(
    spine: Appliance, memory: MemoryService, llm: LlmService, tell: Tell, keep: Callable[[str, str], Awaitable[None]],
    environ: Mapping[str, str],
) -> VoiceService:  # fmt: skip
    """At rest: nothing is loaded, and nothing is opened.

    Args:
        spine: The appliance with its spine.
        memory: Keeps sound, where that is wanted.
        llm: The gateway to language models.
        tell: Publishes an event.
        keep: Writes a setting into the configuration.
        environ: The process's environment.
    """
    make = _Making(spine, llm, environ or os.environ)
    return VoiceService(Ground(
        settings=spine.settings.voice, clock=spine.clock, state=spine.state, observer=spine.observer, note=tell,
        cards=make.cards, array=make.array, local=make.local, engines=make.engines, dialogue=make.dialogue,
        server=make.server if spine.settings.wyoming.enabled else None, ledger=make.ledger, memory=lambda: memory.memory,
        keep=keep, muted=spine.paths.data / MUTED,
    ))  # fmt: skip


def actions(service: VoiceService) -> list[Action]:
    """All."""
    return voice_actions(service)
