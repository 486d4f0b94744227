"""Answers that prove to an ACME authority whose a name is (RFC 8555, section 8.3); served over plain HTTP."""

from __future__ import annotations

import re
import threading

PREFIX = "/.well-known/acme-challenge/"
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,200}")
MOST = 200
"""Answers at one time; the oldest goes first."""


class Challenges:
    """By token; may be used from any thread."""

    def __init__(self) -> None:
        self._answers: dict[str, str] = {}
        self._lock = threading.Lock()
        self.asked = 0
        """Right questions since the start."""

    def put(self, token: str, answer: str) -> None:
        """Answer so from now on. Raises ValueError where it can be no token."""
        if TOKEN.fullmatch(token) is None:
            raise ValueError("the authority sent a token that is none")
        with self._lock:
            self._answers[token] = answer
            while len(self._answers) > MOST:
                del self._answers[next(iter(self._answers))]

    def remove(self, token: str) -> None:
        """Answer no more."""
        with self._lock:
            self._answers.pop(token, None)

    def answer(self, path: str) -> str | None:
        """What is answered at a path; None where it is none of these."""
        if not path.startswith(PREFIX):
            return None
        with self._lock:
            found = self._answers.get(path.removeprefix(PREFIX))
            self.asked += found is not None
        return found

    def __len__(self) -> int:
        return len(self._answers)
