"""QEMU's machine protocol: commands with their answers, and the events that come by themselves."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any


class QmpError(Exception):
    """QEMU refused a command, or is gone."""


class Qmp:
    """A connection to a QEMU that was told to connect to us.

    Args:
        listener: The listening socket that QEMU's `-qmp` names.
        limit: Seconds that QEMU may take to connect.
    """

    def __init__(self, listener: socket.socket, limit: float = 60.0) -> None:
        listener.settimeout(limit)
        self._socket, _ = listener.accept()
        self._changed = threading.Condition()
        self._answers: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        """Everything that QEMU told by itself, oldest first."""
        self.closed = False
        """QEMU is gone."""
        threading.Thread(target=self._read, name="qmp", daemon=True).start()
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """One command's answer. Raises QmpError."""
        with self._changed:
            self._answers.clear()
            try:
                self._socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
            except OSError as error:
                raise QmpError(f"QEMU is gone: {error}") from error
            self._changed.wait_for(lambda: self._answers or self.closed, 60)
            if not self._answers:
                raise QmpError(f"QEMU did not answer {name}")
            answer = self._answers.pop()
        if "error" in answer:
            raise QmpError(f"{name}: {answer['error']['desc']}")
        return answer["return"]

    def monitor(self, line: str) -> str:
        """A line of the monitor that people use, and what it prints."""
        return str(self.command("human-monitor-command", **{"command-line": line}))

    def happened(self, name: str) -> list[dict[str, Any]]:
        """The events of one name so far, as the data of each."""
        with self._changed:
            return [each.get("data", {}) for each in self.events if each["event"] == name]

    def wait(self, name: str, limit: float, *, more_than: int = 0) -> dict[str, Any]:
        """The newest event of a name as soon as there are more than so many. Raises TimeoutError after `limit` seconds."""
        ends = time.monotonic() + limit
        with self._changed:
            while len(found := [each for each in self.events if each["event"] == name]) <= more_than:
                if self.closed or not self._changed.wait(max(0.0, ends - time.monotonic())):
                    raise TimeoutError(f"QEMU told no {name} within {limit:g} s; it told {[e['event'] for e in self.events]}")
            data: dict[str, Any] = found[-1].get("data", {})
            return data

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            try:
                for line in lines:
                    self._take(json.loads(line))
            except (OSError, ValueError):  # killed in the middle of a line
                pass
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "event" in message:
                self.events.append(message)
            elif "QMP" not in message:
                self._answers.append(message)
            self._changed.notify_all()
