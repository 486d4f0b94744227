"""Pictures that came with a request, in memory until the action is done that they came for; never on the disk."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.errors import NotFoundError, QueueFullError

ROOM = 96 * 2**20
"""Bytes of all of them together."""


class Uploads:
    """What came, by tickets that only whoever brought it knows.

    Args:
        room: Bytes of all of them together.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._held: dict[str, bytes] = {}
        self._room, self._size = room, 0

    @contextmanager
    def hold(self, data: bytes) -> Iterator[str]:
        """Keep it for as long as the context lasts; gives its ticket. Raises QueueFullError."""
        if self._size + len(data) > self._room:
            raise QueueFullError("Too many pictures are being worked on.", "try again in a moment.")
        ticket = secrets.token_hex(12)
        self._held[ticket] = data
        self._size += len(data)
        try:
            yield ticket
        finally:
            del self._held[ticket]
            self._size -= len(data)

    def get(self, ticket: str) -> bytes:
        """What came with that ticket. Raises NotFoundError."""
        if ticket not in self._held:
            raise NotFoundError("No picture came with that ticket.", "send it with the request: POST /api/v1/inference.")
        return self._held[ticket]
