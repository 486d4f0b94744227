"""The channels webhook (Alertmanager's payload) and ntfy (its JSON publishing)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

import msgspec

from appliance.core.alerts.channels import rendering
from appliance.core.alerts.channels.model import Notice
from appliance.core.alerts.channels.posting import Poster
from appliance.core.model import Severity
from appliance.settingalerts import AlertChannel

PRIORITIES: Mapping[Severity, int] = {Severity.info: 2, Severity.warning: 4, Severity.critical: 5}
"""Of ntfy, 1 to 5."""
TAGS: Mapping[Severity, str] = {
    Severity.info: "information_source", Severity.warning: "warning", Severity.critical: "rotating_light",
}  # fmt: skip


def signature(key: bytes, delivery_id: str, seconds: int, body: bytes) -> str:
    """HMAC-SHA-256 over id, time and body, in the form of Standard Webhooks ("v1," and base64)."""
    signed = f"{delivery_id}.{seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signing_key(secret: str) -> bytes:
    """The key of a secret: as Standard Webhooks writes it ("whsec_" and base64), else the text itself."""
    if secret.startswith("whsec_"):
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return secret.encode()


def headers_of(wanted: AlertChannel, secret: str) -> dict[str, str]:
    """What every request of a channel has: its own headers, and by which it shows who it is."""
    given = {name.lower(): value for name, value in wanted.headers.items()}
    if secret:
        given["authorization"] = f"Basic {_basic(wanted.username, secret)}" if wanted.username else f"Bearer {secret}"
    return {**given, "content-type": "application/json"}


def _basic(username: str, secret: str) -> str:
    return base64.b64encode(f"{username}:{secret}".encode()).decode()


class Webhook:
    """Posts Alertmanager's payload (implements posting.Adapter).

    Args:
        wanted: The channel's settings.
        secret: Token or password.
        signing: Text of the signing secret; empty: requests are not signed.
        external_url: Where people look at this appliance.
    """

    def __init__(self, wanted: AlertChannel, secret: str, signing: str, external_url: str) -> None:
        self._wanted = wanted
        self._headers = headers_of(wanted, secret)
        self._key = signing_key(signing) if signing else b""
        self._external_url = external_url
        self._poster = Poster(wanted.timeout_seconds, wanted.ca_file)
        self.hidden: tuple[str, ...] = (secret, signing, _basic(wanted.username, secret) if secret else "")

    async def send(self, notice: Notice, delivery_id: str, wall: float) -> str:
        """Deliver a message; returns what the server answered. Raises DeliveryError."""
        body = msgspec.json.encode(rendering.payload(notice, self._external_url))
        headers = {**self._headers, "webhook-id": delivery_id, "webhook-timestamp": str(int(wall))}
        if self._key:
            headers["webhook-signature"] = signature(self._key, delivery_id, int(wall), body)
        return await self._poster.send("POST", self._wanted.url, headers, body)

    async def close(self) -> None:
        """Let go of the client."""
        await self._poster.close()


class Ntfy:
    """Publishes to a topic of ntfy (implements posting.Adapter).

    Args:
        wanted: The channel's settings.
        secret: Token, or password of `username`.
        external_url: What a message opens where the channel sets nothing else.
    """

    def __init__(self, wanted: AlertChannel, secret: str, external_url: str) -> None:
        self._wanted = wanted
        self._headers = headers_of(wanted, secret)
        self._click = wanted.click or external_url
        self._poster = Poster(wanted.timeout_seconds, wanted.ca_file)
        self.hidden: tuple[str, ...] = (secret, _basic(wanted.username, secret) if secret else "")

    async def send(self, notice: Notice, delivery_id: str, wall: float) -> str:
        """Deliver a message; returns what the server answered. Raises DeliveryError."""
        over = not notice.firing
        told = {
            "topic": self._wanted.topic,
            "title": rendering.title(notice),
            "message": rendering.text(notice, 3800),
            "priority": 3 if over or notice.why == "test" else PRIORITIES[notice.severity],
            "tags": ["white_check_mark" if over else TAGS[notice.severity], *self._wanted.tags],
            **({"click": self._click} if self._click else {}),
        }
        headers = {**self._headers, "x-delivery-id": delivery_id}
        return await self._poster.send("POST", self._wanted.url, headers, msgspec.json.encode(told))

    async def close(self) -> None:
        """Let go of the client."""
        await self._poster.close()
