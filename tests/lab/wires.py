"""The lab's networks: a LAN and a WAN with a switch each, and the router between them. Cuts and speed limits are made in the
switches, where no node can undo them.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from tests.lab.plan import HUB, ROUTER_LAN, ROUTER_WAN, VPN_PORT, Plan
from tests.servers.netns import Host, Net, Wire, call


class WireError(Exception):
    """A wire cannot be treated like that."""


@dataclass
class Switch:
    """One network's middle."""

    host: Host
    ports: dict[str, str]
    """Node (or "router") → the switch's end of its wire."""

    def rule(self, text: str) -> None:
        """Have nftables do something here."""
        self.host.run("nft", "-f", "-", text=text)


class Wires:
    """All of them, for the nodes of one lab."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.router = net.host("router")
        self.switches = {place: self._switch(place) for place in ("lan", "wan")}
        self.hosts: dict[str, Host] = {}
        self.wires: dict[str, Wire] = {}
        self.plans: dict[str, Plan] = {}
        self.cuts: set[tuple[str, str]] = set()
        self.slow: dict[tuple[str, str], str] = {}
        self._classes = itertools.count(10)
        self._plug("router", self.router, "lan", f"{ROUTER_LAN}/24")
        self._plug("router", self.router, "wan", f"{ROUTER_WAN}/24")
        self._route()

    def _switch(self, place: str) -> Switch:
        host = self.net.host(place)
        host.run("ip", "link", "add", "br0", "type", "bridge")
        host.run("ip", "link", "set", "br0", "up")
        made = Switch(host, {})
        made.rule("add table netdev lab\nadd set netdev lab cuts { type ipv4_addr . ipv4_addr; }")
        return made

    def _plug(self, name: str, host: Host, place: str, address: str, mac: str = "") -> Wire:
        switch = self.switches[place]
        wire = self.net.wire(host, switch.host, [])
        if mac:
            host.run("ip", "link", "set", wire.first_end, "address", mac)
        host.address(wire.first_end, address)
        switch.host.run("ip", "link", "set", wire.second_end, "master", "br0")
        switch.ports[name] = wire.second_end
        switch.rule(
            f"add chain netdev lab {wire.second_end} {{ type filter hook ingress device {wire.second_end} priority 0; }}\n"
            f"add rule netdev lab {wire.second_end} ip saddr . ip daddr @cuts drop"
        )
        return wire

    def _route(self) -> None:
        self.router.forward()
        self.router.run("nft", "-f", "-", text=f"""
            table ip nat {{
                chain in {{
                    type nat hook prerouting priority dstnat;
                    ip daddr {ROUTER_WAN} udp dport {VPN_PORT} dnat to {HUB.address}
                }}
                chain out {{
                    type nat hook postrouting priority srcnat;
                    oifname "eth1" masquerade
                    iifname "eth0" oifname "eth0" masquerade
                }}
                chain pass {{
                    type filter hook forward priority filter;
                    iifname "eth1" ct state established,related accept
                    iifname "eth1" ct status dnat accept
                    iifname "eth1" drop
                }}
            }}""")  # fmt: skip

    def add(self, plan: Plan) -> Host:
        """Give a node its network."""
        host = self.net.host(plan.name)
        self.hosts[plan.name], self.plans[plan.name] = host, plan
        self.wires[plan.name] = self._plug(plan.name, host, plan.place, f"{plan.address}/24", plan.mac)
        if plan.place == "lan":
            host.route("default", via=ROUTER_LAN)
        return host

    def power(self, name: str, *, on: bool) -> None:
        """A node's card as it is while the node is on or off; what the node had set up itself is gone."""
        host = self.hosts[name]
        if not on:
            host.run("nft", "flush", "ruleset")
            for line in call("ip", "-n", host.namespace, "-o", "link").splitlines():
                other = re.match(r"\d+: ([^:@]+)", line)
                if other and other[1] not in ("lo", "eth0"):
                    host.run("ip", "link", "delete", other[1], check=False)
            host.run("ip", "address", "flush", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up" if on else "down")
        if on:
            host.restore()

    def _addresses(self, name: str) -> tuple[str, str]:
        """Where a node is: switch and address. Raises WireError."""
        if name not in self.plans:
            raise WireError(f"there is no node {name}; next: `lab status` lists them")
        return self.plans[name].place, self.plans[name].address

    def cut(self, first: str, second: str) -> None:
        """Let nothing pass between two nodes; nobody is told."""
        self._cut(first, second, "add")
        self.cuts.add((min(first, second), max(first, second)))

    def heal(self, first: str = "", second: str = "") -> None:
        """End a cut and a slowness, or all of them."""
        wanted = {(min(first, second), max(first, second))} if first else self.cuts | set(self.slow)
        for pair in wanted:
            if pair in self.cuts:
                self._cut(*pair, "delete")
                self.cuts.discard(pair)
            if pair in self.slow:
                self._unslow(pair)

    def _cut(self, first: str, second: str, verb: str) -> None:
        pair = (min(first, second), max(first, second))
        if (verb == "add") == (pair in self.cuts):
            return
        (_, one), (_, other) = self._addresses(first), self._addresses(second)
        if first == second:
            raise WireError("a node cannot be cut off from itself; next: name two nodes")
        for switch in self.switches.values():
            switch.rule(f"{verb} element netdev lab cuts {{ {one} . {other}, {other} . {one} }}")

    def slow_down(self, first: str, second: str, rate: int, delay: int) -> None:
        """Let only so many kbit/s pass between two nodes, each way, and wait so many ms. Raises WireError."""
        pair = (min(first, second), max(first, second))
        self.heal(*pair)
        if delay and not has_netem(self.router):
            raise WireError("this kernel cannot delay packets (no netem); next: use --rate, whose queue delays them too")
        self.slow[pair] = " ".join([f"{rate} kbit/s" if rate else "", f"{delay} ms" if delay else ""]).strip()
        for source, aim in (pair, pair[::-1]):
            self._limit(source, aim, rate or 10_000_000, delay)

    def _limit(self, source: str, aim: str, rate: int, delay: int) -> None:
        (place, sender), (there, receiver) = self._addresses(source), self._addresses(aim)
        lan = "lan" in (place, there)
        switch = self.switches["lan" if lan else "wan"]
        port = switch.ports[aim] if there == ("lan" if lan else "wan") else switch.ports["router"]
        run, number = switch.host.run, next(self._classes)
        if "htb" not in run("tc", "qdisc", "show", "dev", port):
            run("tc", "qdisc", "add", "dev", port, "root", "handle", "1:", "htb")
        run(
            "tc",
            "class",
            "add",
            "dev",
            port,
            "parent",
            "1:",
            "classid",
            f"1:{number}",
            "htb",
            "rate",
            f"{rate}kbit",
            "quantum",
            "1514",
        )
        if delay:
            run("tc", "qdisc", "add", "dev", port, "parent", f"1:{number}", "netem", "delay", f"{delay}ms")
        else:
            run("tc", "qdisc", "add", "dev", port, "parent", f"1:{number}", "pfifo", "limit", "50")
        match = [] if place == "wan" and there == "lan" else ["match", "ip", "dst", f"{receiver}/32"]
        run("tc", "filter", "add", "dev", port, "parent", "1:", "protocol", "ip", "prio", str(number), "u32",
            "match", "ip", "src", f"{sender}/32", *match, "flowid", f"1:{number}")  # fmt: skip

    def _unslow(self, pair: tuple[str, str]) -> None:
        del self.slow[pair]
        left = dict(self.slow)
        self.slow.clear()
        for switch in self.switches.values():
            for port in switch.ports.values():
                if "htb" in switch.host.run("tc", "qdisc", "show", "dev", port):
                    switch.host.run("tc", "qdisc", "delete", "dev", port, "root")
        for (first, second), told in left.items():
            rate, delay = (re.search(rf"(\d+) {unit}", told) for unit in ("kbit/s", "ms"))
            self.slow_down(first, second, int(rate[1]) if rate else 0, int(delay[1]) if delay else 0)


def has_netem(host: Host) -> bool:
    """Whether this kernel can delay packets."""
    said = host.run("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "0ms", check=False)
    there = "netem" in host.run("tc", "qdisc", "show", "dev", "lo")
    if there:
        host.run("tc", "qdisc", "delete", "dev", "lo", "root")
    return there and not said
