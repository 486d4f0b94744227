"""The audit log: who did what, when, and what came of it; each row bound to the one before it.

Every row's hash is HMAC-SHA-256 (RFC 2104) over the row and the hash before it, under a key of the appliance's own,
and both ends of the chain are sealed too: rows cannot be altered, inserted, removed or cut off unseen. A mark outside the
database (core.watermark) tells where the log had come to, so that it cannot be emptied or put back to an older copy unseen.
A seal that does not fit is never mended by the next row: it stays broken, and `verify` goes on saying so.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.model import Actor, AuditEntry
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.core.watermark import Watermark
from appliance.errors import AuditChainError

GENESIS = "0" * 64
BROKEN = "broken"
"""What stands in place of a seal after it was found not to fit."""
ARGS, DETAIL, NAME = 2048, 500, 128
"""Most bytes of a row's arguments; most characters of its detail, and of each of its names. More is cut, and says so."""
COLUMNS = "seq, time, actor, role, via, origin, action, args, outcome, detail, hash"
KEEP = 200_000
"""Rows kept; older ones are pruned a hundredth at a time, and the chain is anchored where they ended."""


Chain = tuple[int, str, int, str]
"""The chain record: anchor's number and hash, last row's number, seal ("" where there is no record yet)."""


class AuditVerdict(msgspec.Struct, frozen=True):
    """What `verify` found."""

    intact: bool
    rows: int
    first_seq: int
    last_seq: int
    problem: str = ""


class AuditLog:
    """Appends to and reads the audit log.

    Args:
        store: An open store.
        key: Secret bytes of the appliance.
        clock: For the rows' times.
        keep: Rows kept.
        mark: File that says how far the log had come; None for none.
    """

    def __init__(self, store: Store, key: bytes, clock: Clock, keep: int = KEEP, mark: Path | None = None) -> None:
        self._store = store
        self._key = key
        self._clock = clock
        self._keep = keep
        self._mark = Watermark(mark, key)

    async def record(self, actor: Actor, action: str, args: dict[str, Any], outcome: str, detail: str) -> None:
        """Append one row; on disk when this returns.

        Raises:
            StoreError: The row is not stored; the caller must not go on.
        """
        values = (
            self._clock.wall(), cut(actor.name, NAME), actor.role.name, actor.via, cut(actor.origin, NAME),
            cut(action, NAME), bounded(args), outcome, cut(detail, DETAIL),
        )  # fmt: skip
        self._mark.advance(await self._store.write(lambda connection: self._append(connection, values)))

    def _append(self, connection: sqlite3.Connection, values: tuple[Any, ...]) -> int:
        chain, (tail, before), mark = _chain(connection), _tail(connection), self._mark.seq()
        whole = sealed(self._key, chain, tail, before) and tail >= mark
        seq = max(tail, chain[2], mark) + 1
        digest = row_hash(self._key, before, (seq, *values))
        connection.execute(
            "INSERT INTO audit (seq, time, actor, role, via, origin, action, args, outcome, detail, hash) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (seq, *values, digest),
        )
        anchor = self._prune(connection, seq - self._keep) if seq % max(1, self._keep // 100) == 0 else None
        anchor = anchor or (chain[0], chain[1])
        mac = head_mac(self._key, anchor, seq, digest) if whole else BROKEN
        connection.execute(
            "INSERT INTO audit_chain (one, anchor_seq, anchor_hash, head_seq, head_mac) "
            "VALUES (1, ?, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET anchor_seq = excluded.anchor_seq, "
            "anchor_hash = excluded.anchor_hash, head_seq = excluded.head_seq, head_mac = excluded.head_mac",
            (*anchor, seq, mac),
        )
        return seq

    def _prune(self, connection: sqlite3.Connection, last: int) -> tuple[int, str] | None:
        """Delete the rows up to `last`; returns where the chain is anchored now, or None where nothing was deleted."""
        row = connection.execute("SELECT hash FROM audit WHERE seq = ?", (last,)).fetchone()
        if row is None:
            return None
        connection.execute("DELETE FROM audit WHERE seq <= ?", (last,))
        return last, row[0]

    async def entries(self, limit: int = 200, before: int | None = None) -> list[AuditEntry]:
        """Rows, newest first, from below the sequence number `before`."""

        def select(connection: sqlite3.Connection) -> list[AuditEntry]:
            top = before if before is not None else 1 << 62
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?",  # noqa: S608
                (top, limit),
            )
            return [entry_of(row) for row in rows]  # here, in the reader's thread: thousands of them take their time

        return await self._store.read(select)

    async def verify(self) -> AuditVerdict:
        """Check every row and the end of the chain."""
        return await self._store.read(lambda connection: verify(connection, self._key, self._mark))


def verify(connection: sqlite3.Connection, key: bytes, mark: Watermark) -> AuditVerdict:
    """Check the chain in an open database; works without a running appliance."""
    reached = mark.seq()  # before the rows: it is never ahead of them
    chain = _chain(connection)
    anchor_seq, anchor_hash, head_seq, mac = chain
    count = connection.execute("SELECT count(*) FROM audit").fetchone()[0]
    if not (mac or count or reached or mark.problem):
        return AuditVerdict(True, 0, 0, 0)
    try:
        seq, digest = _walk(connection, key, anchor_seq, anchor_hash)
        if mark.problem:
            raise AuditChainError(mark.problem)
        if seq < reached:
            lost = "rows were removed, or an older copy of the database was put in its place"
            raise AuditChainError(f"the log ends at row {seq}, but it had come to row {reached}: {lost}")
        if not mac:
            raise AuditChainError("the rows have no chain record")
        if seq != head_seq:
            raise AuditChainError(f"the log ends at row {seq}, but its seal says {head_seq}")
        if not sealed(key, chain, seq, digest):
            raise AuditChainError("the seal of the log does not fit: rows were removed, or the seal was altered")
    except AuditChainError as error:
        return AuditVerdict(False, count, anchor_seq + 1, head_seq, error.message)
    return AuditVerdict(True, count, anchor_seq + 1, seq)


def sealed(key: bytes, chain: Chain, seq: int, digest: str) -> bool:
    """Whether a log that ends with row `seq` ends where its seal says; a new log needs none."""
    anchor_seq, anchor_hash, head_seq, mac = chain
    if not mac:
        return seq == 0
    return seq == head_seq and hmac.compare_digest(mac, head_mac(key, (anchor_seq, anchor_hash), seq, digest))


def _chain(connection: sqlite3.Connection) -> Chain:
    row = connection.execute("SELECT anchor_seq, anchor_hash, head_seq, head_mac FROM audit_chain").fetchone()
    return (row[0], row[1], row[2], row[3]) if row else (0, GENESIS, 0, "")


def _tail(connection: sqlite3.Connection) -> tuple[int, str]:
    row = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return (row[0], row[1]) if row else (0, GENESIS)


def _walk(connection: sqlite3.Connection, key: bytes, seq: int, digest: str) -> tuple[int, str]:
    for row in _rows(connection):
        if row[0] != seq + 1:
            raise AuditChainError(f"row {seq + 1} is missing; the next one is {row[0]}")
        if not hmac.compare_digest(row[-1], row_hash(key, digest, row[:-1])):
            raise AuditChainError(f"row {row[0]} ({row[6]} by {row[2]}) was altered")
        seq, digest = row[0], row[-1]
    return seq, digest


def _rows(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    yield from connection.execute(f"SELECT {COLUMNS} FROM audit ORDER BY seq")  # noqa: S608


def canonical(args: Any) -> str:
    """JSON with sorted keys and no spaces: the same bytes for the same arguments."""
    return json.dumps(args, sort_keys=True, separators=(",", ":"), default=str)


def bounded(args: dict[str, Any]) -> str:
    """The arguments in canonical form; too long ones are cut value by value, with the hash of the whole beside them."""
    text = canonical(args)
    if len(text) <= ARGS:
        return text
    whole = f"{len(text)} bytes, SHA-256 {hashlib.sha256(text.encode()).hexdigest()}"
    share = max(16, ARGS // (2 * len(args)))
    short = {cut(name, NAME): value if len(canonical(value)) <= share else cut(canonical(value), share)
             for name, value in args.items()}  # fmt: skip
    text = canonical({**short, "(cut)": whole})
    return text if len(text) <= ARGS else canonical({"(cut)": whole})


def cut(text: str, length: int) -> str:
    """The text, or its beginning and how long it was; what has no form in UTF-8 is escaped."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"


def row_hash(key: bytes, before: str, values: tuple[Any, ...]) -> str:
    """The hash of a row (seq … detail) after the row whose hash is `before`."""
    message = json.dumps([before, *values], separators=(",", ":")).encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def head_mac(key: bytes, anchor: tuple[int, str], seq: int, digest: str) -> str:
    """The seal of a chain that begins after the row `anchor` (number, hash) and ends with row `seq`."""
    return hmac.new(key, f"chain {anchor[0]} {anchor[1]} {seq} {digest}".encode(), hashlib.sha256).hexdigest()


def entry_of(row: tuple[Any, ...]) -> AuditEntry:
    """A database row as a value."""
    names = COLUMNS.split(", ")
    return AuditEntry(**{**dict(zip(names, row, strict=True)), "args": json.loads(row[7])})
