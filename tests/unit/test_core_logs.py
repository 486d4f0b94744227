"""Logging fails nobody who logs, and delays nobody."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.core import logqueue, logs
from appliance.core.logqueue import LogQueue
from appliance.core.logs import LogRing
from tests.support import wait_for_sync


class Unreadable:
    """Something that cannot be made text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogRing]:
    """A ring behind a logger of its own, with the library's report of faults as the appliance has it on a console."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    ring, log = LogRing(), logging.getLogger("a.test")
    log.propagate = False
    log.addHandler(ring)
    yield ring
    log.removeHandler(ring)
    log.propagate = True


def test_a_message_that_cannot_be_made_fails_nobody_and_leaves_a_line(ring: LogRing) -> None:
    log = logging.getLogger("a.test")
    log.error("%d", "x")
    log.error(Unreadable())
    try:
        raise OSError(Unreadable())
    except OSError:
        log.exception("an error without a text")
    log.error("fine")
    lines = [line.message for line in ring.lines()]
    assert lines[3] == "fine"
    assert all("cannot be made" in line and "test_core_logs.py line" in line for line in lines[:3])


def test_a_listener_that_fails_fails_nobody(ring: LogRing) -> None:
    called: list[int] = []

    def bad() -> None:
        raise RuntimeError("the screen is gone")

    ring.listen(bad)
    ring.listen(lambda: called.append(1))
    logging.getLogger("a.test").error("fine")
    assert called == [1]
    assert ring.lines()[0].message == "fine"


class Slow(logging.Handler):
    """A handler on a disk that hangs until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.inside = threading.Event(), threading.Event()
        self.lines: list[str] = []
        self.threads: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.inside.set()
        assert self.gate.wait(30)
        self.threads.add(threading.current_thread().name)
        self.lines.append(self.format(record))


def record(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("a.test", logging.INFO, __file__, 1, text, args, None)


def test_a_disk_that_hangs_delays_nobody_who_logs_and_loses_no_line_that_has_room() -> None:
    slow, behind = Slow(), LogQueue(capacity=5)
    behind.add(slow)
    behind.handle(record("line %d", 0))
    assert slow.inside.wait(10)
    changing = [1]
    behind.handle(record("line %s", changing))  # returns, although the handler behind it still writes the first
    changing.append(2)
    for index in range(10):
        behind.handle(record("line %d", index + 2))
    slow.gate.set()
    wait_for_sync(lambda: len(slow.lines) == 6)
    behind.handle(record("after"))
    behind.close()
    assert slow.lines[:3] == ["line 0", "line [1]", "line 2"]
    assert slow.lines[6:] == ["6 log lines were dropped: the disk or the terminal is slow", "after"]
    assert slow.threads == {"log"}


def test_closing_does_not_wait_for_ever_for_a_disk_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logqueue, "CLOSING", 0.05)
    slow, behind = Slow(), LogQueue(capacity=1)
    behind.add(slow)
    behind.handle(record("first"))
    assert slow.inside.wait(10)
    behind.handle(record("second"))
    closing = threading.Thread(target=behind.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    slow.gate.set()


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards as the tests' own harness has it."""
    root = logging.getLogger()
    handlers, level, told = list(root.handlers), root.level, logging.raiseExceptions
    for each in handlers:
        root.removeHandler(each)
    yield root
    for each in list(root.handlers):
        root.removeHandler(each)
        each.close()
    for each in handlers:
        root.addHandler(each)
    root.setLevel(level)
    logging.raiseExceptions = told


def test_every_line_is_in_the_file_and_on_standard_error_at_the_end(
    tmp_path: Path, root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    file = tmp_path / "logs/prime-spark.log"
    ring = logs.configure("INFO", "text", file, stderr=False)
    log = logging.getLogger("a.test")
    log.info("only in the file")
    behind = next(each for each in root.handlers if isinstance(each, LogQueue))
    wait_for_sync(lambda: file.exists() and "only in" in file.read_text())
    logs.add_stderr("text")
    try:
        raise ValueError("no luck")
    except ValueError:
        log.exception("it failed")
    behind.close()
    assert [line.message for line in ring.lines()] == ["only in the file", "it failed (ValueError: no luck)"]
    text = file.read_text()
    assert text.count("\n") > 3
    assert text.endswith("ValueError: no luck\n")
    assert "it failed" in shown.getvalue()
    assert "only in the file" not in shown.getvalue()
