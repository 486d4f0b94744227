"""Answers to requests that carry an Idempotency-Key, so that one which is repeated is done once, also after a crash.

The key is kept before anything is done. Whoever repeats a request gets its first answer; while that one is under way, or
where the appliance stopped before it was answered, a conflict that says so.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import Any

import msgspec

from appliance.core.access.sealing import Sealer
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.errors import ConflictError, InvalidArgumentsError

ROWS, PER_IDENTITY, HOURS = 10_000, 1000, 24
"""Most keys that are kept, in all and of one identity, and how long."""
LARGEST = 65536
"""Bytes of an answer that is kept."""
TOO_LARGE = b""
AGAIN = "look whether it took effect; repeat it with another key where it did not."


class Answer(msgspec.Struct, frozen=True):
    """What was answered."""

    status: int
    body: bytes


class Answers:
    """The table.

    Args:
        store: An open store.
        sealer: Seals the bodies, which may hold secrets.
        clock: Whose wall clock the ages go by.
    """

    def __init__(self, store: Store, sealer: Sealer, clock: Clock) -> None:
        self._store, self._sealer, self._clock = store, sealer, clock
        self._boot = secrets.token_hex(8)

    async def begin(self, identity: str, key: str, fingerprint: str) -> Answer | None:
        """Take a key; returns the first answer where the request was done already.

        Raises:
            InvalidArgumentsError: The key was used for another request.
            ConflictError: That request is under way, or its answer is not there.
        """
        now = self._clock.wall()
        row = (identity, key, fingerprint, self._boot, now)

        def work(connection: sqlite3.Connection) -> tuple[Any, ...] | None:
            connection.execute("DELETE FROM access_answers WHERE created < ? OR created > ?", (now - HOURS * 3600, now + 86400))
            found = connection.execute(
                "SELECT fingerprint, boot, status, body FROM access_answers WHERE identity = ? AND key = ?", (identity, key)
            ).fetchone()
            if found is None:
                _make_room(connection, identity)
                connection.execute(
                    "INSERT INTO access_answers (identity, key, fingerprint, boot, created) VALUES (?, ?, ?, ?, ?)", row
                )
            return found  # type: ignore[no-any-return]

        found = await self._store.write(work)
        return None if found is None else self._answer(found, identity, key, fingerprint)

    def _answer(self, found: tuple[Any, ...], identity: str, key: str, fingerprint: str) -> Answer:
        before, boot, status, body = found
        if before != fingerprint:
            raise InvalidArgumentsError("This Idempotency-Key was used for another request.", "take a new key.")
        if status is None and boot == self._boot:
            raise ConflictError("The request with this Idempotency-Key is under way.", "ask again in a moment.")
        if status is None:
            raise ConflictError("The appliance stopped before the request with this Idempotency-Key was answered.", AGAIN)
        if body == TOO_LARGE:
            raise ConflictError(f"It was done (status {status}), and its answer was too large to be kept.", AGAIN)
        return Answer(status, self._sealer.open(body, f"answer {identity} {key}"))

    async def end(self, identity: str, key: str, answer: Answer) -> None:
        """Keep the answer."""
        fits = len(answer.body) <= LARGEST
        body = self._sealer.seal(answer.body, f"answer {identity} {key}") if fits else TOO_LARGE
        sql = "UPDATE access_answers SET status = ?, body = ? WHERE identity = ? AND key = ?"
        await self._store.write(lambda connection: connection.execute(sql, (answer.status, body, identity, key)))

    async def forget(self, identity: str, key: str) -> None:
        """Nothing was done: the same key may try again."""
        sql = "DELETE FROM access_answers WHERE identity = ? AND key = ? AND status IS NULL"
        await self._store.write(lambda connection: connection.execute(sql, (identity, key)))


def _make_room(connection: sqlite3.Connection, identity: str) -> None:
    """The oldest go where there are too many; an identity's own first."""
    connection.execute(
        "DELETE FROM access_answers WHERE seq IN "
        "(SELECT seq FROM access_answers WHERE identity = ? ORDER BY seq DESC LIMIT -1 OFFSET ?)",
        (identity, PER_IDENTITY - 1),
    )
    connection.execute(
        "DELETE FROM access_answers WHERE seq IN (SELECT seq FROM access_answers ORDER BY seq DESC LIMIT -1 OFFSET ?)",
        (ROWS - 1,),
    )
