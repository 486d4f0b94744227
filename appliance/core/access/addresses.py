"""Names and addresses that this machine has, for its certificate; from the kernel's tables alone, nobody is asked."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

FIB, IPV6 = Path("/proc/net/fib_trie"), Path("/proc/net/if_inet6")


def own_names(device_id: str, further: Iterable[str] = ()) -> list[str]:
    """All, without repetition: loopback, host name, .local name (RFC 6762), addresses, and the configured ones."""
    host = socket.gethostname()
    named = ["localhost", host, f"{host.partition('.')[0]}.local", device_id, *further]
    return list(dict.fromkeys([*named, "127.0.0.1", "::1", *addresses()]))


def addresses() -> list[str]:
    """Addresses of all interfaces but link-local ones, which need a zone; blocks for less than a millisecond."""
    found: set[ipaddress.IPv4Address | ipaddress.IPv6Address] = {*local_v4(_text(FIB)), *v6(_text(IPV6))}
    kept = [each for each in found if not each.is_link_local and not each.is_loopback]
    return [str(each) for each in sorted(kept, key=lambda each: (each.version, each.packed))]


def local_v4(text: str) -> list[ipaddress.IPv4Address]:
    """Addresses in /proc/net/fib_trie: a leaf "|-- ADDRESS", and below it "/32 host LOCAL"."""
    found, leaf = [], ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("|-- "):
            leaf = stripped[4:]
        elif stripped == "/32 host LOCAL" and leaf:
            found.append(ipaddress.IPv4Address(leaf))
    return found


def v6(text: str) -> list[ipaddress.IPv6Address]:
    """Addresses in /proc/net/if_inet6: 32 hexadecimal digits begin each line."""
    return [ipaddress.IPv6Address(int(line.split()[0], 16)) for line in text.splitlines() if line.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # no such protocol in this kernel: no addresses of it
        return ""
