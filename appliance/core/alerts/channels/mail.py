"""The channel email: SMTP with STARTTLS or TLS, and a login."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

import aiosmtplib

from appliance.core.alerts.channels import rendering
from appliance.core.alerts.channels.model import DeliveryError, Notice
from appliance.core.alerts.channels.rendering import one_line
from appliance.errors import ConfigError
from appliance.settingalerts import AlertChannel

PORTS = {"tls": 465, "starttls": 587, "no": 25}
PRIORITY = {"critical": "1 (Highest)", "warning": "2 (High)", "info": "3 (Normal)"}


class Mail:
    """Sends mail (implements posting.Adapter).

    Args:
        wanted: The channel's settings.
        secret: Password of the login.
        device: This machine's name, for the subject.
        external_url: Where people look at this appliance.

    Raises:
        ConfigError: An address is none.
    """

    def __init__(self, wanted: AlertChannel, secret: str, device: str, external_url: str) -> None:
        self._wanted, self._secret, self._device, self._external_url = wanted, secret, device, external_url
        self._sender = address(wanted.sender)
        self._to = tuple(address(each) for each in wanted.to)
        self.hidden: tuple[str, ...] = (secret,)

    async def send(self, notice: Notice, delivery_id: str, wall: float) -> str:
        """Deliver a message; returns what the server answered. Raises DeliveryError."""
        letter = self.letter(notice, delivery_id, wall)
        try:
            async with asyncio.timeout(self._wanted.timeout_seconds):
                return await self._deliver(letter)
        except TimeoutError:
            told = f"{self._wanted.host} did not take it within {self._wanted.timeout_seconds:g} s"
            raise DeliveryError(told, "see whether the mail server runs; it is tried again.", retry=True) from None
        except (aiosmtplib.SMTPException, OSError, ssl.SSLError, ValueError) as error:
            raise meant(error, self._wanted.host) from None

    async def _deliver(self, letter: EmailMessage) -> str:
        wanted = self._wanted
        context = await asyncio.to_thread(ssl.create_default_context, cafile=str(wanted.ca_file) if wanted.ca_file else None)
        port = PORTS[wanted.tls] if wanted.port is None else wanted.port
        client = aiosmtplib.SMTP(
            hostname=wanted.host, port=port, timeout=wanted.timeout_seconds, use_tls=wanted.tls == "tls",
            start_tls=wanted.tls == "starttls", tls_context=None if wanted.tls == "no" else context,
            username=wanted.username or None, password=self._secret or None,
        )  # fmt: skip
        try:
            await client.connect()
            refused, answer = await client.send_message(letter)
        finally:
            client.close()
        left_out = "".join(f"; not to {name}: {code} {told}" for name, (code, told) in refused.items())
        return one_line(f"250 {answer}{left_out}", 300)

    def letter(self, notice: Notice, delivery_id: str, wall: float) -> EmailMessage:
        """The message as it is sent; each try of a delivery makes the same one, with one Message-ID."""
        letter = EmailMessage()
        letter["From"] = self._sender
        letter["To"] = self._to
        letter["Subject"] = rendering.one_line(f"[{self._device}] {rendering.title(notice)}", 240)
        letter["Date"] = format_datetime(datetime.fromtimestamp(wall, UTC))
        letter["Message-ID"] = f"<{delivery_id}@{self._sender.domain}>"
        letter["Auto-Submitted"] = "auto-generated"
        letter["X-Priority"] = PRIORITY[notice.severity.value]
        below = f"\n\n{self._external_url}" if self._external_url else ""
        letter.set_content(f"{rendering.text(notice, 100_000)}{below}\n")
        return letter

    async def close(self) -> None:
        """Each mail has a connection of its own."""


def address(text: str) -> Address:
    """An address of mail. Raises ConfigError."""
    try:
        found = Address(addr_spec=text.strip())
    except (MessageError, ValueError, IndexError) as error:
        raise ConfigError(f"{text!r} is no mail address: {error}", 'write it such as "ada@example.org".') from None
    if not found.domain or not found.username:
        raise ConfigError(f"{text!r} is no mail address", 'write it such as "ada@example.org".')
    return found


def meant(error: Exception, host: str) -> DeliveryError:
    """What a failure of SMTP means: 5xx is a refusal (RFC 5321, 4.2.1), anything else may do better later."""
    told = one_line(f"{host}: {type(error).__name__}: {error}", 300)
    if "CERTIFICATE" in str(error).upper():
        return DeliveryError(told, "set ca_file to the authority that signed its certificate; it is tried again.", retry=True)
    codes = [each.code for each in getattr(error, "recipients", ()) if hasattr(each, "code")]
    code = getattr(error, "code", None)
    codes += [code] if isinstance(code, int) else []
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return DeliveryError(told, "see username and secret of the channel.", retry=bool(codes) and codes[0] < 500)
    if isinstance(error, ValueError | aiosmtplib.SMTPNotSupported) and "STARTTLS" not in str(error).upper():
        return DeliveryError(told, "the server cannot carry this mail: see sender and to of the channel.")
    if not codes and "STARTTLS" in str(error).upper():
        return DeliveryError(told, 'the server has no STARTTLS here: set tls = "tls" and its port, or see the server.')
    if codes and all(500 <= each < 600 for each in codes):
        return DeliveryError(told, "the server refuses this mail: see sender and to of the channel.")
    return DeliveryError(told, "see whether the mail server runs and can be reached; it is tried again.", retry=True)
