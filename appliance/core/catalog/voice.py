"""Actions on the voice: listen, say, ask; what hears and answers; what may leave the house, and what did."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.figures import counted
from appliance.core.model import Role
from appliance.core.voice.model import EngineStatus, Reply, SoundDevice, Transcript, Utterance, VoiceStatus

if TYPE_CHECKING:
    from appliance.core.voice.service import VoiceService

LONG = 600.0
"""Seconds that an answer, a model's too, may take until its last word was heard."""
TEXT = 4000
BASE64 = 88 * 2**20
"""Characters of a recording of 64 MiB."""


class Listening(Params):
    """Push to talk."""

    seconds: float | None = Field(None, ge=1, le=60, description="How long speech is waited for; else voice.listen_seconds")


class Muting(Params):
    """Whether the microphone hears."""

    muted: bool = Field(description="Yes: it hears nothing, also after a restart")


class Saying(Params):
    """Words."""

    text: str = Field(min_length=1, max_length=TEXT, description="What to say")


class Asking(Params):
    """Words, as if they had been spoken."""

    text: str = Field(min_length=1, max_length=TEXT, description="What would be said")
    aloud: bool = Field(False, description="Say the answer too")


class Transcribing(Params):
    """A recording."""

    file: str = Field("", max_length=4096, description="Path of a recording on this machine")
    data: str = Field(
        "", max_length=BASE64, description="A recording in base64: WAV, FLAC, MP3, Ogg or M4A, up to five minutes"
    )


class Recording(Params):
    """A test recording."""

    seconds: float = Field(5.0, ge=0.5, le=30, description="How long")


class Playing(Params):
    """A recording."""

    key: str = Field("", max_length=200, description="Key of a kept one; empty for the test recording")


class Privacy(Params):
    """What may leave the house."""

    mode: Literal["edge-only", "cloud"] = Field(description="edge-only: nothing; cloud: services of the cloud may be asked")


class Tuning(Params):
    """A parameter of the microphone array."""

    name: str = Field(min_length=1, max_length=40, description="Its name, as voice parameters has it")
    value: float = Field(description="Its value")


class Newest(Params):
    """How many."""

    limit: int = Field(100, ge=1, le=1000, description="Most rows")


class Forgetting(Params):
    """Kept sound."""

    key: str = Field(min_length=1, max_length=200, description="Key of a recording, or all")


def voice_actions(service: VoiceService) -> list[Action]:
    """All of the voice. Nothing of it is loaded before one is called."""
    return [*_talking(service), *_recordings(service), *_parts(service), *_privacy(service)]


def _talking(service: VoiceService) -> list[Action]:
    async def status(_: Invocation, __: NoParams) -> VoiceStatus:
        return service.status()

    async def listen(call: Invocation, params: Listening) -> Utterance:
        return await service.desk.listen(call.actor, params.seconds)

    async def cancel(_: Invocation, __: NoParams) -> dict[str, bool]:
        return await service.desk.cancel()

    async def mute(_: Invocation, params: Muting) -> dict[str, bool]:
        return await service.desk.mute(muted=params.muted)

    async def say(_: Invocation, params: Saying) -> dict[str, Any]:
        return await service.desk.say(params.text)

    async def ask(call: Invocation, params: Asking) -> Reply:
        return await service.desk.ask(params.text, call.actor, aloud=params.aloud)

    # no audit rows: what is said is nobody's business; what is done by it has rows of its own
    own = functools.partial(Action, query=True)
    return [
        own("voice.status", "Show what the voice hears, does and can do", status, role=Role.viewer, brief=_stage),
        own("voice.listen", "Listen now, as if its name had been said", listen, Listening, Role.viewer, timeout=LONG,
            shortcut="l", brief=_heard, positional=("seconds",)),
        own("voice.cancel", "End what the voice does now, and be silent", cancel, shortcut=".", brief=_cancelled),
        Action("voice.mute", "Have the microphone hear nothing, or hear again", mute, Muting, positional=("muted",),
               brief=lambda told: "the microphone is muted" if told["muted"] else "the microphone hears"),
        own("voice.say", "Say something aloud", say, Saying, timeout=LONG, positional=("text",)),
        own("voice.ask", "Ask or command in words, as if they had been spoken", ask, Asking, Role.viewer, timeout=LONG,
            positional=("text",), brief=lambda reply: reply.text),
    ]  # fmt: skip


def _stage(status: VoiceStatus) -> str:
    return f"voice: {status.stage.value}"


def _heard(one: Utterance) -> str:
    return f"{one.words or 'nothing was heard'}: {one.reply or one.outcome.value}"


def _cancelled(told: dict[str, bool]) -> str:
    return "ended" if told["cancelled"] else "nothing was under way"


def _recordings(service: VoiceService) -> list[Action]:
    async def transcribe(_: Invocation, params: Transcribing) -> Transcript:
        return await service.desk.transcribe(params.file, params.data)

    async def record(_: Invocation, params: Recording) -> dict[str, float]:
        return await service.desk.record(params.seconds)

    async def play(_: Invocation, params: Playing) -> dict[str, float]:
        return await service.desk.play(params.key)

    async def recordings(_: Invocation, __: NoParams) -> Any:
        return await service.desk.recordings()

    async def forget(_: Invocation, params: Forgetting) -> dict[str, int]:
        return await service.desk.forget(params.key)

    own = functools.partial(Action, query=True)
    return [
        own("voice.transcribe", "Turn a recording into text", transcribe, Transcribing, timeout=LONG, positional=("file",),
            brief=lambda found: found.text or "no words"),
        Action("voice.record", "Record the microphone for a test", record, Recording, timeout=60.0, positional=("seconds",)),
        own("voice.play", "Play the test recording, or a kept one", play, Playing, timeout=LONG, positional=("key",)),
        own("voice.recordings", "List the kept sound of utterances", recordings,
            brief=lambda found: counted(len(found), "recording")),
        Action("voice.forget", "Forget the kept sound of one utterance, or of all", forget, Forgetting, dangerous=True,
               confirm_text="The sound ({key}) is deleted for good.", positional=("key",)),
    ]  # fmt: skip


def _parts(service: VoiceService) -> list[Action]:
    async def devices(_: Invocation, __: NoParams) -> tuple[SoundDevice, ...]:
        return await service.desk.devices()

    async def engines(_: Invocation, __: NoParams) -> tuple[EngineStatus, ...]:
        return await service.desk.engines()

    async def parameters(_: Invocation, __: NoParams) -> Any:
        return await service.desk.parameters()

    async def tune(_: Invocation, params: Tuning) -> dict[str, Any]:
        return await service.desk.tune(params.name, params.value)

    async def utterances(_: Invocation, __: NoParams) -> tuple[Utterance, ...]:
        return service.desk.utterances()

    async def phrases(_: Invocation, __: NoParams) -> Any:
        return await service.desk.phrases()

    seen = functools.partial(Action, query=True, role=Role.viewer)
    return [
        seen("voice.devices", "List microphones and speakers", devices, brief=lambda found: counted(len(found), "device")),
        seen("voice.engines", "Look at all engines of the voice now", engines, timeout=60.0,
             brief=lambda found: counted(len(found), "engine")),
        seen("voice.parameters", "Show the parameters of the microphone array", parameters),
        Action("voice.tune", "Set a parameter of the microphone array", tune, Tuning, positional=("name", "value")),
        seen("voice.utterances", "Show the newest utterances with their timings", utterances, role=Role.operator,
             brief=lambda found: counted(len(found), "utterance")),
        seen("voice.phrases", "Show what can be said", phrases, timeout=60.0,
             brief=lambda found: counted(len(found), "command")),
    ]  # fmt: skip


def _privacy(service: VoiceService) -> list[Action]:
    async def privacy(call: Invocation, params: Privacy) -> dict[str, str]:
        return await service.desk.privacy(params.mode, call.actor)

    async def ledger(_: Invocation, params: Newest) -> dict[str, Any]:
        return await service.desk.ledger(params.limit)

    told = "Sound and words may leave the house from now on: services with place = cloud are asked."
    return [
        Action("voice.privacy", "Set whether sound and words may leave the house", privacy, Privacy, dangerous=True,
               confirm_text=told, safe=_stays, positional=("mode",), brief=lambda done: f"privacy: {done['privacy']}"),
        Action("voice.ledger", "Show what sound and words left the house", ledger, Newest, query=True, positional=("limit",),
               brief=lambda found: f"{found['totals'].total_bytes} bytes of sound"),
    ]  # fmt: skip


def _stays(params: Privacy) -> bool:
    """Whether nothing leaves the house by it."""
    return params.mode == "edge-only"
