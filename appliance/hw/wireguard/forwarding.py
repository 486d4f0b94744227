"""Whether the kernel passes packets of peers on. Our own interface's switch is ours to set; those of the machine are not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from appliance.errors import TunnelError
from appliance.hw.wireguard.space import Space

SETTINGS = Path("/proc/sys/net")
VERSIONS = {4: "ipv4", 6: "ipv6"}


async def open_for(interface: str, space: Space, versions: Iterable[int], beyond: Iterable[int]) -> None:
    """Let packets that come out of the tunnel be passed on.

    Args:
        interface: The tunnel.
        space: Where it is.
        versions: 4, 6, for what rules allow.
        beyond: Those of them for which rules allow networks outside of the VPN; answers come in through other interfaces.

    Raises:
        TunnelError: The machine does not forward, with the command that makes it.
    """
    closed = await space.run(lambda: [each for each in VERSIONS if not _opened(interface, each, set(versions), set(beyond))])
    if closed:
        names = ["net.ipv4.ip_forward=1" if each == 4 else "net.ipv6.conf.all.forwarding=1" for each in closed]
        raise TunnelError(
            f"Peers may reach others through this machine, but it passes no {' or '.join(f'IPv{each}' for each in closed)} on.",
            f"sudo sysctl -w {' '.join(names)} (and write it to /etc/sysctl.d to keep it)",
        )


def _opened(interface: str, version: int, versions: set[int], beyond: set[int]) -> bool:
    if version not in versions:
        return True
    whole = SETTINGS / VERSIONS[version] / "conf/all/forwarding"
    if _read(whole) == "1":
        return True
    if version in beyond:
        return False
    name = "forwarding" if version == 4 else "force_forwarding"
    return _set(SETTINGS / VERSIONS[version] / "conf" / interface / name)


def _set(path: Path) -> bool:
    if _read(path) == "1":
        return True
    try:
        path.write_text("1")
    except OSError:
        return False  # an older kernel (IPv6), or /proc/sys may not be written: the caller says what to do
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
