"""Releases signed with a key of their own, and a server on loopback that gives them as they should or should not be given."""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from appliance.core.lifecycle.update.source import SIGNATURE, SUMS, Access
from tests.support import needs_program


@dataclass
class Maker:
    """Makes releases in a directory.

    Attributes:
        home: Where keys and releases lie.
        secret: The key that signs.
    """

    home: Path
    secret: Path

    @property
    def key(self) -> Path:
        """The public half."""
        return self.secret.with_suffix(".pub")

    @property
    def access(self) -> Access:
        """How its releases are read."""
        return Access(self.key)

    def release(self, *names: str, folder: str = "release", size: int = 3 << 20, sums: str = "") -> Path:
        """Write bundles with their signed list; the directory."""
        root = self.home / folder
        root.mkdir(exist_ok=True)
        for name in names:
            (root / name).write_bytes(content(name, size))
        lines = "".join(f"{hashlib.sha256(content(name, size)).hexdigest()}  {name}\n" for name in names)
        (root / SUMS).write_text(lines + sums)
        self.sign(root)
        return root

    def sign(self, root: Path) -> None:
        """Sign the list of a directory."""
        minisign("-S", "-s", str(self.secret), "-m", str(root / SUMS), "-x", str(root / SIGNATURE))


def maker(home: Path, name: str = "maker") -> Maker:
    """Somebody with a key."""
    made = Maker(home, home / f"{name}.key")
    minisign("-G", "-W", "-p", str(made.key), "-s", str(made.secret))
    return made


def minisign(*args: str) -> None:
    """Run it."""
    subprocess.run([needs_program("minisign"), *args], stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)


def content(name: str, size: int) -> bytes:
    """What a bundle of that name holds: as good as any noise, and the same each time."""
    return hashlib.shake_256(name.encode()).digest(size)


def bundle(version: str, arch: str = "arm64") -> str:
    """Its name."""
    return f"prime-spark-{version}-{arch}.raucb"


@dataclass
class Manners:
    """How the server behaves.

    Attributes:
        cut: Bytes of a bundle after which the connection breaks; None for never.
        lie: Bytes that it promises more than there are, or fewer.
        ranges: Whether it knows ranges.
        shift: Bytes by which it gets a range wrong.
        chunked: Gives no length.
        packed: Says that it packs what it gives.
        stall: Held until it is set before a bundle's first byte.
        status: Answers with this instead; 0 for none.
        redirect: Where it sends on to.
    """

    cut: int | None = None
    lie: int = 0
    ranges: bool = True
    shift: int = 0
    chunked: bool = False
    packed: str = ""
    stall: threading.Event | None = None
    status: int = 0
    redirect: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, range) of each question."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    manners: Manners

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""

    def do_HEAD(self) -> None:
        self._give()

    def do_GET(self) -> None:
        self._give()

    def _give(self) -> None:
        manners, wanted = self.manners, self.headers.get("range", "")
        manners.asked.append((self.command, self.path, wanted))
        path = self.root / self.path.lstrip("/")
        if manners.redirect or manners.status or not path.is_file():
            self.send_response(302 if manners.redirect else manners.status or 404)
            self.send_header("location", manners.redirect)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self._file(path.read_bytes(), wanted, is_bundle=path.suffix == ".raucb")

    def _file(self, body: bytes, wanted: str, *, is_bundle: bool) -> None:
        manners, start = self.manners, 0
        if manners.ranges and wanted:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("content-length", "0")
                self.end_headers()
                return
            self.send_response(206)
            first = start + manners.shift
            self.send_header("content-range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("last-modified", "Sun, 22 Nov 2026 08:00:00 GMT")
        if manners.packed:
            self.send_header("content-encoding", manners.packed)
        if manners.chunked:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(len(body) - start + (manners.lie if is_bundle else 0)))
        self.end_headers()
        if self.command == "GET":
            self._body(body, start, is_bundle=is_bundle)

    def _body(self, body: bytes, start: int, *, is_bundle: bool) -> None:
        manners, end = self.manners, len(body)
        if is_bundle and manners.stall is not None:
            manners.stall.wait(30)
        if is_bundle and manners.cut is not None:
            end = min(end, start + manners.cut)
        given = body[start:end]
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(given), given) if manners.chunked else given)
            if manners.chunked and end == len(body):
                self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # whoever asked went away, as some tests want
        self.close_connection = self.close_connection or end < len(body) or bool(manners.lie)


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked may hang up; anything else is told."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Server:
    """Gives a directory over HTTP, or HTTPS.

    Args:
        root: The directory.
        certificate: File with certificate and key; None for plain HTTP.
    """

    def __init__(self, root: Path, certificate: Path | None = None) -> None:
        self.manners = Manners()
        handler = type("Handler", (_Handler,), {"root": root, "manners": self.manners})
        self._server = _Quiet(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.scheme = "https" if certificate else "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Of the directory."""
        return f"{self.scheme}://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """End it."""
        if self.manners.stall is not None:
            self.manners.stall.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Dripper:
    """Gives one byte at a time, for ever: a server that is there and as good as gone.

    Args:
        size: That it promises.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Of it."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                other, _ = self._socket.accept()
            except OSError:
                return  # closed: the test has ended
            with other:
                self._drip(other)

    def _drip(self, other: socket.socket) -> None:
        try:
            other.recv(4096)
            other.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: {self._size}\r\n\r\n".encode())
            while not self._ended.wait(0.01):
                other.sendall(b"x")
        except OSError:
            return  # it was hung up on, as it should be

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def certificate(home: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody else trusts, with its key in the same file."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = home / "certificate.pem"
    path.write_bytes(made.public_bytes(pem) + plain)
    return path
