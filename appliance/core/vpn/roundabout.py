"""What lies around a tunnel: the way to an endpoint, what comes back from there, forwarding, firewall rules. All block."""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

IP_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""Level and option (ip(7), ipv6(7))."""
ORIGINS = {2: 4, 3: 6}
"""SO_EE_ORIGIN_ICMP and _ICMP6 → version of IP."""
WAIT = 1.0
"""Seconds for an answer; ARP gives up after three."""
ARP = 3.5
SECONDS = 5.0


class Around(msgspec.Struct, frozen=True):
    """What an endpoint says to a packet that it does not know."""

    route: str = ""
    """Why there is no way; empty where there is one."""
    refused: bool = False
    unreachable: bool = False
    prohibited: bool = False


def ask(address: str, port: int, wait: float = ARP) -> Around:
    """Send one byte to a UDP port, and hear whether an error comes back: WireGuard itself is silent, and so is a good sign.

    Args:
        address: IPv4 or IPv6.
        port: UDP.
        wait: Seconds to listen.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        level, option = IP_RECVERR[family]
        sock.setsockopt(level, option, 1)
        try:
            sock.connect((address, port))
            sock.send(b"\0")
        except OSError as error:
            return _refused(error)
        ends = time.monotonic() + wait
        waiter = select.poll()
        waiter.register(sock, select.POLLERR)
        while (left := ends - time.monotonic()) > 0:
            if waiter.poll(left * 1000) and (found := _told(sock)) is not None:
                return found
    return Around()


def _refused(error: OSError) -> Around:
    if error.errno in {errno.EPERM, errno.EACCES}:
        return Around(prohibited=True)
    if error.errno == errno.ECONNREFUSED:
        return Around(refused=True)
    return Around(route=error.strerror or str(error))


def _told(sock: socket.socket) -> Around | None:
    """The error in the socket's queue (struct sock_extended_err); None where there is none."""
    try:
        _, ancillary, _, _ = sock.recvmsg(64, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError:
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return None
    for _, _, data in ancillary:
        if len(data) >= 8:
            number, origin, kind, code = struct.unpack_from("=IBBB", data)
            return _meaning(number, ORIGINS.get(origin, 0), kind, code)
    return None


def _meaning(number: int, version: int, kind: int, code: int) -> Around:
    """An ICMP error (RFC 792 type 3, RFC 4443 type 1), or one of this machine's own."""
    prohibited = {(4, 3, 9), (4, 3, 10), (4, 3, 13), (6, 1, 1)}
    if (version, kind, code) in prohibited or number in {errno.EPERM, errno.EACCES}:
        return Around(prohibited=True)
    if (version, kind, code) in {(4, 3, 3), (6, 1, 4)} or number == errno.ECONNREFUSED:
        return Around(refused=True)
    return Around(unreachable=number in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}) if number else Around()


def forwards(version: int = 4) -> bool | None:
    """Whether this machine passes packets on; None where it does not say."""
    name = "ipv4/ip_forward" if version == 4 else "ipv6/conf/all/forwarding"
    try:
        return Path(f"/proc/sys/net/{name}").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return None


def ruleset() -> dict[str, Any]:
    """The firewall's rules as nft tells them; empty where it cannot be asked."""
    program = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return {}
    try:
        done = subprocess.run([program, "-j", "list", "ruleset"], capture_output=True, timeout=SECONDS, check=False)  # noqa: S603
        found = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def drops(rules: Mapping[str, Any], port: int) -> str:
    """The rule that keeps UDP to a port out of this machine, in words; empty where none is seen.

    Args:
        rules: As `nft -j list ruleset` has them.
        port: UDP.
    """
    entries = rules.get("nftables", ())
    chains = [entry["chain"] for entry in entries if "chain" in entry and entry["chain"].get("hook") == "input"]
    for chain in chains:
        where = f"table {chain['family']} {chain['table']}, chain {chain['name']}"
        mine = [
            entry["rule"] for entry in entries
            if "rule" in entry and (entry["rule"]["family"], entry["rule"]["table"], entry["rule"]["chain"])
            == (chain["family"], chain["table"], chain["name"])
        ]  # fmt: skip
        verdict = _verdict(mine, port)
        if verdict in {"drop", "reject"}:
            return f"{where}: a rule says {verdict} for it"
        if not verdict and chain.get("policy") == "drop":
            return f"{where}: its policy is drop, and no rule accepts it"
    return ""


def _verdict(rules: list[Mapping[str, Any]], port: int) -> str:
    """What the first rule that names the port, or all of UDP, says; empty where none does."""
    for rule in rules:
        expressions = rule.get("expr", ())
        matches = [each["match"] for each in expressions if "match" in each]
        said = next((word for word in ("accept", "drop", "reject") if any(word in each for each in expressions)), "")
        if said and matches and all(_fits(match, port) for match in matches):
            return said
    return ""


def _fits(match: Mapping[str, Any], port: int) -> bool:
    """Whether a match is one on UDP to this port; anything else may not hold for it."""
    left, right = match.get("left", {}), match.get("right")
    payload = left.get("payload", {}) if isinstance(left, dict) else {}
    if payload.get("protocol") in {"udp", "th"} and payload.get("field") == "dport":
        return port in set(_ports(right)) and match.get("op") in {"==", "in"}
    return isinstance(left, dict) and left.get("meta", {}).get("key") == "l4proto" and right in {"udp", 17}


def _ports(right: Any) -> Iterator[int]:
    if isinstance(right, int):
        yield right
    elif isinstance(right, dict) and "range" in right:
        low, high = right["range"]
        yield from range(int(low), int(high) + 1)
    elif isinstance(right, dict) and "set" in right:
        for each in right["set"]:
            yield from _ports(each)
