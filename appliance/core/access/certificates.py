"""The certificate that the API shows: the operator's own, or one of the appliance's authority, kept fresh."""

from __future__ import annotations

import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from appliance.core.access.authority import Authority, CertificateInfo, describe
from appliance.core.ports import Clock
from appliance.errors import ConfigError

WARN_DAYS = 14
"""Days before the end of an own certificate from which it is warned of."""


class Certificates:
    """All methods block for some milliseconds, and may be called from any thread.

    Args:
        authority: The appliance's.
        clock: Whose wall clock the end of a certificate goes by.
        names: Names and addresses of this machine, the first one first.
        cert_file: The operator's certificate, or None.
        key_file: Its key.
        client_ca_file: Authority of clients, where they must show a certificate.
        scratch: Private directory for the moment in which OpenSSL reads a key.
    """

    def __init__(
        self, authority: Authority, clock: Clock, names: Callable[[], list[str]], cert_file: Path | None,
        key_file: Path | None, client_ca_file: Path | None, scratch: Path,
    ) -> None:  # fmt: skip
        self._authority, self._clock, self.names = authority, clock, names
        self._cert_file, self._key_file, self._client_ca = cert_file, key_file, client_ca_file
        self._scratch = scratch
        self._context: ssl.SSLContext | None = None
        self._loaded = b""
        self._lock = threading.Lock()

    def context(self) -> ssl.SSLContext:
        """A context of TLS 1.2 or newer with the present certificate; always the same. Raises ConfigError, StoreError."""
        if self._context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            if self._client_ca is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                try:
                    context.load_verify_locations(self._client_ca)
                except OSError as error:
                    raise ConfigError(f"{self._client_ca} cannot be used: {error}.", "set api.client_ca_file.") from error
            self._load(context)
            self._context = context
        else:
            self.renew()
        return self._context

    def renew(self) -> bool:
        """Bring a newer certificate into the context; whether there was one. Raises ConfigError, StoreError."""
        return self._context is not None and self._load(self._context)

    def info(self) -> CertificateInfo:
        """The present certificate. Raises ConfigError, StoreError."""
        return describe(self._pair()[0], own=self._cert_file is None)

    def trouble(self) -> str:
        """What is wrong with it, or ""."""
        found, now = self.info(), self._clock.wall()
        if now >= found.ends:
            return "the certificate has expired"
        if now < found.begins:
            return "the certificate is not valid yet: is the clock right?"
        if now >= found.ends - WARN_DAYS * 86400:
            return f"the certificate ends in {(found.ends - now) / 86400:.0f} days"
        return ""

    def remake(self) -> CertificateInfo:
        """Make a new one now. Raises ConfigError where it is the operator's own, StoreError."""
        if self._cert_file is not None:
            raise ConfigError(
                "The certificate is your own (api.cert_file).", "put the new one in its place; it is taken up by itself."
            )
        with self._lock:
            self._authority.server(self.names(), force=True)
        self.renew()
        return self.info()

    def ca_pem(self) -> bytes:
        """The authority's certificate. Raises StoreError."""
        with self._lock:
            return self._authority.ca_pem()

    def _pair(self) -> tuple[bytes, bytes]:
        if self._cert_file is None or self._key_file is None:
            with self._lock:
                cert, key, _ = self._authority.server(self.names())
            return cert, key
        try:
            return self._cert_file.read_bytes(), self._key_file.read_bytes()
        except OSError as error:
            reason = f"The certificate cannot be read: {error.filename}: {error.strerror}."
            raise ConfigError(reason, "make api.cert_file and api.key_file readable for this user.") from error

    def _load(self, context: ssl.SSLContext) -> bool:
        cert, key = self._pair()
        if cert + key == self._loaded:
            return False
        try:
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:  # mode 0700
                files = Path(folder, "cert"), Path(folder, "key")
                for file, value in zip(files, (cert, key), strict=True):
                    file.write_bytes(value)
                context.load_cert_chain(*files)
        except OSError as error:
            raise ConfigError(f"The certificate or its key cannot be used: {error}.", "see `prime-spark tls show`.") from error
        self._loaded = cert + key
        return True
