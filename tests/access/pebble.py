"""Pebble, an ACME authority for tests (scripts/setup.sh builds it), with a name server that leads every name to loopback."""

from __future__ import annotations

import json
import shutil
import socket
import socketserver
import struct
import threading
from pathlib import Path

from tests.servers.child import Child
from tests.servers.kafka_security import Authority
from tests.support import capability, free_ports

ROOT = Path(__file__).parents[2]


def program() -> str:
    """Its path; skips the test where it is not there, see capability."""
    own = ROOT / ".pebble" / "pebble"
    found = str(own) if own.exists() else shutil.which("pebble")
    capability(found is not None, "Pebble")
    return str(found)


class _Answers(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """Questions over TCP, each behind its length (RFC 1035, section 4.2.2)."""
        while size := self.rfile.read(2):
            reply = answered(self.rfile.read(int.from_bytes(size)))
            self.wfile.write(len(reply).to_bytes(2) + reply)


class Names:
    """A name server (RFC 1035) that answers 127.0.0.1 for every name, over TCP, in a thread of its own."""

    def __init__(self) -> None:
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Answers)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def answered(question: bytes) -> bytes:
    """A record for A, none for others."""
    end = question.index(b"\0", 12) + 5
    kind = struct.unpack("!H", question[end - 4 : end - 2])[0]
    records = 1 if kind == 1 else 0
    head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, records, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + bytes([127, 0, 0, 1])
    return head + question[12:end] + record * records


class Pebble:
    """One authority.

    Args:
        path: Folder of its own.
        http_port: Where it asks for proofs.
        days: Validity of what it signs.
    """

    def __init__(self, path: Path, http_port: int, days: float = 90) -> None:
        path.mkdir()
        self.authority = Authority(path / "authority")
        pem = self.authority.issue("pebble")
        port, control = free_ports(2)
        self.directory = f"https://127.0.0.1:{port}/dir"
        profile = {"description": "of the test", "validityPeriod": int(days * 86400)}
        settings = {
            "listenAddress": f"127.0.0.1:{port}", "managementListenAddress": f"127.0.0.1:{control}",
            "certificate": str(pem), "privateKey": str(pem), "httpPort": http_port, "tlsPort": 1,
            "ocspResponderURL": "", "externalAccountBindingRequired": False, "domainBlocklist": ["blocked.example.org"],
            "retryAfter": {"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa", "profiles": {"default": profile},
        }  # fmt: skip
        config = path / "pebble.json"
        config.write_text(json.dumps({"pebble": settings}))
        self._names, self._port = Names(), port
        self.child = Child(path / "pebble.log")
        command = [program(), "-config", str(config), "-dnsserver", self._names.address]
        env = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_CHAIN_LENGTH": "1", "PEBBLE_WFE_NONCEREJECT": "0"}  # it refuses at random
        self.child.spawn(command, self._serves, timeout=60, env=env)

    def _serves(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def close(self) -> None:
        """Stop both."""
        self.child.kill()
        self._names.close()
