"""The peers as the operators set them, durable; their keys apart, as files of mode 0600."""

from __future__ import annotations

import asyncio
import difflib
import logging
import sqlite3
from collections.abc import Callable, Sequence

import msgspec

from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.core.store import Store
from appliance.core.vpn import keys
from appliance.core.vpn.peers import MOST, Entry, Peer, Rotation, check_overlap
from appliance.errors import ApplianceError, ConflictError, InvalidArgumentsError, NotFoundError, StoreError

log = logging.getLogger(__name__)

OWN_KEY = "vpn.key"
"""The hub's private key."""
CARRIES = "carries "
"""How the fact begins that an interface is ours; its name follows."""


PUT = """INSERT INTO vpn_peers (name, public_key, document, rotation, changed)
VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET
public_key = excluded.public_key, document = excluded.document, rotation = excluded.rotation, changed = excluded.changed"""


class Held:
    """Which secrets of a peer may lie here; each is the end of its file's name."""

    private = "key"
    preshared = "psk"
    next_private = "next-key"
    next_preshared = "next-psk"


class PeerSecrets(msgspec.Struct, frozen=True):
    """The pre-shared keys of a peer: the one that holds, and the one that it is rotated to. Never shown."""

    preshared: str = ""
    next_preshared: str = ""

    def __repr__(self) -> str:
        return "PeerSecrets(…)"

    __rich_repr__ = None  # type: ignore[assignment]


class PeerBook:
    """Keeps peers in the appliance's database, and keys with its secrets.

    Args:
        store: The database.
        secrets: Where keys are kept.
        clock: Says when.
        own: The hub's addresses, which no peer may have.
    """

    def __init__(self, store: Store, secrets: Secrets, clock: Clock, own: Sequence[str]) -> None:
        self._store = store
        self._secrets = secrets
        self._clock = clock
        self._own = tuple(own)

    async def all(self) -> dict[str, Entry]:
        """Every peer, by name; one that this version cannot read is told in the log. Raises StoreError."""
        return await self._store.read(_entries)

    async def one(self, name: str) -> Entry:
        """One peer. Raises NotFoundError, with the nearest name, and StoreError."""
        kept = await self.all()
        if name in kept:
            return kept[name]
        near = difflib.get_close_matches(name, kept, n=1)
        hint = f"did you mean {near[0]}?" if near else "list them with `prime-spark vpn status`."
        raise NotFoundError(f"There is no peer {name!r}.", hint)

    async def add(self, peer: Peer, preshared: str, private: str = "") -> None:
        """Keep a new peer with its keys; all are on disk when this returns.

        Args:
            peer: It.
            preshared: Its pre-shared key; empty for none.
            private: Its private key where it was made here, until it is exported.

        Raises:
            ConflictError: There is one of that name, key or address, or there are too many.
            StoreError: Nothing is kept.
        """
        if peer.name in await self.all():
            raise ConflictError(f"There is a peer {peer.name} already.", "take another name, or remove that one.")
        await self.set_secret(peer.name, Held.preshared, preshared)
        await self.set_secret(peer.name, Held.private, private)
        try:
            await self._insert(Entry(peer))
        except ApplianceError:
            await self.forget_secrets(peer.name)
            raise

    async def amend(self, name: str, change: Callable[[Entry], Entry]) -> Entry:
        """Change a peer in one transaction, whoever else changes it at the same time.

        Args:
            name: Of the peer.
            change: Makes the entry as it shall be from the one that is there; runs in the database's thread. What it raises
                leaves everything as it was.

        Raises:
            NotFoundError: There is no such peer any more.
            ConflictError: It would have what another one has.
            StoreError: Nothing was changed.
        """

        def write(connection: sqlite3.Connection) -> Entry:
            kept = _entries(connection)
            if name not in kept:
                raise NotFoundError(f"There is no peer {name!r} any more.", "add it again.")
            entry = change(kept[name])
            check_overlap(entry.peer, [each.peer for each in kept.values() if each.peer.name != name], self._own)
            connection.execute(PUT, self._row(entry))
            return entry

        return await self._store.write(write)

    async def _insert(self, entry: Entry) -> None:
        name = entry.peer.name

        def write(connection: sqlite3.Connection) -> None:
            kept = _entries(connection)
            if name in kept:
                raise ConflictError(f"There is a peer {name} already.", "take another name, or remove that one.")
            if len(kept) >= MOST:
                raise ConflictError(f"There are {MOST} peers already.", "remove one; a hub takes no more.")
            check_overlap(entry.peer, [each.peer for each in kept.values()], self._own)
            connection.execute(PUT, self._row(entry))

        await self._store.write(write)

    def _row(self, entry: Entry) -> tuple[str, str, str, str | None, float]:
        rotation = msgspec.json.encode(entry.rotation).decode() if entry.rotation is not None else None
        peer = entry.peer
        return peer.name, peer.public_key, msgspec.json.encode(peer).decode(), rotation, self._clock.wall()

    async def remove(self, name: str) -> Entry:
        """Remove a peer with its keys. Raises NotFoundError, StoreError."""
        entry = await self.one(name)
        await self._store.write(lambda connection: connection.execute("DELETE FROM vpn_peers WHERE name = ?", (name,)))
        await self.forget_secrets(name)
        return entry

    # -- keys ----------------------------------------------------------------------------------------------------------

    async def own_key(self) -> str:
        """The hub's private key; made where there is none. Raises StoreError; InvalidArgumentsError where it is damaged."""
        found = await asyncio.to_thread(self._secrets.text, OWN_KEY)
        if not found:
            found = keys.make_pair().private
            await self.set_own_key(found)
        return _sound(found, "private key of this hub")

    async def set_own_key(self, private: str) -> None:
        """Take a private key over. Raises StoreError."""
        await self._keep(OWN_KEY, private)

    async def _keep(self, name: str, value: str) -> None:
        try:
            await asyncio.to_thread(self._secrets.put, name, value.encode())
        except OSError as error:
            reason = f"The key {name} cannot be kept: {error.strerror}."
            raise StoreError(reason, "see to room and rights of the secrets' directory; nothing was changed.") from error

    async def secret(self, name: str, which: str) -> str:
        """A key of a peer; empty where there is none. Raises StoreError."""
        return await asyncio.to_thread(self._secrets.text, secret_name(name, which))

    async def set_secret(self, name: str, which: str, value: str) -> None:
        """Keep a key of a peer; an empty one is forgotten. Raises StoreError."""
        if value:
            await self._keep(secret_name(name, which), value)
        else:
            await asyncio.to_thread(self._secrets.remove, secret_name(name, which))

    async def forget_secrets(self, name: str) -> None:
        """Forget all keys of a peer. Raises StoreError."""
        for which in (Held.private, Held.preshared, Held.next_private, Held.next_preshared):
            await self.set_secret(name, which, "")

    async def preshared(self, entries: Sequence[Entry]) -> dict[str, PeerSecrets]:
        """The pre-shared keys of many peers at once. Raises StoreError; InvalidArgumentsError where a file is damaged."""
        return await asyncio.to_thread(lambda: {each.peer.name: self._preshared(each) for each in entries})

    def _preshared(self, entry: Entry) -> PeerSecrets:
        name = entry.peer.name
        held = self._secrets.text(secret_name(name, Held.preshared))
        later = self._secrets.text(secret_name(name, Held.next_preshared)) if entry.rotation is not None else ""
        told = f"pre-shared key of {name}"
        return PeerSecrets(_sound(held, told) if held else "", _sound(later, told) if later else "")

    async def sweep(self) -> None:
        """Forget the keys of rotations that are over: a life before may have ended in the middle. Raises StoreError."""
        for name, entry in (await self.all()).items():
            if entry.rotation is None:
                await self.set_secret(name, Held.next_private, "")
                await self.set_secret(name, Held.next_preshared, "")

    async def exportable(self) -> frozenset[str]:
        """Names of the peers whose private key is still here. Raises StoreError."""
        found = await self.all()
        which = {name: Held.next_private if entry.rotation is not None else Held.private for name, entry in found.items()}

        def look() -> frozenset[str]:
            return frozenset(name for name, kind in which.items() if self._secrets.get(secret_name(name, kind)) is not None)

        return await asyncio.to_thread(look)

    # -- facts ---------------------------------------------------------------------------------------------------------

    async def fact(self, name: str) -> float:
        """A number that was noted; 0 where there is none. Raises StoreError."""

        def read(connection: sqlite3.Connection) -> float:
            row = connection.execute("SELECT value FROM vpn_facts WHERE name = ?", (name,)).fetchone()
            return float(row[0]) if row else 0.0

        return await self._store.read(read)

    async def carried(self) -> list[str]:
        """Names of the interfaces that were made for the VPN and not taken away. Raises StoreError."""

        def read(connection: sqlite3.Connection) -> list[str]:
            found = connection.execute("SELECT name FROM vpn_facts WHERE name LIKE ? ORDER BY name", (f"{CARRIES}%",))
            return [name.removeprefix(CARRIES) for (name,) in found]

        return await self._store.read(read)

    async def carry(self, interface: str, *, there: bool) -> None:
        """Note that an interface is ours, or is no more. Raises StoreError."""
        name = f"{CARRIES}{interface}"
        if there:
            await self.note(name, 1.0)
            return
        await self._store.write(lambda connection: connection.execute("DELETE FROM vpn_facts WHERE name = ?", (name,)))

    async def note(self, name: str, value: float) -> None:
        """Note a number. Raises StoreError."""
        await self._store.write(
            lambda connection: connection.execute("INSERT OR REPLACE INTO vpn_facts (name, value) VALUES (?, ?)", (name, value))
        )


def _entries(connection: sqlite3.Connection) -> dict[str, Entry]:
    found = {}
    for name, document, rotation in connection.execute("SELECT name, document, rotation FROM vpn_peers ORDER BY name"):
        try:
            peer = msgspec.json.decode(document, type=Peer)
            found[name] = Entry(peer, msgspec.json.decode(rotation, type=Rotation) if rotation else None)
        except msgspec.DecodeError as error:
            log.error("the peer %s is left out: %s", name, error)
    return found


def secret_name(peer: str, which: str) -> str:
    """Under which a key of a peer is kept."""
    return f"vpn.peer.{peer}.{which}"


def _sound(key: str, what: str) -> str:
    if keys.fault(key):
        raise InvalidArgumentsError(f"The {what} is damaged on disk.", "rotate it, or bring its file back from a backup.")
    return key
