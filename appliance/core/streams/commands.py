"""Commands over Kafka: checked step by step, taken once, carried out under their issuer's role, answered, audited."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from appliance.core.bus import Bus
from appliance.core.dispatch import Dispatcher
from appliance.core.events import CommandReplied
from appliance.core.model import Actor, Role
from appliance.core.ports import Clock
from appliance.core.streams import signing
from appliance.core.streams.model import CommandStats
from appliance.core.streams.seen import Seen
from appliance.core.streams.topics import may_reply_on
from appliance.errors import (
    ApplianceError,
    CommandRefusedError,
    ConfirmationRequiredError,
    InvalidArgumentsError,
    NotAuthorizedError,
    PreconditionError,
    UnknownActionError,
)
from appliance.settings import CommandSettings

LARGEST = 256 * 1024
"""Bytes of a command."""
AHEAD = 60.0
"""Seconds that an issuer's clock may be ahead of ours."""
RESULT = 256 * 1024
"""Most bytes of a result in a reply."""
EVERYBODY = "*"
TYPE = "command"
NOT_DONE = (
    NotAuthorizedError, ConfirmationRequiredError, PreconditionError, InvalidArgumentsError, UnknownActionError,
    CommandRefusedError,
)  # fmt: skip
"""Errors after which nothing was begun."""


class Command(NamedTuple):
    """One that is signed, in time and for this device."""

    command_id: str
    issuer: str
    role: Role
    action: str
    args: dict[str, Any]
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
        refused: Writes a refusal into the audit, limited in rate.
    """

    def __init__(
        self,
        settings: CommandSettings,
        device_id: str,
        dispatcher: Dispatcher,
        seen: Seen,
        bus: Bus,
        clock: Clock,
        refused: Callable[[Actor, str, str], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._device_id = device_id
        self._dispatcher = dispatcher
        self._seen = seen
        self._bus = bus
        self._clock = clock
        self._refused = refused
        self._accepted = 0
        self._counts: dict[str, int] = {}
        self._last = ("", 0.0)

    def stats(self) -> CommandStats:
        """For the Streams screen."""
        return CommandStats(accepted=self._accepted, refused=dict(self._counts), last=self._last[0], last_time=self._last[1])

    async def take(self, body: bytes) -> None:
        """Check, carry out and answer one message.

        Raises:
            StoreError: It was not taken, because that could not be written down; the same message must come again.
        """
        actor, document = Actor("(unverified)", Role.viewer, "kafka"), {}
        try:
            document = self._read(body)
            command = self._check(document)
            actor = Actor(command.issuer, command.role, "kafka", f"command {command.command_id}")
            await self._seen.take(command.command_id, command.expires, self._clock.wall())
        except CommandRefusedError as error:
            self._count(error.reason, f"refused: {error.message}")
            told = f"{error.message} {_claimed(document)}".strip()
            await self._refused(actor, str(_data(document).get("action", "commands"))[:64], told)
            return
        await self._carry_out(command, actor)

    async def _carry_out(self, command: Command, actor: Actor) -> None:
        self._accepted += 1
        self._note(f"{command.action} by {command.issuer}")
        try:
            result = await self._dispatcher.invoke(command.action, command.args, actor, confirm=command.confirm)
        except ApplianceError as error:
            refused = isinstance(error, NOT_DONE)
            self._note(f"{command.action} by {command.issuer}: {error.message}")
            if isinstance(error, ConfirmationRequiredError | UnknownActionError):  # the dispatcher audits the others
                await self._refused(actor, command.action, error.message)
            await self._reply(command, "refused" if refused else "failed", None, error)
        else:
            await self._reply(command, "completed", result, None)

    async def _reply(self, command: Command, status: str, result: Any, error: ApplianceError | None) -> None:
        if not command.reply_to:
            return
        plain = msgspec.to_builtins(result)
        if len(msgspec.json.encode(plain)) > RESULT:
            plain = {"cut": f"the result has more than {RESULT} bytes; ask the appliance itself"}
        reply = CommandReplied(
            time=self._clock.wall(), command_id=command.command_id, reply_to=command.reply_to, status=status, result=plain,
            error=error.message if error else "", next_step=error.next_step if error else "",
        )  # fmt: skip
        await self._bus.publish(reply)

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
            raise CommandRefusedError("not for this device", "The command is for another device.")
        issuer = _data(document).get("issued_by")
        known = self._settings.issuers.get(issuer) if isinstance(issuer, str) else None
        if known is None or not isinstance(issuer, str):
            raise CommandRefusedError("unknown issuer", f"No issuer {str(issuer)[:64]!r} is in commands.issuers.")
        signing.verify(document, known.public_key)
        expires = self._times(document)
        return _command(document, issuer, Role[known.role], expires)

    def _times(self, document: dict[str, Any]) -> float:
        """When the command ends. Raises CommandRefusedError."""
        now = self._clock.wall()
        issued, expires = moment(document.get("timestamp")), moment(_data(document).get("expires_at"))
        if issued > now + AHEAD:
            raise CommandRefusedError("from the future", f"The command is dated {issued - now:.0f} s from now.")
        if expires <= now:
            raise CommandRefusedError("expired", f"The command ended {now - expires:.0f} s ago.")
        if expires - issued > self._settings.max_age_seconds:
            most = self._settings.max_age_seconds
            raise CommandRefusedError("lives too long", f"The command lives {expires - issued:.0f} s; {most:g} s are the most.")
        return expires

    def _count(self, reason: str, line: str) -> None:
        self._counts[reason] = self._counts.get(reason, 0) + 1
        self._note(line)

    def _note(self, line: str) -> None:
        self._last = (line[:200], self._clock.wall())


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


def _command(document: Mapping[str, Any], issuer: str, role: Role, expires: float) -> Command:
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
    return Command(command_id.lower(), issuer, role, action, args, expires, reply_to, confirm)


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
