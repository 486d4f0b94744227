"""Actions on the streams: how they are, tails, the outbox, dead letters, signed commands."""

from __future__ import annotations

import asyncio
import functools
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.model import Role
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.core.streams.issuing import Issuer
from appliance.core.streams.letterbox import Letterbox
from appliance.core.streams.model import DeadLetter, StreamsStatus, Tailed, TopicStatus
from appliance.core.streams.service import StreamService
from appliance.core.streams.topics import may_reply_on
from appliance.errors import InvalidArgumentsError, StreamError

if TYPE_CHECKING:
    from appliance.core.streams.sink_letters import SinkLetters

TopicName = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$", description="Topic")]
Moment = Annotated[
    str, Field(max_length=40, description="A time as RFC 3339 (2026-01-31T12:00:00Z), or seconds ago, such as 3600")
]


class Tailing(Params):
    """What to watch."""

    topic: TopicName
    after: int = Field(0, ge=0, description="Only messages of this tail with a higher number")
    limit: int = Field(20, ge=1, le=1000, description="Most messages; the first call begins so many before the end")
    filter: str = Field("", max_length=256, description="Only messages that contain this text, in key or value")
    regex: bool = Field(False, description="The filter is a regular expression")


class Replay(Params):
    """What to send again."""

    since: Moment
    until: Moment = "0"
    topics: list[TopicName] = Field([], max_length=20, description="Only these topics")


class Letters(Params):
    """Which dead letters."""

    limit: int = Field(100, ge=1, le=1000, description="Most letters, the newest")
    origin: str = Field("", max_length=16, description="outbox, sink, commands or updates; all where it is empty")


class LetterId(Params):
    """One dead letter."""

    letter_id: str = Field(min_length=4, max_length=64, description="Id of the letter, or its last characters")


class LetterOrAll(Params):
    """One dead letter, or all."""

    letter_id: str = Field(min_length=3, max_length=64, description="Id of the letter, or its last characters, or all")


class Sending(Params):
    """A command for another device."""

    device: str = Field(min_length=1, max_length=64, pattern=r"^([A-Za-z0-9._-]+|\*)$", description="Device, or * for all")
    action: str = Field(min_length=3, max_length=128, description="Action, such as service.restart")
    args: str = Field("{}", max_length=100_000, description="Its arguments as a JSON object")
    seconds: float = Field(60.0, ge=1, le=86400, description="How long it is good for")
    reply_to: str = Field("", max_length=249, description="Topic for the answer, such as cloud.replies")
    confirm: bool = Field(False, description="Confirm what the action may ask to be confirmed")


def stream_actions(service: StreamService, state: LiveState, clock: Clock) -> list[Action]:
    """Looking, and the outbox."""

    async def status(_: Invocation, __: NoParams) -> StreamsStatus:
        await service.show()
        found = state.get(Section.streams).value
        if not isinstance(found, StreamsStatus):
            raise StreamError("The streams were not started yet.", "look at Services.")
        return found

    async def topics(_: Invocation, __: NoParams) -> list[TopicStatus]:
        return list((await status(_, __)).topics)

    async def tail(_: Invocation, params: Tailing) -> list[Tailed]:
        _ready = service.connected  # absent is told as what it is
        return await service.tails.read(params.topic, params.after, params.limit, params.filter, is_regex=params.regex)

    async def pause(_: Invocation, __: NoParams) -> dict[str, Any]:
        await service.outbox.pause()
        return {"paused": True}

    async def resume(_: Invocation, __: NoParams) -> dict[str, Any]:
        await service.outbox.resume()
        return {"paused": False}

    async def replay(_: Invocation, params: Replay) -> dict[str, Any]:
        since, until = moment(params.since, clock.wall()), moment(params.until, clock.wall())
        if since >= until:
            raise InvalidArgumentsError("Nothing lies between since and until.", "give since before until.")
        return {"events": await service.outbox.replay(since, until, params.topics), "since": since, "until": until}

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("streams.status", "Show the link to Kafka, topics, lags, the outbox and commands", status),
        query("streams.topics", "List the topics with their rates, and what differs from the contract", topics),
        query(
            "streams.tail",
            "Show the newest messages of a topic",
            tail,
            params=Tailing,
            positional=("topic",),
            role=Role.operator,
        ),
        Action("streams.pause", "Send nothing to Kafka until resumed; events wait", pause),
        Action("streams.resume", "Go on sending to Kafka", resume),
        Action("streams.replay", "Send events of the past again, with their ids", replay, params=Replay, positional=("since",)),
    ]


def letter_actions(service: StreamService, sink: SinkLetters | None = None) -> list[Action]:
    """Dead letters: the outbox's, and the sink's where an analytics database is configured."""
    box = Letterbox(lambda: service.outbox.letters, sink)

    async def listing(_: Invocation, params: Letters) -> list[DeadLetter]:
        return await box.list(params.limit, params.origin)

    async def one(_: Invocation, params: LetterId) -> DeadLetter:
        place = await box.find(params.letter_id)
        return await place.shelf.get(place.letter_id)

    async def retry(_: Invocation, params: LetterOrAll) -> dict[str, Any]:
        retried, kept = await box.retry(params.letter_id)
        return {"retried": retried, "kept": kept}

    async def discard(_: Invocation, params: LetterOrAll) -> dict[str, Any]:
        return {"discarded": await box.discard(params.letter_id)}

    async def look_up(params: LetterOrAll) -> None:
        await box.look_up(params.letter_id)

    query = functools.partial(Action, query=True, role=Role.operator)
    return [
        query("streams.dead-letters", "List messages that could not be sent or used", listing, params=Letters),
        query("streams.dead-letter", "Show one of them whole", one, params=LetterId, positional=("letter_id",)),
        Action(
            "streams.retry", "Send a dead letter again", retry, params=LetterOrAll, positional=("letter_id",), timeout=120.0
        ),
        Action(
            "streams.discard", "Throw a dead letter away", discard, params=LetterOrAll, positional=("letter_id",),
            dangerous=True, confirm_text="Dead letters to throw away: {letter_id}. What is in them is lost then.",
            look_up=look_up, timeout=120.0,
        ),
    ]  # fmt: skip


def command_actions(service: StreamService, issuer: Issuer, device_id: str) -> list[Action]:
    """Signed commands to others."""

    async def send(_: Invocation, params: Sending) -> dict[str, Any]:
        args = arguments(params.args)
        if params.reply_to and not may_reply_on(params.reply_to):
            raise InvalidArgumentsError(f"No command is answered on {params.reply_to}.", "give a topic cloud.… or agents.…")
        command_id = await issuer.send(
            service.connected, params.device, params.action, args, params.seconds, params.reply_to, confirm=params.confirm
        )
        return {"command_id": command_id, "device": params.device, "action": params.action, "reply_to": params.reply_to}

    async def public_key(_: Invocation, __: NoParams) -> dict[str, Any]:
        key = await asyncio.to_thread(issuer.public_key)
        section = f'[commands.issuers."{device_id}"]\npublic_key = "{key}"\nrole = "operator"'
        return {"issuer": device_id, "public_key": key, "configure_elsewhere": section}

    return [
        Action(
            "streams.send-command", "Send a signed command to another device", send, params=Sending, role=Role.admin,
            dangerous=True, confirm_text="Have {device} carry out {action} {args}?", positional=("device", "action"),
        ),
        Action("streams.public-key", "Show the key that others check this one's commands with", public_key, role=Role.admin),
    ]  # fmt: skip


def arguments(text: str) -> dict[str, Any]:
    """A JSON object. Raises InvalidArgumentsError."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgumentsError(f"args is no JSON: {error}.", 'give an object, such as {"name": "telemetry"}.') from error
    if not isinstance(found, dict):
        raise InvalidArgumentsError("args is no JSON object.", 'give an object, such as {"name": "telemetry"}.')
    return found


def moment(text: str, now: float) -> float:
    """A time: RFC 3339 with its zone, or seconds ago. Raises InvalidArgumentsError."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return now - float(text)
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentsError(f"{text!r} is no time.", "write 2026-01-31T12:00:00Z, or seconds ago.") from error
    raise InvalidArgumentsError(f"{text!r} does not say its zone.", "end it with Z for UTC.")
