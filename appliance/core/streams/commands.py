"""Commands over Kafka: checked step by step, taken once, carried out under their issuer's role, answered, audited."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from appliance.core.bus import Bus
from appliance.core.dispatch import AuditSink, Dispatcher
from appliance.core.events import CommandReplied
from appliance.core.model import Actor, Role
from appliance.core.ports import Clock
from appliance.core.refusals import printed
from appliance.core.streams import signing
from appliance.core.streams.model import CommandStats
from appliance.core.streams.seen import ANSWERED, NEW, TAKEN, Seen
from appliance.core.streams.topics import may_reply_on
from appliance.errors import (
    ApplianceError,
    CommandRefusedError,
    ConfirmationRequiredError,
    InvalidArgumentsError,
    NotAuthorizedError,
    PreconditionError,
    StoreError,
    StreamError,
    UnknownActionError,
)
from appliance.settings import CommandSettings

LARGEST = 64 * 1024
"""Bytes of a command."""
AHEAD = 60.0
"""Seconds that an issuer's clock may be ahead of ours."""
RESULT = 256 * 1024
"""Most bytes of a result in a reply."""
UNANSWERED = 100
"""Most replies that are kept until they are on disk."""
EVERYBODY = "*"
ELSEWHERE = "not for this device"
"""The reason that is counted and not audited."""
TYPE = "command"
NOT_DONE = (
    NotAuthorizedError, ConfirmationRequiredError, PreconditionError, InvalidArgumentsError, UnknownActionError,
    CommandRefusedError,
)  # fmt: skip
"""Errors after which nothing was begun."""


class Command(NamedTuple):
    """One that is signed and for this device."""

    command_id: str
    issuer: str
    role: Role
    action: str
    args: dict[str, Any]
    issued: float
    expires: float
    reply_to: str
    confirm: bool


class Commander:
    """Takes the messages of cloud.commands.

    Args:
        settings: The group commands.
        device_id: This device.
        dispatcher: Carries out.
        seen: Remembers what was taken.
        bus: Takes the replies.
        clock: For times.
        refused: Writes a refusal (of an actor, an action, with a detail, of a kind) into the audit, limited in rate.
        audit: Told of commands that were lost with an earlier run of the appliance.
    """

    def __init__(
        self,
        settings: CommandSettings,
        device_id: str,
        dispatcher: Dispatcher,
        seen: Seen,
        bus: Bus,
        clock: Clock,
        refused: Callable[[Actor, str, str, str], Awaitable[None]],
        audit: AuditSink,
    ) -> None:
        self._settings = settings
        self._device_id = device_id
        self._dispatcher = dispatcher
        self._seen = seen
        self._bus = bus
        self._clock = clock
        self._refused = refused
        self._audit = audit
        self._ended: dict[str, CommandReplied] = {}
        """Replies that are not on disk yet."""
        self._accepted = 0
        self._counts: dict[str, int] = {}
        self._last = ("", 0.0)

    def stats(self) -> CommandStats:
        """For the Streams screen."""
        return CommandStats(accepted=self._accepted, refused=dict(self._counts), last=self._last[0], last_time=self._last[1])

    async def take(self, body: bytes, place: str = "") -> None:
        """Check, carry out and answer one message.

        Args:
            body: The message.
            place: Where it stands in its topic. A command that comes again from its own place is no replay: it was not
                committed, and only its answer is given again where it is missing.

        Raises:
            StoreError: It was not taken, because that could not be written down; the same message must come again.
        """
        actor, document = Actor("(unverified)", Role.viewer, "kafka"), {}
        try:
            document = await asyncio.to_thread(self._read, body)  # all of it is slow: parsing, canonical form, signature
            command = await asyncio.to_thread(self._check, document)
            actor = Actor(command.issuer, command.role, "kafka", f"command {command.command_id}")
            before = await self._seen.known(command.command_id, place)
            if before == NEW:
                self._in_time(command)
                await self._seen.take(command.command_id, command.expires, self._clock.wall(), place)
        except CommandRefusedError as error:
            self._count(error.reason, f"refused: {error.message}")
            if error.reason == ELSEWHERE:  # the others' orders pass by here all day; an audit of them would hide attacks
                return
            told = f"{error.message} {_claimed(document)}".strip()
            await self._refused(actor, str(_data(document).get("action", "commands"))[:64], told, error.reason)
            return
        if before == NEW:
            await self._close(await self._carry_out(command, actor))
        elif before != ANSWERED:
            await self._close(self._ended.get(command.command_id) or await self._lost(command, actor, before))

    async def _carry_out(self, command: Command, actor: Actor) -> CommandReplied:
        self._accepted += 1
        self._note(f"{command.action} by {command.issuer}")
        try:
            result = await self._dispatcher.invoke(command.action, command.args, actor, confirm=command.confirm)
        except ApplianceError as error:
            refused = isinstance(error, NOT_DONE) or (isinstance(error, StoreError) and not error.begun)
            self._note(f"{command.action} by {command.issuer}: {error.message}")
            if isinstance(error, ConfirmationRequiredError | UnknownActionError):  # the dispatcher audits the others
                await self._refused(actor, command.action, error.message, "not done")
            return self._reply(command, "refused" if refused else "failed", None, error)
        return self._reply(command, "completed", presentable(result), None)

    async def _lost(self, command: Command, actor: Actor, before: str) -> CommandReplied:
        """The answer to a command that an earlier run of the appliance took and did not answer. Raises StoreError."""
        told = "The appliance stopped meanwhile, and its result is lost."
        if before == TAKEN:
            told = "It is not known whether the command was carried out: the appliance stopped meanwhile."
            await self._audit.record(actor, command.action, {}, "failed", told)
        self._note(f"{command.action} by {command.issuer}: {told}")
        lost = StreamError(told, "look at what it should have done, and at the audit.")
        return self._reply(command, "failed" if before == TAKEN else before, None, lost)

    def _reply(self, command: Command, status: str, result: Any, error: ApplianceError | None) -> CommandReplied:
        reply = CommandReplied(
            time=self._clock.wall(), command_id=command.command_id, reply_to=command.reply_to, status=status, result=result,
            error=printed(error.message) if error else "", next_step=printed(error.next_step) if error else "",
        )  # fmt: skip
        self._ended[command.command_id] = reply
        while len(self._ended) > UNANSWERED:
            self._ended.pop(next(iter(self._ended)))
        return reply

    async def _close(self, reply: CommandReplied) -> None:
        """Write how a command ended, and answer. Raises StoreError."""
        await self._seen.note(reply.command_id, reply.status)
        if reply.reply_to:
            await self._bus.publish(reply)
        await self._seen.note(reply.command_id, ANSWERED)
        self._ended.pop(reply.command_id, None)

    def _read(self, body: bytes) -> dict[str, Any]:
        """Raises CommandRefusedError."""
        if len(body) > LARGEST:
            raise CommandRefusedError("too large", f"The message has {len(body)} bytes; {LARGEST} are the most.")
        return signing.read(body)

    def _check(self, document: dict[str, Any]) -> Command:
        """Raises CommandRefusedError."""
        if document.get("v") != 1 or document.get("type") != TYPE or isinstance(document.get("v"), bool):
            raise CommandRefusedError("wrong version", f"The message is no {TYPE} of version 1.")
        device = document.get("device_id")
        if not isinstance(device, str) or device not in {self._device_id, EVERYBODY}:
            raise CommandRefusedError(ELSEWHERE, "The command is for another device.")
        issuer = _data(document).get("issued_by")
        known = self._settings.issuers.get(issuer) if isinstance(issuer, str) else None
        if known is None or not isinstance(issuer, str):
            raise CommandRefusedError("unknown issuer", f"No issuer {str(issuer)[:64]!r} is in commands.issuers.")
        signing.verify(document, known.public_key)
        issued, expires = moment(document.get("timestamp")), moment(_data(document).get("expires_at"))
        return _command(document, issuer, Role[known.role], issued, expires)

    def _in_time(self, command: Command) -> None:
        """Raises CommandRefusedError."""
        now, issued, expires = self._clock.wall(), command.issued, command.expires
        if issued > now + AHEAD:
            raise CommandRefusedError("from the future", f"The command is dated {issued - now:.0f} s from now.")
        if expires <= now:
            raise CommandRefusedError("expired", f"The command ended {now - expires:.0f} s ago.")
        if expires - issued > self._settings.max_age_seconds:
            most = self._settings.max_age_seconds
            raise CommandRefusedError("lives too long", f"The command lives {expires - issued:.0f} s; {most:g} s are the most.")

    def _count(self, reason: str, line: str) -> None:
        self._counts[reason] = self._counts.get(reason, 0) + 1
        self._note(line)

    def _note(self, line: str) -> None:
        self._last = (line[:200], self._clock.wall())


def presentable(result: Any) -> Any:
    """A result as plain JSON; what it is instead where it is too large, or has no form in JSON."""
    try:
        body = msgspec.json.encode(result)
        plain = msgspec.json.decode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return {"unreadable": f"the result cannot be told in JSON ({type(error).__name__}); ask the appliance itself"}
    if len(body) > RESULT:
        return {"cut": f"the result has more than {RESULT} bytes; ask the appliance itself"}
    return plain


def moment(text: object) -> float:
    """Seconds since the epoch of an RFC 3339 time with its zone. Raises CommandRefusedError."""
    if isinstance(text, str):
        try:
            found = datetime.fromisoformat(text)
            if found.tzinfo is not None and math.isfinite(found.timestamp()):
                return found.timestamp()
        except (ValueError, OverflowError):
            raise CommandRefusedError("malformed", f"{text[:40]!r} is no time of RFC 3339.") from None
    raise CommandRefusedError("malformed", "timestamp and expires_at must be times of RFC 3339 with their zone.")


def _command(document: Mapping[str, Any], issuer: str, role: Role, issued: float, expires: float) -> Command:
    """Raises CommandRefusedError."""
    data, command_id = _data(document), document.get("id")
    action, args = data.get("action"), data.get("args", {})
    reply_to, confirm = data.get("reply_to", ""), data.get("confirm", False)
    if not isinstance(command_id, str) or not _is_uuid(command_id):
        raise CommandRefusedError("malformed", "The command's id is no UUID.")
    if not isinstance(action, str) or not isinstance(args, dict) or not isinstance(confirm, bool):
        raise CommandRefusedError("malformed", "action must be text, args an object, confirm true or false.")
    if not isinstance(reply_to, str) or (reply_to and not may_reply_on(reply_to)):
        raise CommandRefusedError("bad reply topic", f"No command is answered on {str(reply_to)[:64]!r}.")
    return Command(command_id.lower(), issuer, role, action, args, issued, expires, reply_to, confirm)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _data(document: Mapping[str, Any]) -> dict[str, Any]:
    data = document.get("data")
    return data if isinstance(data, dict) else {}


def _claimed(document: Mapping[str, Any]) -> str:
    """What a refused message says of itself, for the audit."""
    said = {"id": document.get("id"), "issued_by": _data(document).get("issued_by"), "device_id": document.get("device_id")}
    told = ", ".join(f"{name} {str(value)[:64]!r}" for name, value in said.items() if value is not None)
    return f"(claims: {told})" if told else ""
