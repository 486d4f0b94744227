"""Messages that could not be sent or used, kept with their reason until somebody decides."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core.store import Store
from appliance.core.streams.model import DeadLetter, Message


class DeadLetters:
    """The letters in streams.sqlite; bounded, the oldest go first.

    Args:
        store: Opened by the outbox.
        limit: Most letters kept.
    """

    def __init__(self, store: Store, limit: int) -> None:
        raise NotImplementedError

    async def add(self, letter: DeadLetter, value: bytes) -> None:
        """Keep one; `letter.body` is not used. Raises StoreError."""

    async def add_messages(self, origin: str, refused: Sequence[tuple[Message, str]], now: float) -> None:
        """Keep messages of ours with their reasons. Raises StoreError."""

    async def list(self, limit: int = 100, origin: str = "") -> list[DeadLetter]:
        """The newest ones, without their bodies."""
        raise NotImplementedError

    async def get(self, letter_id: str) -> DeadLetter:
        """One with its body. Raises NotFoundError."""
        raise NotImplementedError

    async def retry(self, letter_id: str) -> None:
        """Send it again, at the end of its class; it stays here until that succeeded.

        Raises:
            NotFoundError: There is no such letter.
            StreamError: It came from the cloud (origin "commands" or "updates"): sending it again would be a replay.
        """

    async def discard(self, letter_id: str) -> None:
        """Throw it away. Raises NotFoundError."""
