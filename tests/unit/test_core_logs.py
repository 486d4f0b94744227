"""Logging fails nobody who logs, and delays nobody."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from appliance.core.logs import LogRing


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
