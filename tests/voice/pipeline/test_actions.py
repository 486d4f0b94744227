"""What may be done with the voice, by whom, and when."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from appliance.core.actions import ActionRegistry
from appliance.core.catalog.voice import voice_actions
from appliance.core.dispatch import Dispatcher
from appliance.core.model import Actor, Role
from appliance.core.voice.kept import wav
from appliance.core.voice.model import Outcome, Stage
from appliance.errors import (
    AbsentError,
    ActionError,
    ConfirmationRequiredError,
    ConflictError,
    InvalidArgumentsError,
    NotAuthorizedError,
    NotFoundError,
    SoundError,
)
from tests.voice.detect.speech import pcm, said
from tests.voice.pipeline.conftest import Scripted, Speaking
from tests.voice.pipeline.rig import Rig

VIEWER, OPERATOR, ADMIN = (Actor(role.name, role, "console") for role in Role)
ALL = {
    "status", "listen", "cancel", "mute", "say", "ask", "transcribe", "devices", "record", "play", "engines", "privacy",
    "ledger", "parameters", "tune", "utterances", "recordings", "forget", "phrases",
}  # fmt: skip


class Rows:
    """The audit of these tests (dispatch.AuditSink)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    async def record(self, actor: Actor, action: str, args: dict[str, Any], outcome: str, detail: str) -> None:
        self.rows.append((action, outcome))


@asynccontextmanager
async def doing(speaking: Speaking, **settings: Any) -> AsyncIterator[tuple[Rig, Dispatcher]]:
    """A voice, and what carries actions out on it."""
    async with speaking(**settings) as rig:
        registry = ActionRegistry()
        registry.add(*voice_actions(rig.service))
        yield rig, Dispatcher(registry, Rows())


async def test_all_actions_are_there(speaking: Speaking) -> None:
    async with doing(speaking, enabled="no") as (_, does):
        assert {action.name for action in does.registry} == {f"voice.{verb}" for verb in ALL}
        keys = {action.name: action.shortcut for action in does.registry if action.shortcut}
    assert keys == {"voice.listen": "l", "voice.cancel": "."}


@pytest.mark.parametrize("name", ["mute", "say", "record", "tune", "transcribe", "utterances", "recordings", "play", "ledger"])
async def test_a_viewer_may_not(speaking: Speaking, name: str) -> None:
    async with doing(speaking, enabled="no") as (_, does):
        with pytest.raises(NotAuthorizedError):
            await does.invoke(f"voice.{name}", {}, VIEWER)


async def test_the_cloud_needs_an_admin_and_a_yes_and_the_way_back_neither(speaking: Speaking) -> None:
    async with doing(speaking, enabled="no") as (rig, does):
        with pytest.raises(NotAuthorizedError):
            await does.invoke("voice.privacy", {"mode": "cloud"}, OPERATOR, confirm=True)
        with pytest.raises(ConfirmationRequiredError):
            await does.invoke("voice.privacy", {"mode": "cloud"}, ADMIN)
        assert rig.status.privacy == "edge-only"
        await does.invoke("voice.privacy", {"mode": "cloud"}, ADMIN, confirm=True)
        assert rig.status.privacy == "cloud"
        await does.invoke("voice.privacy", {"mode": "edge-only"}, OPERATOR)
        assert rig.status.privacy == "edge-only"


@pytest.mark.parametrize(
    ("name", "args"), [("listen", {}), ("record", {}), ("parameters", {}), ("tune", {"name": "AGCONOFF", "value": 1})]
)
async def test_what_needs_a_microphone_says_that_there_is_none(speaking: Speaking, name: str, args: dict[str, Any]) -> None:
    async with doing(speaking, enabled="no") as (_, does):
        with pytest.raises(AbsentError) as told:
            await does.invoke(f"voice.{name}", args, ADMIN)
    assert told.value.next_step


async def test_one_at_a_time(speaking: Speaking) -> None:
    async with doing(speaking) as (rig, does):
        await rig.at(Stage.idle)
        first = asyncio.create_task(does.invoke("voice.listen", {}, VIEWER))
        await rig.at(Stage.listening)
        for name, args in (("listen", {}), ("say", {"text": "one"})):
            with pytest.raises(ConflictError):
                await does.invoke(f"voice.{name}", args, ADMIN)
        await does.invoke("voice.cancel", {}, OPERATOR)
        assert (await first).outcome is Outcome.cancelled
        await does.invoke("voice.mute", {"muted": True}, OPERATOR)
        with pytest.raises(ConflictError, match="muted"):
            await does.invoke("voice.listen", {}, VIEWER)


async def test_asking_acts_with_the_role_of_whoever_asks(speaking: Speaking, script: Scripted) -> None:
    async with doing(speaking, enabled="no") as (rig, does):
        await does.invoke("voice.ask", {"text": "restart the gateway"}, VIEWER)
        await does.invoke("voice.ask", {"text": "restart the gateway"}, ADMIN)
        assert rig.cards.out.pcm == [], "nobody wanted it aloud"
    assert [actor for _, actor in script.talker.heard] == [VIEWER, ADMIN]
    assert script.made == 2, "two people share one conversation"


async def test_a_recording_is_recognised_whatever_its_rate(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("what is the battery level")
    sound = pcm(said("what is the battery level"))
    async with doing(speaking, enabled="no") as (_, does):
        for rate in (16000, 8000):
            data = base64.b64encode(wav(sound, rate)).decode()
            found = await does.invoke("voice.transcribe", {"data": data}, OPERATOR)
            assert found.text == "what is the battery level"
    first, second = script.hearing.lengths
    assert second == pytest.approx(2 * first, rel=0.01)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({}, InvalidArgumentsError),
        ({"data": "no base64!"}, InvalidArgumentsError),
        ({"data": base64.b64encode(b"no sound").decode()}, SoundError),
        ({"file": "/nowhere/at-all.wav"}, NotFoundError),
        ({"file": "/", "data": "AAAA"}, InvalidArgumentsError),
    ],
    ids=["nothing", "no-base64", "no-sound", "no-file", "both"],
)
async def test_a_bad_recording_is_refused(speaking: Speaking, args: dict[str, Any], error: type[ActionError]) -> None:
    async with doing(speaking, enabled="no") as (_, does):
        with pytest.raises(error):
            await does.invoke("voice.transcribe", args, OPERATOR)


async def test_saying_returns_when_it_was_heard(speaking: Speaking) -> None:
    async with doing(speaking, enabled="no") as (rig, does):
        told = await does.invoke("voice.say", {"text": "One. Two."}, OPERATOR)
        assert "espeak" in told["engine"]
        assert told["seconds"] > 0.5
        rig.cards.out.problem = AbsentError("There is no output device.", "plug one in.")
        with pytest.raises(AbsentError, match="There is no output device"):
            await does.invoke("voice.say", {"text": "One."}, OPERATOR)
