"""What of the voice left the house, written down first; and the cap of a day, which holds across restarts and clock jumps."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import msgspec

from appliance.core.ledgerclock import LedgerClock
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.core.voice.model import LedgerRow, LedgerTotals
from appliance.errors import VoiceError

DAY = 86400
KEEP = 20_000
"""Rows that are kept."""
KEEP_DAYS = 400
"""Days whose sums are kept."""
TIDY = 100
"""Rows between two looks for those that are too many."""
ALL = -1
"""The day that stands for all days together."""
CUT_OFF = "cut off"
"""Outcome of what has begun; it stays where the appliance ends before the request does."""
NAMES = ("row", "time", "service", "host", "kind", "utterance_id", "audio_bytes", "text_bytes", "outcome")


class WithheldError(VoiceError):
    """Nothing was sent, or nothing more: it may not leave the house now. No service is to blame."""


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to leave the house, at its most."""

    service: str
    host: str
    kind: str
    """"stt", "tts" or "wake"."""
    utterance_id: str = ""
    audio_bytes: int = 0
    text_bytes: int = 0


class VoiceLedger:
    """Keeps the rows.

    Args:
        store: The appliance's database.
        clock: For times.
        cap_bytes: Most sound of a day (UTC), bytes; where it is reached, nothing more leaves.
        keep: Rows that are kept; sums are kept beyond them.
        boot: Names this start of the machine.
    """

    def __init__(
        self, store: Store, clock: Clock, cap_bytes: int, keep: int = KEEP, boot: Callable[[], str] | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._cap = cap_bytes
        self._keep = keep
        self._ticks = LedgerClock(clock, "voice_ledger_clock", boot, _aligned)
        self.totals = LedgerTotals(cap_bytes=cap_bytes)
        """As they were at the last row or refresh."""

    @property
    def capped(self) -> str:
        """Why nothing more may leave today; empty where it may."""
        return self._over(self.totals.today_bytes, 0)

    async def refresh(self) -> LedgerTotals:
        """Look what counts now. Raises StoreError."""
        self.totals = await self._store.write(lambda connection: self._sum(connection, self._today(connection)))
        return self.totals

    async def reserve(self, leaving: Leaving) -> int:
        """Write a row before anything is sent; returns its number.

        Raises:
            WithheldError: The cap would be passed: nothing may be sent.
            StoreError: It could not be written: nothing may be sent.
        """

        def write(connection: sqlite3.Connection) -> tuple[int, LedgerTotals]:
            day = self._today(connection)
            self._check(connection, day, leaving.audio_bytes)
            row = (
                self._clock.wall(), day, leaving.service, leaving.host, leaving.kind, leaving.utterance_id,
                leaving.audio_bytes, leaving.text_bytes, CUT_OFF,
            )  # fmt: skip
            made = connection.execute(
                "INSERT INTO voice_ledger (time, day, service, host, kind, utterance_id, audio_bytes, text_bytes, outcome)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row
            ).lastrowid  # fmt: skip
            if made is None:
                raise sqlite3.DatabaseError("the row got no number")
            _add(connection, day, leaving.audio_bytes, leaving.text_bytes, 1)
            if made % TIDY == 0:
                connection.execute("DELETE FROM voice_ledger WHERE row <= ?", (made - self._keep,))
                connection.execute("DELETE FROM voice_ledger_days WHERE day != ? AND day < ?", (ALL, day - KEEP_DAYS))
            return made, self._sum(connection, day)

        number, self.totals = await self._store.write(write)
        return number

    async def extend(self, number: int, audio_bytes: int) -> None:
        """So many more bytes of sound are about to leave with a row. Raises WithheldError, StoreError: they may not."""

        def write(connection: sqlite3.Connection) -> LedgerTotals:
            today = self._today(connection)
            self._check(connection, today, audio_bytes)
            connection.execute(
                "UPDATE voice_ledger SET audio_bytes = audio_bytes + ?, day = ? WHERE row = ?", (audio_bytes, today, number)
            )  # what is corrected later is of this day: that of the one before has left
            _add(connection, today, audio_bytes, 0, 0)
            return self._sum(connection, today)

        self.totals = await self._store.write(write)

    async def settle(self, number: int, audio_bytes: int, text_bytes: int, outcome: str) -> None:
        """Say how it ended, and what really left; where nothing did, the row goes. Raises StoreError: it stays as it was."""

        def write(connection: sqlite3.Connection) -> LedgerTotals:
            today = self._today(connection)
            sql = "SELECT day, audio_bytes, text_bytes FROM voice_ledger WHERE row = ?"
            found = connection.execute(sql, (number,)).fetchone()
            nothing = not audio_bytes and not text_bytes
            if found is not None and nothing:
                connection.execute("DELETE FROM voice_ledger WHERE row = ?", (number,))
            elif found is not None:
                connection.execute(
                    "UPDATE voice_ledger SET audio_bytes = ?, text_bytes = ?, outcome = ? WHERE row = ?",
                    (audio_bytes, text_bytes, outcome, number),
                )
            if found is not None:
                _add(connection, found[0], audio_bytes - found[1], text_bytes - found[2], -1 if nothing else 0)
            return self._sum(connection, today)

        self.totals = await self._store.write(write)

    async def rows(self, limit: int = 100, before: int | None = None) -> tuple[LedgerRow, ...]:
        """The newest, newest first; those below the number `before`. Raises StoreError."""
        sql = f"SELECT {', '.join(NAMES)} FROM voice_ledger WHERE row < ? ORDER BY row DESC LIMIT ?"  # noqa: S608 our own names
        most = 2**62 if before is None else before
        found = await self._store.read(lambda connection: connection.execute(sql, (most, limit)).fetchall())
        return tuple(LedgerRow(**dict(zip(NAMES, row, strict=True))) for row in found)

    def _check(self, connection: sqlite3.Connection, day: int, audio_bytes: int) -> None:
        if told := self._over(_sums(connection, day)[0], audio_bytes):
            step = "wait until the next day (UTC), or raise voice.cloud_audio_mib_per_day."
            raise WithheldError(f"{told[0].upper()}{told[1:]}.", step)

    def _over(self, today: int, more: int) -> str:
        if today >= self._cap or today + more > self._cap:
            return f"the cap of the day is reached: {today} of {self._cap} bytes of sound have left the house"
        return ""

    def _sum(self, connection: sqlite3.Connection, day: int) -> LedgerTotals:
        today, ever = _sums(connection, day), _sums(connection, ALL)
        return LedgerTotals(
            today_bytes=today[0], cap_bytes=self._cap, total_bytes=ever[0], today_text_bytes=today[1], requests=ever[2]
        )

    def _today(self, connection: sqlite3.Connection) -> int:
        """The day by the ledger's own time: a jump of the clock begins no new one."""
        return int(self._ticks.tick(connection) // DAY)


def _aligned(before: float, tick: float, wall: float) -> float:
    """With each new day, the ledger's time of day catches up with the clock's: a machine that was off lost some."""
    behind = wall % DAY - tick % DAY
    return tick + behind if tick // DAY > before // DAY and 0 < behind < DAY / 2 else tick


def _add(connection: sqlite3.Connection, day: int, audio: int, text: int, requests: int) -> None:
    for each in (day, ALL):
        connection.execute(
            "INSERT INTO voice_ledger_days (day, audio_bytes, text_bytes, requests) "
            "VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET audio_bytes = audio_bytes +"
            " excluded.audio_bytes, text_bytes = text_bytes + excluded.text_bytes, requests = requests + excluded.requests",
            (each, audio, text, requests),
        )


def _sums(connection: sqlite3.Connection, day: int) -> tuple[int, int, int]:
    sql = "SELECT audio_bytes, text_bytes, requests FROM voice_ledger_days WHERE day = ?"
    found: tuple[int, int, int] | None = connection.execute(sql, (day,)).fetchone()
    return found or (0, 0, 0)
