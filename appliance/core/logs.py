"""The appliance's own log: lines in a bounded ring for the console, and on disk or standard error for later."""

from __future__ import annotations

import itertools
import logging
import logging.handlers
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from appliance.core.logqueue import LogQueue
from appliance.core.model import LogLine
from appliance.core.printable import printable

TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
RING = 2000
"""Lines kept in memory."""


class LogRing(logging.Handler):
    """Keeps the newest lines; readers in any thread ask for what is new."""

    def __init__(self, capacity: int = RING) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=capacity)
        self._count = itertools.count(1)
        self._listeners: tuple[Callable[[], None], ...] = ()
        self.last_seq = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record (called by logging, in any thread, under the handler's lock)."""
        self.last_seq = next(self._count)
        self._lines.append(LogLine(self.last_seq, record.created, record.levelname, record.name, self._text(record)))
        for listener in self._listeners:
            try:
                listener()
            except Exception:  # noqa: BLE001 logging must not fail whoever logs; told as logging tells such faults
                self.handleError(record)

    def _text(self, record: logging.LogRecord) -> str:
        try:
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                message = f"{message} ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        except Exception as error:  # noqa: BLE001 as above; the line says where to look
            self.handleError(record)
            return f"a message that cannot be made ({type(error).__name__}), from {record.filename} line {record.lineno}"
        return message

    def lines(self, after: int = 0, limit: int = RING) -> list[LogLine]:
        """The newest `limit` lines with a sequence number above `after`, oldest first."""
        self.acquire()
        try:
            found = [line for line in self._lines if line.seq > after]
        finally:
            self.release()
        return found[-limit:]

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` on each new line, in the logging thread; returns what ends it."""
        self._listeners = (*self._listeners, listener)

        def end() -> None:
            self._listeners = tuple(other for other in self._listeners if other is not listener)

        return end


def configure(level: str, form: str, file: Path | None, *, stderr: bool) -> LogRing:
    """Send the root logger to a ring, and, in a thread of its own, to a rotating file and to standard error where asked.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        form: "json" or "text".
        file: At most 4 files of 2 MB; None for none.
        stderr: Also write to standard error (not while a console draws there).
    """
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    ring, behind = LogRing(), LogQueue()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = logging.handlers.RotatingFileHandler(file, maxBytes=2_000_000, backupCount=3, delay=True)
        kept.setFormatter(formatter_for(form))
        behind.add(kept)
    root.addHandler(ring)
    root.addHandler(behind)
    logging.raiseExceptions = False  # a fault of logging itself is printed to standard error, where a console may draw
    if stderr:
        add_stderr(form)
    root.setLevel(level)
    for noisy in ("asyncssh", "uvicorn", "uvicorn.error", "uvicorn.access", "PIL", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    return ring


class TextFormatter(logging.Formatter):
    """One line a message; what would steer the reader's terminal, or forge a line, is made visible."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line (called by logging)."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback below it (called by logging)."""
        return printable(super().formatException(ei), keep="\n")


def formatter_for(form: str) -> logging.Formatter:
    """The form of a line: "json" or "text"."""
    if form == "text":
        return TextFormatter(TEXT)
    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    return JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names)


def add_stderr(form: str) -> None:
    """Write to standard error too, from now on: no console draws there any more. Only after `configure`."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter_for(form))
    for behind in logging.getLogger().handlers:
        if isinstance(behind, LogQueue):
            behind.add(handler)
    logging.raiseExceptions = True
