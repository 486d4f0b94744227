"""The appliance's own certificate authority, and the server certificate that it signs (X.509, RFC 5280)."""

from __future__ import annotations

import datetime as dt
import ipaddress
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

log = logging.getLogger(__name__)

CA_KEY, CA_CERT, KEY, CERT = "tls.ca_key", "tls.ca", "tls.key", "tls.cert"
"""Names of the secrets."""
BORN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
"""No certificate ends sooner than if it were made then: a machine without a clock of its own may start in 1970."""
CA_DAYS, DAYS, RENEW_DAYS = 3650, 397, 60
"""Validity of the authority and of the server's certificate; days before its end at which that one is renewed."""
DAY = dt.timedelta(days=1)


class CertificateInfo(msgspec.Struct, frozen=True):
    """A certificate as people see it; times are seconds since the epoch."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    begins: float
    ends: float
    fingerprint: str
    """SHA-256, hexadecimal with colons."""
    own: bool = True
    """Signed by the appliance's authority."""


@dataclass(frozen=True)
class _Issuer:
    certificate: x509.Certificate
    key: EllipticCurvePrivateKey


class Authority:
    """Makes, keeps and renews both. All methods block for some milliseconds.

    Args:
        secrets: Where keys and certificates lie, mode 0600.
        clock: Whose wall clock they go by.
        device_id: Name of this appliance.
    """

    def __init__(self, secrets: Secrets, clock: Clock, device_id: str) -> None:
        self._secrets, self._clock, self._device = secrets, clock, device_id

    def ca_pem(self) -> bytes:
        """The authority's certificate; made where there is none. Raises StoreError."""
        return _pem(self._issuer().certificate)

    def server(self, names: list[str], *, force: bool = False) -> tuple[bytes, bytes, bool]:
        """The server's certificate chain and key, PEM, and whether they are new.

        Args:
            names: Host names and addresses that it must hold.
            force: Make a new one in any case.

        Raises:
            StoreError: They cannot be read or written.
        """
        issuer = self._issuer()
        cert, key = self._secrets.get(CERT), self._secrets.get(KEY)
        if not force and cert is not None and key is not None and not self._stale(cert, key, issuer, names):
            return cert, key, False
        cert, key = self._sign(issuer, names)
        self._secrets.put(KEY, key)
        self._secrets.put(CERT, cert)
        log.info("a new certificate was made for %s", ", ".join(names))
        return cert, key, True

    def client(self, name: str) -> tuple[bytes, bytes]:
        """A certificate chain and key, PEM, by which a client of that name proves itself; the same until it is renewed.

        Args:
            name: Of a machine; the certificate's common name, which brokers take for the user.

        Raises:
            StoreError: They cannot be read or written.
        """
        issuer, where = self._issuer(), f"tls.client.{name}"
        kept = self._secrets.get(where)
        if kept is not None and not self._stale(kept, kept, issuer, [name]):
            return _split(kept)
        cert, key = self._sign(issuer, [name], name)
        self._secrets.put(where, key + cert)  # in one: never the key of another certificate
        log.info("a new certificate was made for the client %s", name)
        return cert, key

    def _stale(self, cert: bytes, key: bytes, issuer: _Issuer, names: list[str]) -> bool:
        """Whether it ends soon, is not begun, lacks a name, is by another authority, or does not fit its key."""
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            found = x509.load_pem_x509_certificate(cert)
            found.verify_directly_issued_by(issuer.certificate)
            if load_pem_private_key(key, None).public_key() != found.public_key():
                return True
        except (ValueError, TypeError, InvalidSignature):
            return True
        now = self._now()
        ends = found.not_valid_after_utc
        return not found.not_valid_before_utc <= now < ends - RENEW_DAYS * DAY or not set(names) <= set(_names(found))

    def _issuer(self) -> _Issuer:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        cert, key = self._secrets.get(CA_CERT), self._secrets.get(CA_KEY)
        if cert is None or key is None:
            if cert is not None or key is not None:
                missing = CA_KEY if key is None else CA_CERT
                raise StoreError(f"Of the certificate authority, {missing} is missing.", "restore it, or remove both.")
            return self._found()
        try:
            loaded = load_pem_private_key(key, None)
            certificate = x509.load_pem_x509_certificate(cert)
        except ValueError as error:
            raise StoreError(f"The certificate authority is damaged: {error}.", "restore it, or remove both files.") from error
        if not isinstance(loaded, EllipticCurvePrivateKey):
            raise StoreError("The certificate authority has a key of another kind.", "restore it, or remove both files.")
        return _Issuer(certificate, loaded)

    def _found(self) -> _Issuer:
        """Found a new authority."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Prime Spark {self._device}"[:64])])
        builder = self._builder(name, name, CA_DAYS).public_key(key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(ca=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        issuer = _Issuer(_signed(builder, key), key)
        self._secrets.put(CA_KEY, _key_pem(key))
        self._secrets.put(CA_CERT, _pem(issuer.certificate))
        return issuer

    def _sign(self, issuer: _Issuer, names: list[str], client: str = "") -> tuple[bytes, bytes]:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, (client or self._device)[:64])])
        builder = self._builder(subject, issuer.certificate.subject, DAYS).public_key(key.public_key())
        san = x509.SubjectAlternativeName([_general(name) for name in names])
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True), (_usage(ca=False), True), (san, False),
            (x509.ExtendedKeyUsage([purpose]), False), (authority, False),
        ):  # fmt: skip
            builder = builder.add_extension(extension, critical=critical)
        return _pem(_signed(builder, issuer.key)) + _pem(issuer.certificate), _key_pem(key)

    def _builder(self, subject: x509.Name, issuer: x509.Name, days: int) -> x509.CertificateBuilder:
        from cryptography import x509

        now = self._now()
        begins, ends = min(now, BORN) - DAY, max(now, BORN) + days * DAY
        begins = max(begins, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) if days == CA_DAYS else now - DAY
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(begins).not_valid_after(ends)

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(max(86400.0, self._clock.wall()), dt.UTC)


def _split(pair: bytes) -> tuple[bytes, bytes]:
    """Chain and key of what lies in one, the key first."""
    at = pair.index(b"-----BEGIN CERTIFICATE")
    return pair[at:], pair[:at]


def describe(pem: bytes, *, own: bool = True) -> CertificateInfo:
    """A certificate, the first of its chain. Raises ConfigError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        found = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise ConfigError(f"This is no certificate in PEM form: {error}.", "give one that begins with -----BEGIN.") from error
    return CertificateInfo(
        found.subject.rfc4514_string(), found.issuer.rfc4514_string(), tuple(_names(found)),
        found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp(),
        found.fingerprint(SHA256()).hex(":").upper(), own,
    )  # fmt: skip


def _names(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    hosts = found.get_values_for_type(x509.DNSName)
    return [*hosts, *(str(each) for each in found.get_values_for_type(x509.IPAddress))]


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives.hashes import SHA256

    return builder.sign(key, SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
