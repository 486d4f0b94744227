"""Keys that sign bundles: the operator's, or one for development that is made in the cache and said so."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from imagekit.errors import BuildError
from imagekit.shell import say

WARNING = (
    "WARNING: signed with the development key of this build directory ({place}). Machines that run this image take updates"
    " from whoever has that directory. For releases give your own: KEY=FILE CERT=FILE"
)


@dataclass(frozen=True)
class Signer:
    """Key and certificate in PEM."""

    key: Path
    cert: Path
    keyring: Path
    """What machines trust: goes into the image."""
    own: bool
    """The operator's, not one for development."""


def signer(cache: Path, key: Path | None, cert: Path | None, keyring: Path | None = None) -> Signer:
    """The operator's key, or the development key of that cache.

    Args:
        cache: Where the development key lies, in `keys`.
        key: The operator's private key.
        cert: Its certificate.
        keyring: What machines trust, if that is more than the certificate.

    Raises:
        BuildError: Only one of both is given, or a file is missing.
    """
    if (key is None) != (cert is None):
        raise BuildError("A key and its certificate belong together.", "give both, KEY=FILE and CERT=FILE, or none of them.")
    if key is not None and cert is not None:
        for file in (key, cert, *([keyring] if keyring else [])):
            if not file.is_file():
                raise BuildError(f"{file} is not there.", "name the files of your key and certificate in PEM.")
        return Signer(key, cert, keyring or cert, own=True)
    place = cache / "keys"
    made = Signer(place / "development.key.pem", place / "development.cert.pem", place / "development.cert.pem", own=False)
    if not (made.key.is_file() and made.cert.is_file()):
        _make(made)
    return made


def warn(signed: Signer) -> None:
    """Say it loudly where a development key was used."""
    if not signed.own:
        say(WARNING.format(place=signed.key.parent))


def _make(wanted: Signer) -> None:
    """A certificate that is valid from long ago: a Raspberry Pi without a clock's battery starts in the past."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Prime Spark development key")])
    utc = dt.UTC
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2000, 1, 1, tzinfo=utc)).not_valid_after(dt.datetime(2999, 1, 1, tzinfo=utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    wanted.key.parent.mkdir(parents=True, exist_ok=True)
    wanted.key.touch(mode=0o600)
    plain = serialization.NoEncryption()
    wanted.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    wanted.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
