"""E-mail to a real SMTP server: STARTTLS, TLS, logins, refusals."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from appliance.core.alerts.channels.making import make_adapter
from appliance.core.alerts.channels.model import DeliveryError, Note, Notice
from appliance.core.model import Severity
from appliance.core.secrets import Secrets
from appliance.settingalerts import AlertChannel
from tests.support import free_port


class Mailbox:
    """What a server took, and what it refuses."""

    def __init__(self) -> None:
        self.letters: list[tuple[list[str], EmailMessage]] = []
        self.refused: dict[str, str] = {}
        self.data = ""
        self.login = True

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        if self.data:
            return self.data
        assert isinstance(envelope.content, bytes)
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(letter, EmailMessage)
        self.letters.append((envelope.rcpt_tos, letter))
        return "250 queued as 7"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"ada", b"correct horse")
        return AuthResult(success=good, handled=False)


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate of 127.0.0.1 that signs itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.org")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, private = folder / "ca.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return pem, context


@asynccontextmanager
async def serving(box: Mailbox, context: ssl.SSLContext | None, *, tls: bool = False) -> AsyncIterator[int]:
    """The server; yields its port."""
    starttls = context is not None and not tls
    make = partial(
        SMTP, box, hostname="mail.example.org", authenticator=box.authenticate if box.login else None,
        tls_context=context if starttls else None, require_starttls=starttls, auth_require_tls=starttls,
    )  # fmt: skip
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, ssl=context if tls else None)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def mail(folder: Path, port: int, **more: Any) -> Any:
    secrets = Secrets(folder / "secrets", {})
    secrets.put("good", b"correct horse\n")
    secrets.put("bad", b"wrong\n")
    given = {"host": "127.0.0.1", "port": port, "sender": "spark@example.org", "to": ("ada@example.org", "bob@example.org")}
    return make_adapter(
        AlertChannel.model_validate({"kind": "email", **given, **more}), secrets, "pc", "https://spark.example.org"
    )


def notice(summary: str = "nas is unreachable") -> Notice:
    labels = {"alertname": "node", "device": "pc", "node": "nas", "severity": "critical", "subject": "nas"}
    return Notice("mail", "r", "g", {}, (Note("node:nas", Severity.critical, labels, {"summary": summary}, 1e9),))


LOGIN = {"username": "ada", "secret": "good"}


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_mail_goes_out_encrypted_with_a_login(tmp_path: Path, tls: str) -> None:
    pem, context = certificate(tmp_path)
    box = Mailbox()
    async with serving(box, context, tls=tls == "tls") as port:
        answer = await mail(tmp_path, port, tls=tls, ca_file=pem, **LOGIN).send(
            notice("evil\r\nBcc: eve@example.org\nß"), "id-1", 1_700_000_000.0
        )
    assert "queued as 7" in answer
    ((to, letter),) = box.letters
    assert to == ["ada@example.org", "bob@example.org"]
    assert letter["Subject"] == "[pc] CRITICAL: node nas"
    assert (letter["Message-ID"], letter["X-Priority"]) == ("<id-1@example.org>", "1 (Highest)")
    assert letter["Bcc"] is None
    assert "evil Bcc: eve@example.org ß" in letter.get_content()
    assert "https://spark.example.org" in letter.get_content()


async def test_a_wrong_password_is_told_and_not_tried_again(tmp_path: Path) -> None:
    pem, context = certificate(tmp_path)
    async with serving(Mailbox(), context) as port:
        with pytest.raises(DeliveryError, match="535") as caught:
            await mail(tmp_path, port, ca_file=pem, username="ada", secret="bad").send(notice(), "id-1", 0.0)
    assert not caught.value.retry
    assert "username and secret" in caught.value.next_step
    assert "wrong" not in str(caught.value)


async def test_an_untrusted_server_gets_no_password(tmp_path: Path) -> None:
    _, context = certificate(tmp_path)
    box = Mailbox()
    async with serving(box, context) as port:
        with pytest.raises(DeliveryError, match=r"(?i)certificate") as caught:
            await mail(tmp_path, port, **LOGIN).send(notice(), "id-1", 0.0)
    assert "ca_file" in caught.value.next_step
    assert box.letters == []


async def test_a_server_without_starttls_is_not_spoken_to_in_the_clear(tmp_path: Path) -> None:
    box = Mailbox()
    async with serving(box, None) as port:
        with pytest.raises(DeliveryError, match=r"(?i)starttls") as caught:
            await mail(tmp_path, port).send(notice(), "id-1", 0.0)
    assert not caught.value.retry
    assert box.letters == []


@pytest.mark.parametrize(("data", "retry"), [("451 come again", True), ("550 go away", False)])
async def test_refusals_are_for_now_or_for_ever(tmp_path: Path, data: str, retry: bool) -> None:
    box = Mailbox()
    box.data = data
    async with serving(box, None) as port:
        with pytest.raises(DeliveryError, match=data.partition(" ")[2]) as caught:
            await mail(tmp_path, port, tls="no").send(notice(), "id-1", 0.0)
    assert caught.value.retry is retry


async def test_who_was_refused_among_several_is_told(tmp_path: Path) -> None:
    box = Mailbox()
    box.refused = {"bob@example.org": "550 no bob here"}
    async with serving(box, None) as port:
        answer = await mail(tmp_path, port, tls="no").send(notice(), "id-1", 0.0)
        assert "not to bob@example.org: 550 no bob here" in answer
        box.refused["ada@example.org"] = "550 no ada either"
        with pytest.raises(DeliveryError) as caught:
            await mail(tmp_path, port, tls="no").send(notice(), "id-1", 0.0)
    assert not caught.value.retry
    assert len(box.letters) == 1


async def test_a_dead_server_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1") as caught:
        await mail(tmp_path, free_port(), tls="no").send(notice(), "id-1", 0.0)
    assert caught.value.retry


def test_an_address_that_is_none_is_told(tmp_path: Path) -> None:
    for strange in ("ada at example", "no address", "ada@", "@example.org", ""):
        with pytest.raises(ValidationError, match="is no mail address"):
            mail(tmp_path, 25, to=(strange,))
