"""Hands log records to a thread that writes them, so that a slow disk or a slow terminal delays nobody who logs."""

from __future__ import annotations

import copy
import logging
import logging.handlers
import queue
import threading

CAPACITY = 10_000
"""Records that wait at most; further ones are dropped, counted and told."""
CLOSING = 2.0
"""Seconds in which what waits is written at the end."""


class LogQueue(logging.handlers.QueueHandler):
    """A handler that other handlers stand behind, each called in the writing thread only."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(capacity)
        super().__init__(self._waiting)
        self._behind: tuple[logging.Handler, ...] = ()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def add(self, handler: logging.Handler) -> None:
        """Let one more handler write."""
        self._behind = (*self._behind, handler)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """A copy whose message no longer depends on its arguments; formatting is left to the writing thread."""
        prepared = copy.copy(record)
        prepared.msg, prepared.args = record.getMessage(), None
        return prepared

    def enqueue(self, record: logging.LogRecord) -> None:
        """Take a record, or count it where too many wait (called by logging, under this handler's lock)."""
        try:
            if self._dropped:
                self._waiting.put_nowait(_told(self._dropped))
                self._dropped = 0
            self._waiting.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, for up to CLOSING seconds; then close the handlers behind."""
        if self._thread.is_alive():
            try:
                self._waiting.put(None, timeout=CLOSING)
            except queue.Full:
                self._behind = ()  # the disk hangs: what waits is lost, and its handlers are left to it
            self._thread.join(CLOSING)
        if not self._thread.is_alive():
            for handler in self._behind:
                handler.close()
        super().close()

    def _write(self) -> None:
        while (record := self._waiting.get()) is not None:
            for handler in self._behind:
                if record.levelno >= handler.level:
                    handler.handle(record)


def _told(dropped: int) -> logging.LogRecord:
    text = f"{dropped} log lines were dropped: the disk or the terminal is slow"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
