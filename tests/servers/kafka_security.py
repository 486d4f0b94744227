"""Certificates and passwords for a Kafka of the test's own, made when it starts."""

from __future__ import annotations

import secrets
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Security = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]  # as Kafka and aiokafka write them
Listener = Literal[Security, "PROXIED"]  # PROXIED is a second PLAINTEXT, for a proxy that makes the network fail
SECURED: tuple[Security, ...] = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISM = "SCRAM-SHA-512"  # PLAIN and SCRAM-SHA-256 are offered too
LIFE = timedelta(days=1)
MAY_SIGN = x509.KeyUsage(
    digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


class Authority:
    """A certificate authority with files in `directory`: ca.pem, and for each name issued NAME.pem (key, then chain)."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self._certificate = (
            self._build(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(MAY_SIGN, True)
        )
        self.path = directory / "ca.pem"
        self.path.write_bytes(self._signed(self._certificate))

    def _build(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)  # Python 3.13 asks for both
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        return builder.serial_number(x509.random_serial_number()).not_valid_before(now - LIFE).not_valid_after(now + LIFE)

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> Path:
        """A file with a new key and its certificate for 127.0.0.1 and localhost, whose common name is `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._build(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key())
        here = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))])
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = self.directory / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes(*form) + self._signed(builder.add_extension(here, False)) + self.path.read_bytes())
        return path


@dataclass(frozen=True)
class Access:
    """What a client needs, and what a broker is told of it.

    Args:
        authority: that signed the broker's certificate.
        username: of the one user.
        password: a new one for each Access.
    """

    authority: Authority
    username: str = "appliance"
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    def client(self, security: Security) -> dict[str, Any]:
        """Keyword arguments of aiokafka's clients, without bootstrap_servers."""
        arguments: dict[str, Any] = {"security_protocol": security}
        if security.endswith("SSL"):
            arguments["ssl_context"] = ssl.create_default_context(cafile=str(self.authority.path))
        if security.startswith("SASL"):
            arguments["sasl_mechanism"] = MECHANISM
            arguments |= {"sasl_plain_username": self.username, "sasl_plain_password": self.password}
        return arguments

    def broker(self) -> dict[str, str]:
        """Settings of a broker: TLS with client certificates wanted and not required, PLAIN and SCRAM."""
        login = "org.apache.kafka.common.security"
        user = f'username="{self.username}" password="{self.password}" user_{self.username}="{self.password}"'
        settings = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.authority.issue("broker")),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.path),
            "listener.name.ssl.ssl.client.auth": "requested",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        }
        for listener in ("sasl_plaintext", "sasl_ssl"):
            name = f"listener.name.{listener}"
            settings[f"{name}.plain.sasl.jaas.config"] = f"{login}.plain.PlainLoginModule required {user};"
            for hashing in ("256", "512"):
                settings[f"{name}.scram-sha-{hashing}.sasl.jaas.config"] = f"{login}.scram.ScramLoginModule required;"
        return settings

    def format_options(self) -> list[str]:
        """Options of StorageTool format that make the user known before the first start."""
        user = f"[name={self.username},password={self.password}]"
        return [part for hashing in ("256", "512") for part in ("--add-scram", f"SCRAM-SHA-{hashing}={user}")]
