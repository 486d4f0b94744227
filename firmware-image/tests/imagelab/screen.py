"""What somebody sees on a terminal: pyte fed with the bytes that come, whichever way they come."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyte

KEYS = {
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "backspace": "\x7f",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "f1": "\x1bOP",
    "ctrl+c": "\x03",
    "ctrl+d": "\x04",
}
"""Keys by name, as an xterm sends them."""
LOG_LIMIT = 40_000_000
"""Bytes of a recording that are kept in memory; what comes later is shown and not recorded."""


class NotSeenError(AssertionError):
    """What was awaited did not come; says what the screen showed instead."""


class Terminal(pyte.Screen):  # type: ignore[misc]
    """A screen whose answers to questions (what are you, where is the cursor) go back to whoever asked."""

    answer: Callable[[bytes], None] | None = None

    def write_process_input(self, data: str) -> None:
        """Send what a real terminal would answer."""
        if self.answer is not None:
            self.answer(data.encode())


class Screen:
    """A terminal's screen and everything it ever showed.

    Args:
        send: Takes what is typed.
        columns: Width in cells.
        lines: Height in cells.
    """

    def __init__(self, send: Callable[[bytes], None], columns: int = 80, lines: int = 24) -> None:
        self.terminal = Terminal(columns, lines)
        self.terminal.answer = send
        self._send = send
        self._stream = pyte.ByteStream(self.terminal)
        self._changed = threading.Condition()
        self._began = time.monotonic()
        self._record: list[tuple[float, bytes]] = []
        self.log = bytearray()
        """Everything that came, as it came."""
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Show some bytes; nothing at all means that no more will come."""
        with self._changed:
            if data:
                self._stream.feed(data)
                if len(self.log) < LOG_LIMIT:
                    self._record.append((time.monotonic() - self._began, data))
                    self.log += data
            else:
                self.ended = True
            self._changed.notify_all()

    def keys(self, *names: str) -> None:
        """Press keys: names of KEYS, or text that is typed as it is."""
        for name in names:
            self._send(KEYS.get(name, name).encode())

    def text(self) -> str:
        """What it shows now, one line each."""
        with self._changed:
            return "\n".join(self.terminal.display)

    def wait_for_text(self, *texts: str, limit: float = 300.0) -> str:
        """The screen as soon as it shows one of these. Raises NotSeenError after `limit` seconds or at the end."""
        ends = time.monotonic() + limit
        with self._changed:
            while True:
                shown = "\n".join(self.terminal.display)
                if any(text in shown for text in texts):
                    return shown
                if self.ended or not self._changed.wait(max(0.0, ends - time.monotonic())):
                    why = "the terminal was closed" if self.ended else f"not within {limit:g} s"
                    raise NotSeenError(
                        f"{why}: {' or '.join(texts)!r}; the screen shows\n{shown}\nand before that\n{self.tail()}"
                    )

    def wait_for_log(self, text: str, limit: float = 300.0, *, since: int = 0) -> int:
        """Where the text ended in what came (bytes from the start), also where it scrolled by. Raises NotSeenError."""
        ends = time.monotonic() + limit
        with self._changed:
            while (found := self.log.find(text.encode(), since)) < 0:
                if self.ended or not self._changed.wait(max(0.0, ends - time.monotonic())):
                    raise NotSeenError(f"{text!r} did not come within {limit:g} s; the last that came is\n{self.tail()}")
        return found + len(text)

    def tail(self, count: int = 2000) -> str:
        """The last bytes as text."""
        return self.log[-count:].decode(errors="replace")

    def save(self, file: Path) -> None:
        """Write the recording in asciinema's second form, which plays in any terminal."""
        head = {"version": 2, "width": self.terminal.columns, "height": self.terminal.lines}
        with self._changed:
            rows = [json.dumps(head)] + [json.dumps([at, "o", data.decode(errors="replace")]) for at, data in self._record]
        file.write_text("\n".join(rows) + "\n", encoding="utf-8")
