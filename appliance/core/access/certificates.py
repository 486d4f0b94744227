"""The certificates that the API shows: the operator's own, or one of the appliance's authority, kept fresh; and beside it one
of a public authority, for whoever asks for its names.
"""

from __future__ import annotations

import logging
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.core.access.authority import Authority, CertificateInfo, describe
from appliance.core.ports import Clock
from appliance.errors import ConfigError, StoreError

log = logging.getLogger(__name__)

WARN_DAYS, CA_WARN_DAYS = 14, 180
"""Days before the end of a certificate, and of the authority, from which it is warned of."""
DAY = 86400.0
Pem = tuple[bytes, bytes]
"""A certificate with its chain, and its key."""


@dataclass(frozen=True)
class _Shown:
    context: ssl.SSLContext
    pair: Pem
    names: frozenset[str]
    ends: float


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
        public: Gives certificate and key of a public authority (ACME), which whoever asks for one of its names is shown;
            None where there are none.
    """

    def __init__(
        self, authority: Authority, clock: Clock, names: Callable[[], list[str]], cert_file: Path | None,
        key_file: Path | None, client_ca_file: Path | None, scratch: Path, public: Callable[[], Pem | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._authority, self._clock, self.names = authority, clock, names
        self._cert_file, self._key_file, self._client_ca = cert_file, key_file, client_ca_file
        self._scratch, self._public = scratch, public
        self._context: ssl.SSLContext | None = None
        self._loaded: Pem | None = None
        self._shown: _Shown | None = None
        self._problem = ""
        self._lock = threading.Lock()

    def context(self) -> ssl.SSLContext:
        """A context of TLS 1.2 or newer with the present certificate; always the same. Raises ConfigError, StoreError."""
        if self._context is None:
            context = self._empty()
            pair = self._pair()
            self._load(context, pair)
            self._loaded = pair
            self._show_public()
            context.sni_callback = self._choose
            self._context = context
        else:
            self.renew()
        return self._context

    def renew(self) -> bool:
        """Bring newer certificates into the context; whether there was one. What cannot be used changes nothing: trouble."""
        if self._context is None:
            return False
        public = self._show_public()
        try:
            pair = self._pair()
            if pair != self._loaded:
                self._load(self._empty(), pair)  # tried where nobody sees it: a pair that does not fit ends all handshakes
                self._load(self._context, pair)
        except (ConfigError, StoreError) as error:
            if error.message != self._problem:
                log.warning("the certificate stays as it was: %s", error.message)
            self._problem = error.message
            return public
        new, self._loaded, self._problem = pair != self._loaded, pair, ""
        return new or public

    def _choose(self, connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        """Called by OpenSSL in a handshake: whoever asks for a public name is shown that certificate while it holds."""
        shown = self._shown
        if shown is not None and name is not None and name.lower() in shown.names and self._clock.wall() < shown.ends:
            connection.context = shown.context

    def _show_public(self) -> bool:
        """Take up the certificate of a public authority; whether it is a new one. One that cannot be used changes nothing."""
        try:
            pair = self._public()
            if pair is None or (self._shown is not None and pair == self._shown.pair):
                return False
            context, told = self._empty(), describe(pair[0], own=False)
            self._load(context, pair)
        except (ConfigError, StoreError) as error:
            log.warning("the certificate of the public authority is not shown: %s", error.message)
            return False
        self._shown = _Shown(context, pair, frozenset(name.lower() for name in told.names), told.ends)
        return True

    def _empty(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self._client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(self._client_ca)
            except OSError as error:
                raise ConfigError(f"{self._client_ca} cannot be used: {error}.", "set api.client_ca_file.") from error
        return context

    def info(self) -> CertificateInfo:
        """The certificate that is shown, or would be. Raises ConfigError, StoreError."""
        return describe((self._loaded or self._pair())[0], own=self._cert_file is None)

    def public_info(self) -> CertificateInfo | None:
        """The certificate of a public authority; None where there is none. Raises ConfigError, StoreError."""
        pair = self._public()
        return None if pair is None else describe(pair[0], own=False)

    def left(self) -> float:
        """Days until the certificate that is shown ends; negative after it. Raises ConfigError, StoreError."""
        return (self.info().ends - self._clock.wall()) / DAY

    def trouble(self) -> str:
        """What is wrong with it, or ""."""
        found, now = self.info(), self._clock.wall()
        kept = f"; a new one cannot be used: {self._problem}" if self._problem else ""
        if now >= found.ends:
            return f"the certificate has expired{kept}"
        if now < found.begins:
            return f"the certificate is not valid yet: is the clock right?{kept}"
        if now >= found.ends - WARN_DAYS * DAY:
            return f"the certificate ends in {(found.ends - now) / DAY:.0f} days{kept}"
        if kept:
            return f"the certificate stays as it was{kept}"
        return self._authority_trouble(now) if self._cert_file is None else ""

    def _authority_trouble(self, now: float) -> str:
        left = (describe(self.ca_pem()).ends - now) / DAY
        if left > CA_WARN_DAYS:
            return ""
        return f"the authority itself ends in {left:.0f} days" if left > 0 else "the authority itself has expired"

    def remake(self) -> CertificateInfo:
        """Make a new one now. Raises ConfigError where it is the operator's own, StoreError."""
        if self._cert_file is not None:
            raise ConfigError(
                "The certificate is your own (api.cert_file).", "put the new one in its place; it is taken up by itself."
            )
        with self._lock:
            cert, _, _ = self._authority.server(self.names(), force=True)
        self.renew()
        return describe(cert)

    def ca_pem(self) -> bytes:
        """The authority's certificate. Raises StoreError."""
        with self._lock:
            return self._authority.ca_pem()

    def _pair(self) -> Pem:
        if self._cert_file is None or self._key_file is None:
            with self._lock:
                cert, key, _ = self._authority.server(self.names())
            return cert, key
        try:
            return self._cert_file.read_bytes(), self._key_file.read_bytes()
        except OSError as error:
            reason = f"The certificate cannot be read: {error.filename}: {error.strerror}."
            raise ConfigError(reason, "make api.cert_file and api.key_file readable for this user.") from error

    def _load(self, context: ssl.SSLContext, pair: Pem) -> None:
        try:
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:  # mode 0700
                files = Path(folder, "cert"), Path(folder, "key")
                for file, value in zip(files, pair, strict=True):
                    file.write_bytes(value)
                context.load_cert_chain(*files, password=_no_password)
        except (OSError, ValueError) as error:
            raise ConfigError(f"The certificate or its key cannot be used: {error}.", "see `prime-spark tls show`.") from error


def _no_password() -> str:
    """Of a key: nobody sits at a terminal to type one."""
    raise ValueError("the key needs a password; give one without")
