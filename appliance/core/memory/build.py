"""Makes the memory that the settings ask for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from appliance.core.memory.absent import Absent
from appliance.core.memory.behind import Behind
from appliance.core.memory.conflicts import Note
from appliance.core.memory.edge import EdgeStore
from appliance.core.memory.eviction import Room
from appliance.core.memory.front import Front
from appliance.core.memory.hot import HotTier, LocalLru
from appliance.core.memory.machinery import SyncPlan, assemble
from appliance.core.memory.memory import Limits
from appliance.core.memory.parts import Parts
from appliance.core.memory.redis_server import RedisServer, installed
from appliance.core.memory.replicas import Replicas
from appliance.core.memory.service import MemoryService
from appliance.core.memory.strategy import Strategy
from appliance.core.memory.tier import Replica
from appliance.core.ports import Clock, Service
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.errors import ConfigError
from appliance.settings import NasSettings, Settings, SyncSettings

MIB = 1024 * 1024


class Places(NamedTuple):
    """Where the memory's files lie."""

    directory: Path
    """Of the local disk's tier."""
    socket: Path
    """Of a private redis-server."""
    address: str
    """Of that socket, for connecting."""


def build(
    settings: Settings, places: Places, secrets: Secrets, clock: Clock, state: LiveState, note: Note
) -> tuple[MemoryService, list[Service]]:
    """The memory, and the services that it needs besides itself.

    Args:
        settings: All of them.
        places: Of its files.
        secrets: Passwords and keys.
        clock: For times.
        state: Where the memory is shown.
        note: Told of conflicts.

    Raises:
        ConfigError: A tier is half configured.
        StoreError: A secret can be read by others.
    """
    wanted, device = settings.memory, settings.node.device_id
    hot, server = _hot(settings, places, secrets)
    replicas = _replicas(settings, secrets)
    edge = EdgeStore(places.directory, clock, [tier.name for tier in replicas if tier.shared])
    parts = Parts(
        Front(hot, wanted.hot_value_max_kib * 1024), edge, Replicas(replicas), clock, device,
        Absent(wanted.absent_seconds), Behind(wanted.behind_max_mib * MIB),
    )  # fmt: skip
    low = min(wanted.disk_low_percent, wanted.disk_high_percent)
    room = Room(wanted.disk_max_mib * MIB, wanted.disk_high_percent / 100, low / 100, wanted.disk_policy)
    machinery = assemble(parts, room, Limits(wanted.value_max_mib * MIB), _plan(settings.sync), note, _nas_room(settings.nas))
    return MemoryService(parts, machinery, state), [server] if server is not None else []


def _nas_room(wanted: NasSettings) -> Room | None:
    if not wanted.max_mib:
        return None
    return Room(wanted.max_mib * MIB, wanted.high_percent / 100, wanted.low_percent / 100, wanted.policy)


def _hot(settings: Settings, places: Places, secrets: Secrets) -> tuple[HotTier, RedisServer | None]:
    from appliance.core.memory.redis import RedisTier

    wanted, device, password = settings.memory, settings.node.device_id, secrets.text("redis.password")
    if wanted.redis_url:
        return RedisTier(wanted.redis_url, password, device), None
    if wanted.redis_port:
        return RedisTier(f"redis://127.0.0.1:{wanted.redis_port}/0", password, device), None
    if installed() is None:
        return LocalLru(wanted.hot_max_mib * MIB, wanted.redis_policy), None
    server = RedisServer(places.socket, wanted.redis_max_memory, wanted.redis_policy)
    return RedisTier(f"unix://{quote(places.address)}", "", device), server


def _replicas(settings: Settings, secrets: Secrets) -> list[Replica]:
    found: list[Replica] = []
    limit, device = settings.memory.value_max_mib * MIB, settings.node.device_id
    if settings.nas.enabled == "yes" or (settings.nas.enabled == "auto" and settings.nas.path.is_dir()):
        from appliance.core.memory.nas import NasReplica

        found.append(NasReplica(settings.nas.path, device, limit))
    if settings.s3.endpoint:
        from appliance.core.memory.objects import ObjectReplica

        wanted = settings.s3
        key = secrets.text("s3.secret_key")
        found.append(
            ObjectReplica(wanted.endpoint, wanted.access_key, key, wanted.bucket, wanted.secure, device, largest=limit)
        )
    if settings.documents.url:
        from appliance.core.memory.documents import DocumentReplica

        found.append(DocumentReplica(_dsn(settings.documents.url, secrets.text("documents.password")), device))
    return found


def _dsn(url: str, password: str) -> str:
    """The address with its password in it. Raises ConfigError."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ConfigError(
            "documents.url is no postgresql:// address.",
            "Supabase shows it under Connect: postgresql://USER@HOST:PORT/DATABASE; its https address is another service.",
        )
    if not password or parts.password:
        return url
    name, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}"))


def _plan(wanted: SyncSettings) -> SyncPlan:
    named = dict(entry.split("=", 1) for entry in wanted.namespaces)
    strategies = {namespace: Strategy(strategy) for namespace, strategy in named.items()}
    return SyncPlan(wanted.interval_seconds, wanted.batch, wanted.bandwidth_kib, Strategy(wanted.strategy), strategies)
