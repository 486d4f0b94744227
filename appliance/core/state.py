"""Live state: the latest value of each section, versioned, read by screens and fronts without a lock.

Only the core loop writes. A reader in any thread takes a `Snapshot`, which never changes under it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

import msgspec

from appliance.core.ports import Clock

log = logging.getLogger(__name__)


class Section(StrEnum):
    """The parts of the live state, each with the type of its value."""

    services = "services"
    """tuple[ServiceStatus, …]"""
    host = "host"
    """HostSample"""
    trends = "trends"
    """dict[metric name, tuple[tuple[time, value], …]]: the readings of the last ten minutes, oldest first"""
    devices = "devices"
    """tuple[Device, …]"""
    alerts = "alerts"
    """tuple[AlertStatus, …]: pending, firing, acknowledged, silenced, and lately resolved ones"""
    rules = "rules"
    """tuple[RuleStatus, …]"""
    channels = "channels"
    """alerts.channels.model.ChannelsStatus; None where no channel is configured"""
    queues = "queues"
    """tuple[QueueStatus, …]"""
    jobs = "jobs"
    """tuple[JobStatus, …], newest first"""
    sessions = "sessions"
    """tuple[SessionInfo, …]"""
    inference = "inference"
    """inference.status.InferenceStatus"""
    results = "results"
    """tuple[InferenceResult, …], newest first"""
    sources = "sources"
    """tuple[inference.sources.model.SourceStatus, …], by name"""
    memory = "memory"
    """memory.model.MemoryStatus"""
    sync = "sync"
    """tuple[memory.sync.SyncRun, …]: the newest of each tier"""
    sync_totals = "sync_totals"
    """memory.sync.SyncTotals"""
    streams = "streams"
    """streams.model.StreamsStatus"""
    analytics = "analytics"
    """analytics.model.QueryStats"""
    quality = "quality"
    """tuple[analytics.model.QualityFinding, …]: open findings about the data, newest first"""
    vpn = "vpn"
    """vpn.status.VpnStatus"""
    power = "power"
    """power.model.PowerStatus"""
    agents = "agents"
    """agents.model.AgentsStatus"""
    fleet = "fleet"
    """fleet.model.FleetStatus"""
    operations = "operations"
    """tuple[fleet.operations.model.OperationStatus, …], newest first: those under way and the last ended ones"""
    tasks = "tasks"
    """tasks.model.TasksStatus"""
    llm = "llm"
    """llm.model.LlmStatus"""
    deployments = "deployments"
    """deploy.model.DeployStatus"""
    voice = "voice"
    """voice.model.VoiceStatus"""
    sound = "sound"
    """voice.model.SoundLevel, some times a second while somebody watches it"""
    backup = "backup"
    """lifecycle.backup.model.BackupStatus"""
    update = "update"
    """lifecycle.update.model.UpdateStatus"""
    setup = "setup"
    """dict: {"admin": bool, "host_name": str, "done": bool}"""


class Snapshot(msgspec.Struct, frozen=True):
    """One section at one moment. `value` is None until somebody has put one."""

    value: Any
    version: int
    updated: float
    """Wall clock of the last put, seconds since the epoch; 0 where there was none."""
    updated_monotonic: float


EMPTY = Snapshot(None, 0, 0.0, 0.0)


class Watch:
    """A subscription to sections; `close` ends it. Calls come on the core loop, coalesced."""

    def __init__(
        self,
        state: LiveState,
        sections: frozenset[Section],
        callback: Callable[[frozenset[Section]], None],
        min_interval: float,
    ) -> None:
        self.sections = sections
        self._state = state
        self._callback = callback
        self._interval = min_interval
        self._dirty: set[Section] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def notice(self, section: Section) -> None:
        """Remember a change and plan one call for all that come within the interval."""
        if section not in self.sections:
            return
        self._dirty.add(section)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._fire)

    def _fire(self) -> None:
        self._timer = None
        changed, self._dirty = frozenset(self._dirty), set()
        if self._closed:
            return
        try:
            self._callback(changed)
        except Exception:
            log.exception("a watcher of %s failed and was dropped", sorted(changed))
            self.close()

    def close(self) -> None:
        """End the subscription; safe from any thread and more than once. Whoever was called is let go."""
        self._closed = True
        self._callback = _nobody
        self._state.drop(self)

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed


def _nobody(_: frozenset[Section]) -> None:
    """Is called where the subscription ended."""


class LiveState:
    """The latest value of every section."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sections: dict[Section, Snapshot] = {}
        self._watches: tuple[Watch, ...] = ()
        self._lock = threading.Lock()

    def get(self, section: Section) -> Snapshot:
        """The section as it is now; from any thread."""
        return self._sections.get(section, EMPTY)

    def age(self, section: Section) -> float | None:
        """Seconds since the section was put, by the monotonic clock; None where it never was."""
        snapshot = self.get(section)
        return None if snapshot.version == 0 else self._clock.monotonic() - snapshot.updated_monotonic

    def put(self, section: Section, value: Any) -> None:
        """Set a section; on the core loop only. An equal value renews its age and wakes nobody."""
        before = self.get(section)
        changed = before.version == 0 or before.value != value
        version = before.version + 1 if changed else before.version
        self._sections[section] = Snapshot(value, version, self._clock.wall(), self._clock.monotonic())
        if changed:
            for watch in self._watches:
                watch.notice(section)

    def watch(
        self,
        sections: Iterable[Section],
        callback: Callable[[frozenset[Section]], None],
        min_interval: float = 0.1,
    ) -> Watch:
        """Call `callback` with the changed sections, at most once per `min_interval` seconds."""
        watch = Watch(self, frozenset(sections), callback, min_interval)
        with self._lock:
            self._watches = (*self._watches, watch)
        return watch

    def watched(self, section: Section) -> bool:
        """Whether somebody is called when it changes; from any thread."""
        return any(section in watch.sections for watch in self._watches)

    def drop(self, watch: Watch) -> None:
        """Forget a watch."""
        with self._lock:
            self._watches = tuple(other for other in self._watches if other is not watch)
