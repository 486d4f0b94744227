"""Who is in the lab: nodes, their places and addresses (those for documentation and benchmarks: RFC 5737, RFC 2544)."""

from __future__ import annotations

from dataclasses import dataclass, replace

LAN, WAN, VPN = "192.0.2", "203.0.113", "198.18.8"
VPN_SUBNET = f"{VPN}.0/24"
VPN_PORT = 51820
ROUTER_LAN, ROUTER_WAN = f"{LAN}.1", f"{WAN}.1"
FIRST_ADDED = 150
"""Last number of the first node that was added."""


@dataclass(frozen=True)
class Plan:
    """One node.

    Attributes:
        name: Of the node, and its host name.
        role: What it is for.
        place: "lan" or "wan".
        number: Last number of its address.
        vpn: Last number of its address in the VPN; 0 where it is not in it.
        services: Units that it runs besides its SSH server; those of the full lab.
        groups: In the inventory.
        checkout: It sees the checkout and its Python: the appliance runs there.
        containers: It may run containers (it keeps the rights that those need).
    """

    name: str
    role: str
    place: str
    number: int
    vpn: int = 0
    services: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    checkout: bool = False
    containers: bool = False

    @property
    def address(self) -> str:
        """In its own network."""
        return f"{LAN if self.place == 'lan' else WAN}.{self.number}"

    @property
    def vpn_address(self) -> str:
        """In the VPN; empty where it has none."""
        return f"{VPN}.{self.vpn}" if self.vpn else ""

    @property
    def mac(self) -> str:
        """Of its card: locally administered."""
        return f"02:70:73:{0 if self.place == 'lan' else 1:02x}:00:{self.number:02x}"


FLEET = (
    Plan("control-pc", "appliance", "lan", 100, 2, ("redis-server",), ("edge",), checkout=True),
    Plan("spark-agent", "voice", "lan", 92, 3, (), ("edge",)),
    Plan("nas", "storage", "lan", 49, 0, ("nut-server",), ("edge",)),
    Plan("primecore1", "orchestration", "wan", 11, 11, (), ("cloud",)),
    Plan("primecore2", "memory", "wan", 12, 12, ("postgresql",), ("cloud",)),
    Plan("primecore3", "voice", "wan", 13, 13, (), ("cloud",)),
    Plan("primecore4", "services", "wan", 14, 14, ("postgresql", "kafka", "seaweedfs"), ("cloud",)),
)
"""The owner's own design, with addresses that are nobody's."""
HUB = FLEET[0]


def chosen(names: str, containers: str) -> tuple[Plan, ...]:
    """The nodes that are wanted ("" for all), those with containers marked. Raises ValueError."""
    known = {plan.name: plan for plan in FLEET}
    wanted = [name for name in names.split(",") if name] or list(known)
    boxed = [name for name in containers.split(",") if name]
    for name in (*wanted, *boxed):
        if name not in known:
            raise ValueError(f"there is no node {name} in the lab's plan; next: choose from {', '.join(known)}")
    return tuple(replace(known[name], containers=name in boxed) for name in wanted)


def added(name: str, taken: set[int], *, containers: bool = False) -> Plan:
    """An empty node on the LAN."""
    number = next(each for each in range(FIRST_ADDED, 250) if each not in taken)
    return Plan(name, "", "lan", number, containers=containers)
