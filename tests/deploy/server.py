#!/usr/bin/python3
"""A small HTTP service, in versions and moods. `server.py PORT VERSION FOLDER`; FOLDER/VERSION.mood says how it is now.

Moods: good; ill (health 500); liar (health 200 with a wrong body); broken (/ answers 500, health is fine); hangs (health never
answers); slow (answers after half a second). FOLDER/load has the number that /metrics tells.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, VERSION, FOLDER = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])


def read(name: str, otherwise: str) -> str:
    """A file of the folder, as it is now."""
    try:
        return (FOLDER / name).read_text().strip() or otherwise
    except FileNotFoundError:
        return otherwise


class Handler(BaseHTTPRequestHandler):
    """Answers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """By the mood of now."""
        mood, status, body = read(f"{VERSION}.mood", "good"), 200, {"version": VERSION, "port": PORT}
        if self.path == "/health":
            if mood == "hangs":
                time.sleep(30)
            status = 500 if mood == "ill" else 200
            body["status"] = "down" if mood == "liar" else "up"
        elif self.path == "/metrics":
            body["load"] = float(read("load", "0"))
        else:
            time.sleep(0.5 if mood == "slow" else 0)
            status = 500 if mood == "broken" else 200
        told = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Many at once; what is open is answered before it ends."""

    daemon_threads = False
    request_queue_size = 128

    def server_bind(self) -> None:
        """No name is looked up."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", PORT


if read(f"{VERSION}.mood", "good") == "crashes":
    sys.exit("this version ends at once")
server = Server(("127.0.0.1", PORT), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
server.serve_forever(poll_interval=0.05)
