"""The client's side of attaching: it hands its terminal to the running appliance and waits (see session.attach).

It imports neither Textual nor the services, so that a second `prime-spark` is on the screen at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from appliance.session.escapes import RESTORE
from appliance.session.tty import RawMode, window_size

KEPT = ("TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE")
"""What the appliance is told of this terminal's environment."""
GRACE = 3
"""Seconds that the appliance has to close the console when this process is asked to end."""


def attach(address: str, environ: Mapping[str, str], shell: str = "") -> int:
    """Hand this process's terminal to the running appliance until its console ends; returns the exit code.

    Args:
        address: The appliance's console socket.
        environ: This process's environment.
        shell: Name of a node: a shell there rather than a console.

    Raises:
        OSError: Nobody listens there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(address)
        raw = RawMode(sys.stdin.fileno())
        raw.enter()
        try:
            _on_signals(sock)
            hello = {"environ": {key: environ[key] for key in KEPT if key in environ}, "shell": shell}
            with contextlib.suppress(BrokenPipeError):  # refused before we spoke: the reason is read below
                socket.send_fds(sock, [_line(hello)], [sys.stdin.fileno(), sys.stdout.fileno()])
            end = _last_word(sock)
            if end is None:
                os.write(sys.stdout.fileno(), RESTORE.encode())
                reason = "error: the appliance ended without closing this console.\nnext: start it again: prime-spark"
                end = {"end": reason}
        finally:
            raw.leave()
    for text in (end["end"], end.get("note")):
        if text:
            print(text, file=sys.stderr)  # noqa: T201
    return int(end.get("status") or (1 if end["end"] else 0))


def _line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _on_signals(sock: socket.socket) -> None:
    def on_size(*_: object) -> None:
        columns, rows = window_size(sys.stdout.fileno())
        with contextlib.suppress(OSError):  # the console ended meanwhile
            sock.sendall(_line({"columns": columns, "rows": rows}))

    def on_end(*_: object) -> None:
        signal.alarm(GRACE)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)

    def on_late(*_: object) -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    signal.signal(signal.SIGWINCH, on_size)
    signal.signal(signal.SIGTERM, on_end)
    signal.signal(signal.SIGALRM, on_late)


def _last_word(sock: socket.socket) -> dict[str, Any] | None:
    """Wait for the end: its "end" is "" where the console was closed, or a reason; None where nobody said."""
    said = b""
    with contextlib.suppress(ConnectionError):  # it did not read all that we sent
        while data := sock.recv(4096):
            said += data
    try:
        end = json.loads(said)
        return {**end, "end": str(end["end"])}
    except (ValueError, KeyError, TypeError):
        return None
