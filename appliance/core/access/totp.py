"""Second factors: codes that change every 30 s (TOTP, RFC 6238), each taken once, and recovery codes."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
from typing import Any

import msgspec

from appliance.core.access.sealing import Sealer
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.errors import ConflictError, InvalidArgumentsError, NotFoundError

STEP, WINDOW = 30, 1
"""Seconds of a code; codes before and after the present one that are taken too."""
DIGITS = 6
"""Of a code."""
RECOVERY = 10
"""Recovery codes, of 50 random bits each."""
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


class Enrolment(msgspec.Struct, frozen=True):
    """What an authenticator needs, shown once."""

    secret: str
    """Base32."""
    uri: str
    """otpauth://…, as a code for a camera has it."""


class SecondFactors:
    """The factors of all users.

    Args:
        store: An open store.
        sealer: Seals their secrets.
        clock: Whose wall clock the codes go by.
        issuer: Name of this appliance, as authenticators show it.
    """

    def __init__(self, store: Store, sealer: Sealer, clock: Clock, issuer: str) -> None:
        self._store, self._sealer, self._clock, self._issuer = store, sealer, clock, issuer

    async def begin(self, user: str) -> Enrolment:
        """A new secret; it counts once `confirm` has seen a code of it. Raises ConflictError, NotFoundError."""
        import pyotp

        secret = pyotp.random_base32()
        row = (user, self._sealer.seal(secret.encode(), f"totp {user}"))

        def work(connection: sqlite3.Connection) -> None:
            if not connection.execute("SELECT 1 FROM users WHERE name = ?", (user,)).fetchone():
                raise NotFoundError(f"No user is called {user!r}.", "list them with `prime-spark user list`.")
            if connection.execute("SELECT 1 FROM access_totp WHERE user = ? AND confirmed", (user,)).fetchone():
                raise ConflictError(f"{user} has a second factor already.", "remove it first: `prime-spark totp remove`.")
            connection.execute(
                "INSERT OR REPLACE INTO access_totp (user, secret, confirmed, step, recovery) VALUES (?, ?, 0, 0, '[]')", row
            )

        await self._store.write(work)
        return Enrolment(secret, pyotp.TOTP(secret).provisioning_uri(name=user, issuer_name=self._issuer))

    async def confirm(self, user: str, code: str) -> list[str]:
        """Have the factor count from now on; returns the recovery codes, which are nowhere else.

        Raises:
            NotFoundError: None was begun.
            InvalidArgumentsError: The code is not the present one.
        """
        row = await self._row(user)
        if row is None or row[1]:
            raise NotFoundError(f"No second factor of {user} waits for a code.", "begin with `prime-spark totp begin`.")
        step = self._step_of(user, row[0], code, 0)
        if step is None:
            raise InvalidArgumentsError(
                "This code is not the present one.", "look at the authenticator's and the appliance's clock."
            )
        codes = ["".join(secrets.choice(ALPHABET) for _ in range(10)) for _ in range(RECOVERY)]
        kept = json.dumps([_mark(each) for each in codes])
        sql = "UPDATE access_totp SET confirmed = 1, step = ?, recovery = ? WHERE user = ? AND NOT confirmed"
        await self._store.write(lambda connection: connection.execute(sql, (step, kept, user)))
        return codes

    async def wanted(self, user: str) -> bool:
        """Whether the user has one that counts."""
        row = await self._row(user)
        return bool(row and row[1])

    async def users(self) -> dict[str, int]:
        """Users with a factor that counts, and the recovery codes that each has left."""
        sql = "SELECT user, recovery FROM access_totp WHERE confirmed ORDER BY user"
        rows = await self._store.read(lambda connection: connection.execute(sql).fetchall())
        return {row[0]: len(json.loads(row[1])) for row in rows}

    async def check(self, user: str, code: str) -> bool:
        """Whether the code is the present one, or a recovery code; it is spent when this returns True."""
        row = await self._row(user)
        if row is None:
            return False
        plain = code.strip().lower().replace("-", "").replace(" ", "")
        if len(plain) != DIGITS:  # a recovery code may happen to have digits alone
            return await self._spend(user, plain)
        step = self._step_of(user, row[0], plain, row[2])
        if step is None:
            return False
        sql = "UPDATE access_totp SET step = ? WHERE user = ? AND step < ?"  # two at once: one of them comes first
        done = await self._store.write(lambda connection: connection.execute(sql, (step, user, step)).rowcount)
        return bool(done)

    async def remove(self, user: str) -> None:
        """Let the password alone be enough. Raises NotFoundError."""
        sql = "DELETE FROM access_totp WHERE user = ?"
        if not await self._store.write(lambda connection: connection.execute(sql, (user,)).rowcount):
            raise NotFoundError(f"{user} has no second factor.", "see `prime-spark totp list`.")

    async def _row(self, user: str) -> tuple[Any, ...] | None:
        sql = "SELECT secret, confirmed, step FROM access_totp WHERE user = ?"
        return await self._store.read(lambda connection: connection.execute(sql, (user,)).fetchone())

    async def _spend(self, user: str, code: str) -> bool:
        mark = _mark(code)

        def work(connection: sqlite3.Connection) -> bool:
            row = connection.execute("SELECT recovery FROM access_totp WHERE user = ? AND confirmed", (user,)).fetchone()
            left = json.loads(row[0]) if row else []
            found = [each for each in left if hmac.compare_digest(each, mark)]
            if found:
                rest = json.dumps([each for each in left if each != found[0]])
                connection.execute("UPDATE access_totp SET recovery = ? WHERE user = ?", (rest, user))
            return bool(found)

        return await self._store.write(work)

    def _step_of(self, user: str, sealed: bytes, code: str, after: int) -> int | None:
        """The step that a code belongs to; None where it is wrong, or was used."""
        import pyotp

        factor = pyotp.TOTP(self._sealer.open(sealed, f"totp {user}").decode())
        now = int(self._clock.wall()) // STEP
        for step in range(now - WINDOW, now + WINDOW + 1):
            if step > after and hmac.compare_digest(factor.at(step * STEP).encode(), code.encode()):
                return step
        return None


def _mark(code: str) -> str:
    return hashlib.sha256(b"prime-spark recovery " + code.encode()).hexdigest()
