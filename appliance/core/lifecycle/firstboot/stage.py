"""What is to be applied lies whole on the disk before anything changes, and is then carried out to its end.

`.first-boot/new` means nothing yet. Once it is `.first-boot/ready`, each start carries it out before the appliance runs: every
step is one rename, or one transaction that may be repeated. The mark that all of it was done is the last of them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from appliance.core.audit import AuditLog
from appliance.core.auth import Accounts
from appliance.core.clock import SystemClock
from appliance.core.lifecycle.backup.contents import Places
from appliance.core.lifecycle.firstboot import card, records
from appliance.core.lifecycle.firstboot.model import PREPARED, Person, Plan, Record, record_file
from appliance.core.model import Actor, Role
from appliance.core.secrets import Secrets
from appliance.core.store import Store
from appliance.errors import ConflictError, StoreError

PLAN = "plan.json"
CARD = Actor("first-boot file", Role.admin, "card")


def root_of(data: Path) -> Path:
    """Where it is prepared."""
    return data / PREPARED


def is_ready(data: Path) -> bool:
    """Whether something waits to be carried out to its end."""
    return (root_of(data) / "ready" / PLAN).is_file()


def fresh(data: Path) -> Path:
    """An empty directory for what is to be applied. Raises OSError."""
    sweep(data)
    tree = root_of(data) / "new/tree"
    tree.mkdir(mode=0o700, parents=True)
    return tree


def sweep(data: Path) -> None:
    """Remove what was cut off before it meant anything, or after its end. Raises OSError."""
    for name in ("new", "done"):
        if (root_of(data) / name).exists():
            shutil.rmtree(root_of(data) / name)


def arm(data: Path, plan: Plan) -> None:
    """From here on it will be carried out, whatever happens; blocks until it is on the disk. Raises OSError."""
    new = root_of(data) / "new"
    (new / PLAN).write_bytes(msgspec.json.encode(plan))
    for folder, _, names in os.walk(new):
        for name in names:
            card.flush(Path(folder, name))
        card.flush(Path(folder))
    card.flush(root_of(data))
    card.flush(data)
    new.rename(root_of(data) / "ready")
    card.flush(root_of(data))


def carry_out(data: Path, root: Path, places: Places) -> Record:
    """Do what is prepared, or the rest of it; the appliance must not run. Blocks.

    Raises:
        StoreError: It cannot be read, or the database refuses.
        OSError: The disk refuses; the next start goes on.
    """
    ready = root_of(data) / "ready"
    plan = _plan(ready)
    changed = _move(ready / "tree", data)
    if plan.people or places.database.exists():
        for each in (places.database.parent, places.database, places.secrets):
            _demand_own(each)
        places.database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        asyncio.run(_adopt(places, plan))
    for folder in changed | {data}:
        card.flush(folder)
    records.hand_over(data, root)
    records.write(record_file(data), plan.record)
    ready.rename(root_of(data) / "done")
    card.flush(root_of(data))
    shutil.rmtree(root_of(data) / "done")
    return plan.record


def _plan(ready: Path) -> Plan:
    try:
        return msgspec.json.decode((ready / PLAN).read_bytes(), type=Plan)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        step = f"move {ready} away, and start again: the file on the card is applied anew then."
        raise StoreError(f"What was prepared cannot be read: {error}.", step) from error


def _move(tree: Path, data: Path) -> set[Path]:
    """Put each file into its place; the directories that changed."""
    changed = set()
    for folder, _, names in os.walk(tree):
        target = data / Path(folder).relative_to(tree)
        _demand_own(target)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in sorted(names):
            Path(folder, name).replace(target / name)
            changed.add(target)
    return changed


def _demand_own(path: Path) -> None:
    """Root writes into the appliance's home: nobody may have put a link there. Raises StoreError."""
    if path.is_symlink():
        raise StoreError(
            f"{path} is a link, and not the appliance's own.", f"look where it leads, remove it (rm {path}), start again."
        )


async def _adopt(places: Places, plan: Plan) -> None:
    """The accounts, and that they came: whoever had the card in his hands decided it."""
    clock, people = SystemClock(), plan.people
    store = Store(places.database)
    store.open()
    try:
        wanted = [(each.name, Role(each.role), each.hash, each.keys) for each in people]
        await Accounts(store, clock).adopt(wanted)
        key = Secrets(places.secrets, {}).get_or_create("audit.key")
        facts = {"tables": list(plan.record.parts), "users": {each.name: each.role for each in people}}
        await AuditLog(store, key, clock, mark=places.audit_mark).record(CARD, "setup.first-boot", facts, "done", "")
    finally:
        store.close()


def check_people(database: Path, people: tuple[Person, ...]) -> None:
    """Whether the accounts can become these. Raises ConflictError, StoreError."""
    if not database.exists() or not people:
        return
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            roles = dict(connection.execute("SELECT name, role FROM users"))
    except sqlite3.Error as error:
        told = f"The appliance's database cannot be read: {error}."
        raise StoreError(told, "restore a backup: docs/backup.md") from error
    after = roles | {each.name: each.role for each in people}
    if "admin" in roles.values() and "admin" not in after.values():
        raise ConflictError("No administrator would be left.", "leave one user the role admin.")
