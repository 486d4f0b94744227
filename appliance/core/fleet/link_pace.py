"""How patient the links are."""

from __future__ import annotations

from dataclasses import dataclass

OUTPUT_LIMIT = 4 << 20
"""Bytes that `run` keeps of each of a command's two outputs; one that says more is ended."""
STALE, UNREACHABLE = 25.0, 60.0
"""Seconds without a sign of life after which a machine is shown as stale, and counts as unreachable at the latest."""


@dataclass(frozen=True)
class Pace:
    """Times in seconds, and how much at once.

    Attributes:
        login: To reach a machine and to log in, for each of its addresses.
        keepalive: Without a sign of life after which the other side is asked for one.
        missed: So many of those in a row without an answer may be; then the link is broken.
        stale: Without a sign of life after which a link is shown as stale.
        first: Longest pause after the first failure.
        longest: Longest pause of all.
        sessions: At once on one machine; sshd allows ten by default.
        connects: Logins at once over the whole fleet.
        ending: That an ended command may take after TERM, and again after KILL.
    """

    login: float = 10.0
    keepalive: float = 12.0
    missed: int = 3
    stale: float = STALE
    first: float = 1.0
    longest: float = 60.0
    sessions: int = 8
    connects: int = 16
    ending: float = 1.0
