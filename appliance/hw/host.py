"""The host's own numbers, by psutil and sysfs."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from pathlib import Path

import psutil

from appliance.core.model import HostSample, NetworkCounters
from appliance.hw.thermal import temperature, throttled

INTERFACES = Path("/sys/class/net")
"""Where the kernel tells of interfaces; those of devices have `device` there."""


class PsutilHost:
    """Reads this machine (implements ports.HostProbe). Rates are over the time since the reading before.

    Args:
        disk: A path on the file system whose usage is told.
        sysfs: Where sysfs is mounted.
    """

    def __init__(self, disk: Path, sysfs: Path = Path("/sys")) -> None:
        self._disk = disk
        self._sysfs = sysfs
        self._process = psutil.Process()
        self._before: tuple[float, dict[str, tuple[int, int]]] | None = None

    def read(self) -> HostSample:
        """One reading; blocks for some milliseconds. Raises OSError."""
        first = self._before is None
        per_core = psutil.cpu_percent(percpu=True)
        process_cpu = self._process.cpu_percent()
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        disk = psutil.disk_usage(str(self._disk))
        loads = os.getloadavg()
        return HostSample(
            time=time.time(),
            hostname=socket.gethostname(),
            cpu_usage=None if first else round(sum(per_core) / len(per_core), 1),
            cpu_per_core=() if first else tuple(per_core),
            memory_usage=memory.percent,
            memory_total=memory.total,
            memory_used=memory.total - memory.available,
            swap_usage=swap.percent if swap.total else None,
            disk_usage=disk.percent,
            disk_total=disk.total,
            disk_free=disk.free,
            temperature_c=temperature(self._sysfs),
            throttled=throttled(self._sysfs),
            load_1m=round(loads[0], 2),
            load_5m=round(loads[1], 2),
            load_15m=round(loads[2], 2),
            uptime_s=time.clock_gettime(time.CLOCK_BOOTTIME),
            network=self._network(),
            process_cpu=None if first else process_cpu,
            process_rss=self._process.memory_info().rss,
        )

    def _network(self) -> tuple[NetworkCounters, ...]:
        now = time.monotonic()
        counters = psutil.net_io_counters(pernic=True)
        links = psutil.net_if_stats()
        before_time, before = self._before or (now, {})
        elapsed = now - before_time
        self._before = (now, {name: (c.bytes_sent, c.bytes_recv) for name, c in counters.items()})
        found = []
        for name, count in sorted(counters.items()):
            rates = _rates((count.bytes_sent, count.bytes_recv), before.get(name), elapsed)
            up = name in links and links[name].isup
            found.append(NetworkCounters(name, count.bytes_sent, count.bytes_recv, *rates, up))
        return tuple(found)


def _rates(now: tuple[int, int], before: tuple[int, int] | None, elapsed: float) -> tuple[float | None, float | None]:
    """Bytes per second; None without an earlier reading or where a counter was reset."""
    if before is None or elapsed <= 0 or now[0] < before[0] or now[1] < before[1]:
        return None, None
    return (now[0] - before[0]) / elapsed, (now[1] - before[1]) / elapsed


def connected(sysfs: Path = INTERFACES) -> bool:
    """Whether an interface of a device (none that a program made) is up and has an address that reaches beyond its own link.

    Args:
        sysfs: The directory of the interfaces.
    """
    stats = psutil.net_if_stats()
    for name, addresses in psutil.net_if_addrs().items():
        if name not in stats or not stats[name].isup or not (sysfs / name / "device").exists():
            continue
        if any(_reaches(each.address) for each in addresses if each.family in {socket.AF_INET, socket.AF_INET6}):
            return True
    return False


def _reaches(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    return not (address.is_link_local or address.is_loopback or address.is_unspecified)
