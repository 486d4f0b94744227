"""Sending signed commands to other devices, with a key of this appliance's own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from appliance.core.events import new_id, rfc3339
from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.core.streams import signing
from appliance.core.streams.commands import LARGEST, TYPE
from appliance.core.streams.kafka_once import OnceProducer, UnansweredError
from appliance.core.streams.model import Message, Priority
from appliance.core.streams.topics import COMMANDS
from appliance.errors import InvalidArgumentsError, StoreError, StreamError

KEY = "commands.key"


class Issuer:
    """Signs as this device.

    Args:
        device_id: The name that receivers know this key by.
        secrets: Has the key; it is made when it is first wanted.
        clock: For times.
    """

    def __init__(self, device_id: str, secrets: Secrets, clock: Clock) -> None:
        self._device_id = device_id
        self._secrets = secrets
        self._clock = clock

    def public_key(self) -> str:
        """Base64, as commands.issuers wants it; blocks. Raises StoreError."""
        return signing.public_half(self._key())

    def _key(self) -> bytes:
        key = self._secrets.get_or_create(KEY)
        if len(key) != 32:
            raise StoreError(
                f"The secret {KEY} has {len(key)} bytes, not the 32 of an Ed25519 key.", "remove it; a new one is made."
            )
        return key

    async def send(
        self,
        producer: OnceProducer,
        device: str,
        action: str,
        args: dict[str, Any],
        seconds: float,
        reply_to: str,
        *,
        confirm: bool,
    ) -> str:
        """Sign a command and bring it to Kafka; returns its id.

        Raises:
            LinkDownError: It was not sent: a command does not wait, it would come when nobody expects it any more. Or no
                answer came: then the message says until when it may still arrive.
            StreamError: The broker refuses it.
            InvalidArgumentsError: It cannot be signed, or is too large.
        """
        now = self._clock.wall()
        data: dict[str, Any] = {
            "action": action, "args": args, "issued_by": self._device_id, "expires_at": rfc3339(now + seconds),
            "confirm": confirm,
        }  # fmt: skip
        if reply_to:
            data["reply_to"] = reply_to
        command_id = new_id()
        envelope: dict[str, Any] = {
            "v": 1, "id": command_id, "timestamp": rfc3339(now), "source": "edge", "device_id": device, "type": TYPE,
            "data": data,
        }  # fmt: skip
        try:
            body = msgspec.json.encode(signing.sign(envelope, self._key()))
        except StreamError as error:
            raise InvalidArgumentsError(error.message, error.next_step) from error
        if len(body) > LARGEST:
            raise InvalidArgumentsError(
                f"The command has {len(body)} bytes; {LARGEST} are the most.", "give smaller arguments."
            )
        message = Message(command_id, COMMANDS, device.encode(), body, Priority.critical, now)
        try:
            await producer.send_once(message)
        except UnansweredError as error:
            until = datetime.fromtimestamp(now + seconds, UTC).strftime("%H:%M:%S")
            told = f"It is not known whether the command went out: {error.message}"
            told = f"{told} It may have arrived, and be obeyed until {until} UTC."
            raise UnansweredError(told, f"look for {command_id} in cloud.commands before sending it again.") from error
        return command_id
