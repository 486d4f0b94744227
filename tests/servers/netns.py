"""Hosts for tests: network namespaces joined by wires, switches and NAT routers. Nothing outside of them is touched.

    with Net() as net:
        hub, spoke = net.host("hub"), net.host("spoke")
        net.wire(hub, spoke, "192.0.2.1/24", "192.0.2.2/24")
        spoke.run("ping", "-c1", "192.0.2.1")

Give a WireGuard interface a name of `host.interface()`: userspace sockets lie in one directory for all namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support import capability, needs_program, wait_for_sync

SOCKETS = Path("/var/run/wireguard")
NAMESPACES = Path("/run/netns")
CLONE_NEWNET = 0x40000000
T = TypeVar("T")
_numbers = itertools.count(1)


def needs_namespaces(*programs: str) -> None:
    """Skip the test, with the reason, where namespaces cannot be made or programs are missing."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root: sudo make test")
    for name in ("ip", "nft", *programs):
        needs_program(name)


def needs_wireguard() -> None:
    """Skip the test where no tunnel can be made in user space."""
    needs_namespaces("wireguard-go", "wg")
    capability(Path("/dev/net/tun").exists(), "/dev/net/tun")


def call(*argv: str, check: bool = True, text: str | None = None, limit: float = 30.0) -> str:
    """What a program says; AssertionError with its complaint where it fails."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=limit, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Wire:
    """Two ends of a veth pair. Cut and joined at its second end: the first one sees its carrier go."""

    def __init__(self, first: Host, second: Host, ends: tuple[str, str]) -> None:
        self.first, self.second = first, second
        self.first_end, self.second_end = ends

    def cut(self) -> None:
        """Unplug it."""
        self.second.run("ip", "link", "set", self.second_end, "down")

    def join(self) -> None:
        """Plug it in again, with addresses and routes as they were."""
        self.second.run("ip", "link", "set", self.second_end, "up")
        self.second.restore()
        for host, end in ((self.first, self.first_end), (self.second, self.second_end)):
            wait_for_sync(lambda host=host, end=end: host.is_up(end), message=f"{end} of {host.name} is up")

    def swallow(self, *, udp: bool = False) -> None:
        """Let nothing through any more (or no UDP), while the link stays up: nobody is told."""
        what = "meta l4proto udp drop" if udp else "drop"
        rules = (
            f"add table netdev wire_{self.second_end}\n"
            f"add chain netdev wire_{self.second_end} in {{ type filter hook ingress device {self.second_end} priority 0; }}\n"
            f"add rule netdev wire_{self.second_end} in {what}\n"
        )
        self.second.run("nft", "-f", "-", text=rules)
        self.first.run("nft", "-f", "-", text=rules.replace(self.second_end, self.first_end))

    def pass_again(self) -> None:
        """End `swallow`."""
        self.second.run("nft", "delete", "table", "netdev", f"wire_{self.second_end}")
        self.first.run("nft", "delete", "table", "netdev", f"wire_{self.first_end}")

    def mtu(self, size: int) -> None:
        """The largest packet of both ends, bytes."""
        self.first.run("ip", "link", "set", self.first_end, "mtu", str(size))
        self.second.run("ip", "link", "set", self.second_end, "mtu", str(size))


class Host:
    """One network namespace."""

    def __init__(self, name: str, namespace: str) -> None:
        self.name, self.namespace = name, namespace
        self.interfaces: list[str] = []
        self._kept: list[tuple[str, ...]] = []
        self._ends = itertools.count()
        call("ip", "netns", "add", namespace)
        self.run("ip", "link", "set", "lo", "up")
        self.sysctl("net.ipv6.conf.default.accept_dad", "0")
        self.sysctl("net.ipv6.conf.default.keep_addr_on_down", "1")

    def run(self, *argv: str, check: bool = True, text: str | None = None, limit: float = 30.0) -> str:
        """What a program says that ran here."""
        return call("ip", "netns", "exec", self.namespace, *argv, check=check, text=text, limit=limit)

    def spawn(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program here; ended with the namespace at the latest."""
        return subprocess.Popen(["ip", "netns", "exec", self.namespace, *argv], **options)

    def within(self, function: Callable[[], T]) -> T:
        """The result of a function that a thread calls in this namespace (sockets made in it stay here)."""

        def work() -> T:
            enter(self.namespace)
            return function()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(work).result()

    def sysctl(self, name: str, value: str) -> None:
        """Set a kernel variable of this namespace."""
        self.run("sysctl", "-q", "-w", f"{name}={value}")

    def interface(self) -> str:
        """A name for a WireGuard interface that no other test uses; its socket is removed at the end."""
        name = f"wg{os.getpid() % 1_000_000:x}x{next(_numbers)}"
        self.interfaces.append(name)
        return name

    def end(self, prefix: str = "eth") -> str:
        """The next free name for an interface here."""
        return f"{prefix}{next(self._ends)}"

    def address(self, interface: str, *addresses: str) -> None:
        """Give an interface addresses, with prefix length."""
        for each in addresses:
            self._keep("ip", "address", "replace", each, "dev", interface, *(["nodad"] if ":" in each else []))

    def readdress(self, interface: str, *addresses: str) -> None:
        """Take an interface's addresses away and give it others (the machine moved); routes through it are to be made anew."""
        self.run("ip", "address", "flush", "dev", interface, "scope", "global")
        self._kept = [kept for kept in self._kept if interface not in kept]
        self.address(interface, *addresses)

    def route(self, network: str, *, via: str = "", dev: str = "") -> None:
        """Reach a network ("default", "10.0.0.0/8", "default6") through a gateway or an interface."""
        family = "-6" if ":" in network + via or network == "default6" else "-4"
        way = [*(["via", via] if via else []), *(["dev", dev] if dev else [])]
        self._keep("ip", family, "route", "replace", network.removesuffix("6") if network == "default6" else network, *way)

    def _keep(self, *argv: str) -> None:
        self.run(*argv)
        self._kept.append(argv)

    def restore(self) -> None:
        """Make addresses and routes again that went with a link."""
        for argv in self._kept:
            self.run(*argv)

    def is_up(self, interface: str) -> bool:
        """The kernel has noticed the carrier, which takes up to a second."""
        return " UP " in self.run("ip", "-br", "link", "show", "dev", interface)

    def forward(self) -> None:
        """Pass packets on between interfaces."""
        self.sysctl("net.ipv4.ip_forward", "1")
        self.sysctl("net.ipv6.conf.all.forwarding", "1")

    def masquerade(self, interface: str) -> None:
        """Hide what leaves through an interface behind its address (NAT); new flows from outside do not come in."""
        self.forward()
        self.run(
            "nft", "-f", "-",
            text=f"""
            table inet nat {{
                chain out {{ type nat hook postrouting priority srcnat; oifname "{interface}" masquerade; }}
                chain pass {{
                    type filter hook forward priority filter;
                    iifname "{interface}" ct state established,related accept
                    iifname "{interface}" drop
                }}
            }}""",
        )  # fmt: skip

    def pids(self) -> list[int]:
        """Processes that run here."""
        return [int(word) for word in call("ip", "netns", "pids", self.namespace, check=False).split()]

    def close(self) -> None:
        """End what runs here, remove the namespace and the sockets of its interfaces."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            ends = time.monotonic() + 3
            while self.pids() and time.monotonic() < ends:
                reap()
                time.sleep(0.01)
        call("ip", "netns", "delete", self.namespace, check=False)
        for name in self.interfaces:
            (SOCKETS / f"{name}.sock").unlink(missing_ok=True)


def reap() -> None:
    """Take leave of children of ours that ended, the driver's detached processes among them."""
    for entry in Path(f"/proc/self/task/{threading.get_native_id()}").glob("children"):
        for word in entry.read_text().split():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{word}/stat").read_text()
                if stat.rpartition(")")[2].split()[0] == "Z" and "wireguard-go" in stat:
                    os.waitpid(int(word), os.WNOHANG)


def enter(namespace: str) -> None:
    """Move the calling thread into a namespace; for threads that end soon."""
    enter_path(NAMESPACES / namespace)


def enter_path(path: Path) -> None:
    """The same, by a file of the namespace's."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")


class Net:
    """All hosts of one test."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self._token = f"ps{os.getpid() % 1_000_000:x}n{next(_numbers)}"

    def __enter__(self) -> Net:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def host(self, name: str) -> Host:
        """A machine of its own, with nothing but loopback."""
        made = Host(name, f"{self._token}-{name}")
        self.hosts.append(made)
        return made

    def wire(
        self, first: Host, second: Host, first_addresses: str | Sequence[str] = (), second_addresses: str | Sequence[str] = ()
    ) -> Wire:
        """Join two hosts; each end gets its addresses (with prefix length)."""
        ends = first.end(), second.end()
        call(
            "ip", "link", "add", ends[0], "netns", first.namespace, "type", "veth", "peer", "name", ends[1],
            "netns", second.namespace,
        )  # fmt: skip
        for host, end, addresses in ((first, ends[0], first_addresses), (second, ends[1], second_addresses)):
            host.run("ip", "link", "set", end, "up")
            host.address(end, *([addresses] if isinstance(addresses, str) else addresses))
        return Wire(first, second, ends)

    def switch(self, hosts: Sequence[Host], subnet: str = "192.0.2.0/24", subnet6: str = "") -> list[Wire]:
        """Join hosts to one network; the n-th has its n-th address (from 1). Wires in the order of the hosts."""
        middle = self.host(f"sw{len(self.hosts)}")
        middle.run("ip", "link", "add", "br0", "type", "bridge")
        middle.run("ip", "link", "set", "br0", "up")
        wires = []
        for number, host in enumerate(hosts, 1):
            addresses = [f"{net[number]}/{net.prefixlen}" for net in map(ipaddress.ip_network, filter(None, (subnet, subnet6)))]
            wire = self.wire(host, middle, addresses)
            middle.run("ip", "link", "set", wire.second_end, "master", "br0")
            wires.append(wire)
        return wires

    def close(self) -> None:
        """Remove all of it."""
        for host in self.hosts:
            host.close()
        self.hosts.clear()


@pytest.fixture
def net() -> Iterator[Net]:
    """An empty set of hosts; the test is skipped where there can be none."""
    needs_wireguard()
    with Net() as made:
        yield made
