"""What deployments keep on disk: services, versions, replicas, rollouts, events. Every write is durable when it returns."""

from __future__ import annotations

import difflib
import logging
import sqlite3
from typing import Any

import msgspec

from appliance.core.deploy.model import DeployEvent, Replica, Rollout, Version
from appliance.core.deploy.policy import begin
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.errors import ConflictError, NotFoundError

log = logging.getLogger(__name__)

SERVICES, REVISIONS, ROLLOUTS, EVENTS = 200, 50, 200, 2000
"""Most services; most that is kept of each of them, and of events of all together that were removed."""
LIVE = "SELECT body FROM deploy_rollouts WHERE service = ? AND ended IS NULL ORDER BY seq DESC LIMIT 1"
VERSION = "service, revision, label, time, author, document, outcome"


class Wanted(msgspec.Struct, frozen=True):
    """What is wanted of a service."""

    name: str
    revision: int
    """0 while its first version has never run."""
    replicas: int
    removing: bool = False


class DeployBook:
    """Reads and writes it.

    Args:
        store: An open store.
        clock: For times.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    # -- services

    async def services(self) -> dict[str, Wanted]:
        """All, by name. Raises StoreError."""
        query = "SELECT name, revision, replicas, removing FROM deploy_services ORDER BY name"
        rows = await self._store.read(lambda connection: connection.execute(query).fetchall())
        return {row[0]: Wanted(row[0], row[1], row[2], bool(row[3])) for row in rows}

    async def service(self, name: str) -> Wanted:
        """One. Raises NotFoundError, with the nearest name, and StoreError."""
        found = await self.services()
        if name in found:
            return found[name]
        near = difflib.get_close_matches(name, found, 1)
        hint = f"did you mean {near[0]}?" if near else "list them with `prime-spark deploy status`."
        raise NotFoundError(f"No service {name!r} is deployed.", hint)

    async def order(self, version: Version, replicas: int, rollout: Rollout) -> tuple[Version, Rollout]:
        """Keep a new version with its rollout, at once or not at all.

        Args:
            version: Its revision is given here.
            replicas: Wanted.
            rollout: To it; its revision is put in, and the shares that it begins with: it may be found on disk after a crash.

        Raises:
            ConflictError: Somebody else deploys the service now, or removes it; there are too many services.
            StoreError: Nothing is kept.
        """

        def write(connection: sqlite3.Connection) -> tuple[Version, Rollout]:
            _refuse_second(connection, version.service, rollout.owner)
            count = connection.execute("SELECT count(*) FROM deploy_services WHERE name <> ?", (version.service,)).fetchone()[0]
            if count >= SERVICES:
                raise ConflictError(f"{SERVICES} services are deployed already.", "remove one first.")
            newest = "SELECT coalesce(max(revision), 0) + 1 FROM deploy_revisions WHERE service = ?"
            number = connection.execute(newest, (version.service,)).fetchone()[0]
            made = msgspec.structs.replace(version, revision=number)
            connection.execute(f"INSERT INTO deploy_revisions ({VERSION}) VALUES (?, ?, ?, ?, ?, ?, ?)", _row(made))  # noqa: S608
            insert = "INSERT OR IGNORE INTO deploy_services (name, revision, replicas, changed) VALUES (?, 0, ?, ?)"
            connection.execute(insert, (version.service, replicas, version.time))
            return made, self._begin(connection, begin(msgspec.structs.replace(rollout, to_revision=number)).rollout)

        return await self._store.write(write)

    async def order_back(self, rollout: Rollout) -> Rollout:
        """Keep a rollout to a version that is known already. Raises ConflictError, StoreError."""

        def write(connection: sqlite3.Connection) -> Rollout:
            _refuse_second(connection, rollout.service, rollout.owner)
            return self._begin(connection, begin(rollout).rollout)

        return await self._store.write(write)

    def _begin(self, connection: sqlite3.Connection, rollout: Rollout) -> Rollout:
        insert = "INSERT INTO deploy_rollouts (rollout_id, service, body) VALUES (?, ?, ?)"
        connection.execute(insert, (rollout.rollout_id, rollout.service, _text(rollout)))
        prune = """DELETE FROM deploy_rollouts WHERE service = ?1 AND ended IS NOT NULL AND seq NOT IN
            (SELECT seq FROM deploy_rollouts WHERE service = ?1 ORDER BY seq DESC LIMIT ?2)"""
        connection.execute(prune, (rollout.service, ROLLOUTS))
        keep = """DELETE FROM deploy_revisions WHERE service = ?1 AND revision NOT IN (
            SELECT revision FROM deploy_revisions WHERE service = ?1 ORDER BY revision DESC LIMIT ?2)
            AND revision NOT IN (SELECT revision FROM deploy_services WHERE name = ?1) AND revision NOT IN (?3, ?4)"""
        connection.execute(keep, (rollout.service, REVISIONS, rollout.from_revision, rollout.to_revision))
        return rollout

    async def want(self, name: str, **changes: int) -> None:
        """Change revision, replicas or removing. Raises StoreError."""
        names = [key for key in ("revision", "replicas", "removing") if key in changes]
        setting = ", ".join(f"{key} = ?" for key in names)
        values = [*(changes[key] for key in names), self._clock.wall(), name]
        query = f"UPDATE deploy_services SET {setting}, changed = ? WHERE name = ?"  # noqa: S608 fixed names
        await self._store.write(lambda connection: connection.execute(query, values))

    async def forget(self, name: str) -> None:
        """Forget a service with all of it but its events; of events of all that are gone the newest stay. Raises StoreError."""

        def write(connection: sqlite3.Connection) -> None:
            for table, column in (
                ("services", "name"),
                ("revisions", "service"),
                ("replicas", "service"),
                ("rollouts", "service"),
            ):
                connection.execute(f"DELETE FROM deploy_{table} WHERE {column} = ?", (name,))  # noqa: S608 fixed names
            gone = "service NOT IN (SELECT name FROM deploy_services)"
            newest = f"SELECT seq FROM deploy_events WHERE {gone} ORDER BY seq DESC LIMIT ?"  # noqa: S608 fixed text
            prune = f"DELETE FROM deploy_events WHERE {gone} AND seq NOT IN ({newest})"  # noqa: S608 fixed text
            connection.execute(prune, (EVENTS,))

        await self._store.write(write)

    # -- versions

    async def versions(self, service: str) -> list[Version]:
        """Newest first. Raises StoreError."""
        query = f"SELECT {VERSION} FROM deploy_revisions WHERE service = ? ORDER BY revision DESC"  # noqa: S608
        rows = await self._store.read(lambda connection: connection.execute(query, (service,)).fetchall())
        return [Version(*row) for row in rows]

    async def version(self, service: str, revision: int) -> Version:
        """One. Raises NotFoundError, StoreError."""
        for each in await self.versions(service):
            if each.revision == revision:
                return each
        raise NotFoundError(
            f"{service} has no revision {revision} any more.", f"see `prime-spark deploy history {service}` for those it has."
        )

    # -- replicas

    async def replicas(self, service: str) -> list[Replica]:
        """All of a service. Raises StoreError."""
        query = "SELECT body FROM deploy_replicas WHERE service = ? ORDER BY rowid"
        rows = await self._store.read(lambda connection: connection.execute(query, (service,)).fetchall())
        return [msgspec.json.decode(body, type=Replica) for (body,) in rows]

    async def keep_replica(self, replica: Replica) -> None:
        """Raises StoreError."""
        put = (
            "INSERT INTO deploy_replicas (replica_id, service, body) "
            "VALUES (?1, ?2, ?3) ON CONFLICT (replica_id) DO UPDATE SET body = ?3"
        )
        values = (replica.replica_id, replica.service, _text(replica))
        await self._store.write(lambda connection: connection.execute(put, values))

    async def drop_replica(self, replica_id: str) -> None:
        """Raises StoreError."""
        query = "DELETE FROM deploy_replicas WHERE replica_id = ?"
        await self._store.write(lambda connection: connection.execute(query, (replica_id,)))

    # -- rollouts

    async def live(self, service: str) -> Rollout | None:
        """The one under way. Raises StoreError."""
        row = await self._store.read(lambda connection: connection.execute(LIVE, (service,)).fetchone())
        return msgspec.json.decode(row[0], type=Rollout) if row else None

    async def rollouts(self, service: str, limit: int) -> list[Rollout]:
        """Newest first. Raises StoreError."""
        query = "SELECT body FROM deploy_rollouts WHERE service = ? ORDER BY seq DESC LIMIT ?"
        rows = await self._store.read(lambda connection: connection.execute(query, (service, limit)).fetchall())
        return [msgspec.json.decode(body, type=Rollout) for (body,) in rows]

    async def keep_rollout(self, rollout: Rollout, *, revision: int | None = None, replicas: int = 1) -> None:
        """How far it is now; where it ended, with the revision and replicas that are wanted from now on. Raises StoreError."""

        def write(connection: sqlite3.Connection) -> None:
            update = "UPDATE deploy_rollouts SET body = ?, ended = ? WHERE rollout_id = ?"
            connection.execute(update, (_text(rollout), rollout.ended, rollout.rollout_id))
            if rollout.ended is not None:
                outcome = "UPDATE deploy_revisions SET outcome = ? WHERE service = ? AND revision = ?"
                connection.execute(outcome, (rollout.stage.value, rollout.service, rollout.to_revision))
            if revision is not None:
                wanted = "UPDATE deploy_services SET revision = ?, replicas = ? WHERE name = ?"
                connection.execute(wanted, (revision, replicas, rollout.service))

        await self._store.write(write)

    # -- events

    async def note(self, service: str, kind: str, text: str, severity: str = "info") -> DeployEvent:
        """Keep what happened. Raises StoreError."""
        now = self._clock.wall()

        def write(connection: sqlite3.Connection) -> int:
            insert = "INSERT INTO deploy_events (time, service, kind, text, severity) VALUES (?, ?, ?, ?, ?)"
            seq = int(connection.execute(insert, (now, service, kind, text[:2000], severity)).lastrowid or 0)
            if seq % 50 == 0:
                prune = """DELETE FROM deploy_events WHERE service = ?1 AND seq NOT IN
                    (SELECT seq FROM deploy_events WHERE service = ?1 ORDER BY seq DESC LIMIT ?2)"""
                connection.execute(prune, (service, EVENTS))
            return seq

        return DeployEvent(await self._store.write(write), now, service, kind, text[:2000], severity)

    async def events(self, service: str, limit: int, before: int | None = None) -> list[DeployEvent]:
        """Newest first. Raises StoreError."""
        query = """SELECT seq, time, service, kind, text, severity FROM deploy_events
            WHERE service = ? AND seq < ? ORDER BY seq DESC LIMIT ?"""
        values = (service, before if before is not None else 1 << 62, limit)
        rows = await self._store.read(lambda connection: connection.execute(query, values).fetchall())
        return [DeployEvent(*row) for row in rows]


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _row(version: Version) -> tuple[Any, ...]:
    return (
        version.service, version.revision, version.label, version.time, version.author, version.document, version.outcome,
    )  # fmt: skip


def _refuse_second(connection: sqlite3.Connection, service: str, owner: str) -> None:
    """One rollout of a service at a time, and none of one that is removed. Raises ConflictError."""
    row = connection.execute(LIVE, (service,)).fetchone()
    if row is not None:
        held = msgspec.json.decode(row[0], type=Rollout)
        who = "You deploy" if held.owner == owner else f"{held.owner} deploys"
        raise ConflictError(
            f"{who} {service} already: revision {held.to_revision}, {held.stage.value}.",
            f"wait for its end, or give it up: prime-spark deploy rollback {service}.",
        )
    removing = connection.execute("SELECT removing FROM deploy_services WHERE name = ?", (service,)).fetchone()
    if removing is not None and removing[0]:
        raise ConflictError(f"{service} is being removed.", "wait until it is gone.")
