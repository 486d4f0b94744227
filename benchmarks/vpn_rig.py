"""Tunnels without us: wireguard-go, wg and ip, as an administrator would type them; and what is measured over a tunnel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from appliance.core.vpn.model import WantedTunnel
from tests.servers.netns import SOCKETS, Host
from tests.support import wait_for_sync

IPERF_SECONDS = 3


def missing() -> str:
    """What keeps the benchmark from running here; empty for nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    gone = [name for name in ("wireguard-go", "wg", "ip", "nft", "iperf3") if shutil.which(name) is None]
    return f"not installed: {', '.join(gone)}" if gone else ""


def configuration(wanted: WantedTunnel) -> str:
    """A tunnel as `wg setconf` reads it."""
    lines = ["[Interface]", f"PrivateKey = {wanted.private_key}", f"ListenPort = {wanted.listen_port}"]
    for peer in wanted.peers:
        lines += ["[Peer]", f"PublicKey = {peer.public_key}", f"AllowedIPs = {', '.join(peer.allowed)}"]
        if peer.endpoint is not None:
            lines.append(f"Endpoint = {peer.endpoint.address}:{peer.endpoint.port}")
        if peer.preshared:
            lines.append(f"PresharedKey = {peer.preshared}")
        lines.append(f"PersistentKeepalive = {peer.keepalive}")
    return "\n".join(lines) + "\n"


class Bare:
    """One interface, made by hand."""

    def __init__(self, host: Host, wanted: WantedTunnel, folder: Path) -> None:
        self.host, self.wanted = host, wanted
        self.file = folder / f"{wanted.name}.conf"

    def up(self) -> None:
        """From nothing."""
        environ = {**os.environ, "LOG_LEVEL": "error"}
        name = self.wanted.name
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # In a session of its own, as ours is: the scheduler shares the processor out by session.
        self.host.spawn("wireguard-go", "-f", name, env=environ, start_new_session=True, **quiet)
        wait_for_sync((SOCKETS / f"{name}.sock").exists)
        self.sync("setconf")
        for address in self.wanted.addresses:
            self.host.run("ip", "address", "add", address, "dev", name)
        self.host.run("ip", "link", "set", name, "mtu", str(self.wanted.mtu), "up")

    def sync(self, command: str) -> None:
        """`wg setconf` or `wg syncconf` with what is wanted."""
        self.file.write_text(configuration(self.wanted))
        self.file.chmod(0o600)
        self.host.run("wg", command, self.wanted.name, str(self.file))

    def reaches(self, address: str) -> bool:
        """One echo request is answered."""
        return "1 received" in self.host.run("ping", "-c1", "-W1", "-n", address, check=False)


def iperf(client: Host, server: Host, address: str) -> float:
    """What goes through a tunnel by TCP, Mbit/s at the receiver."""
    listening = server.spawn("iperf3", "-s", "-1", "-B", address, stdout=subprocess.DEVNULL)
    wait_for_sync(lambda: ":5201" in server.run("ss", "-ltn"))
    said = client.run("iperf3", "-c", address, "-t", str(IPERF_SECONDS), "-J", limit=IPERF_SECONDS + 20)
    listening.wait(10)
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e6


def seconds_since(began: float) -> float:
    """Elapsed."""
    return time.perf_counter() - began


def tell(text: str) -> None:
    """To the person who waits."""
    print(text, file=sys.stderr)


def middle(numbers: Sequence[float]) -> float:
    """The median of an odd number of figures."""
    return sorted(numbers)[len(numbers) // 2]
