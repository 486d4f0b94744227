"""Voices with scripted recognition and understanding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.core.store import Store
from appliance.core.voice.ground import Kit
from appliance.core.voice.ledger import VoiceLedger
from appliance.core.voice.local.espeak import Espeak
from appliance.core.voice.tiers import TieredEngines
from appliance.settingvoice import VoiceSettings
from tests.support import needs_program
from tests.voice.pipeline.rig import FastClock, Rig, voice
from tests.voice.pipeline.scripted import ScriptedHearing, ScriptedTalker


class Scripted:
    """What a test tells the voice."""

    def __init__(self) -> None:
        self.hearing, self.talker = ScriptedHearing(), ScriptedTalker()
        self.made = 0


Speaking = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture
def script() -> Scripted:
    return Scripted()


@pytest.fixture
def speaking(tmp_path: Path, script: Scripted) -> Speaking:
    """Starts a voice: `async with speaking(follow_up_seconds=0) as rig`."""
    needs_program("espeak-ng")

    @asynccontextmanager
    async def start(parts: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Rig]:
        wanted = VoiceSettings(**{"array": False, "tones": False, "follow_up_seconds": 0} | settings)
        store = Store(tmp_path / "state.db")
        store.open()
        clock = FastClock()

        def engines(kit: Kit, privacy: Callable[[], str]) -> TieredEngines:
            spoken = Espeak(wanted.language, wanted.voice_speed, {"PATH": "/usr/bin:/bin"})
            return TieredEngines(wanted, kit.local, spoken, kit.ledger, clock, privacy)

        def dialogue(*_: object) -> ScriptedTalker:
            script.made += 1
            return script.talker

        made = {
            "local": lambda: script.hearing, "engines": engines, "dialogue": dialogue,
            "ledger": lambda: VoiceLedger(store, clock, 1000),
        }  # fmt: skip
        try:
            async with voice(wanted, tmp_path, made | (parts or {})) as rig:
                yield rig
        finally:
            store.close()

    return start
