"""An appliance's data without the appliance: users, audit, keys, and a keeper on them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from appliance import paths
from appliance.core.audit import AuditLog, AuditVerdict, verify
from appliance.core.auth import Accounts
from appliance.core.clock import SystemClock
from appliance.core.lifecycle.backup.keeper import Ground, Keeper
from appliance.core.model import Actor, Role
from appliance.core.secrets import Secrets
from appliance.core.store import Store
from appliance.core.watermark import Watermark
from appliance.paths import Paths
from appliance.settingbackup import BackupSettings, BackupTarget

ADA = Actor("ada", Role.admin, "console")
WIREGUARD = bytes(range(32))


def places(home: Path) -> Paths:
    """A home's directories."""
    found = paths.find({"PRIME_SPARK_HOME": str(home)})
    found.make()
    return found


def keeper(home: Path, repository: Path | BackupTarget | None, device: str = "control-pc", **settings: Any) -> Keeper:
    """A keeper of a home with one target, prepared as a start does it."""
    where = places(home)
    if isinstance(repository, Path):
        repository.mkdir(exist_ok=True)
        repository = BackupTarget(path=str(repository))
    wanted = BackupSettings(targets={} if repository is None else {"usb": repository}, **settings)
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    found = Keeper(Ground(
        wanted, home / "nas", device, "0.1.0", where, Secrets(where.secrets, {}), environ, SystemClock(),
    ))  # fmt: skip
    found.prepare()
    return found


async def fill(home: Path) -> None:
    """Two users, some audited actions, keys, settings, something that waits for Kafka."""
    where = places(home)
    where.config.write_text('[node]\ndevice_id = "control-pc"\n')
    (where.data / "inventory.toml").write_text("# machines\n")
    secrets = Secrets(where.secrets, {})
    secrets.put("vpn.key", WIREGUARD)
    secrets.put("api.jwt_key", b"j" * 32)
    secrets.put(where.host_key.name, b"host key")
    store, streams = Store(where.database), Store(where.streams, "appliance.core.streams.migrations")
    await asyncio.gather(asyncio.to_thread(store.open), asyncio.to_thread(streams.open))
    accounts = Accounts(store, SystemClock())
    await accounts.add("ada", Role.admin, "correct horse", first=True)
    await accounts.add("bob", Role.viewer, "battery staple")
    audit = AuditLog(store, secrets.get_or_create("audit.key"), SystemClock(), mark=where.audit_mark)
    for number in range(5):
        await audit.record(ADA, "job.list", {"number": number}, "done", "")
    store.close()
    streams.close()
    model = where.models / "yolo/1"
    model.mkdir(parents=True)
    (model / "manifest.toml").write_text('name = "yolo"\n')
    (model / "model.onnx").write_bytes(b"weights")


def users(home: Path) -> list[tuple[str, str]]:
    """Names and password hashes."""
    with closing(sqlite3.connect(places(home).database)) as connection:
        return connection.execute("SELECT name, password_hash FROM users ORDER BY name").fetchall()


def audited(home: Path) -> AuditVerdict:
    """Whether the audit's chain is whole."""
    where = places(home)
    key = Secrets(where.secrets, {}).get("audit.key")
    assert key is not None
    with closing(sqlite3.connect(where.database)) as connection:
        return verify(connection, key, Watermark(where.audit_mark, key))
