"""What peers may reach through the hub, as a table of nftables named after the interface: replaced in one transaction.

Only packets that come out of the tunnel and are passed on are looked at; answers pass. A peer without a rule reaches the hub
itself and nothing behind it. Tables of others are not touched, and what they drop stays dropped.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from appliance.core.vpn.model import Rule
from appliance.errors import TunnelError
from appliance.hw.wireguard.faults import RIGHT
from appliance.hw.wireguard.space import Space

SECONDS = 10.0
PROGRAM = "nft"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Expression = dict[str, Any]


def table_name(interface: str) -> str:
    """The table of one interface."""
    return f"prime-spark-{interface}"


def ruleset(interface: str, rules: Sequence[Rule] | None) -> dict[str, list[Expression]]:
    """Commands for `nft -j`: the table made anew, or taken away. Raises ValueError for what is no network."""
    table = {"family": "inet", "name": table_name(interface)}
    commands: list[Expression] = [{"add": {"table": table}}, {"delete": {"table": table}}]
    if rules is not None:
        chain = {
            "family": "inet", "table": table["name"], "name": "forward",
            "type": "filter", "hook": "forward", "prio": 0, "policy": "accept",
        }  # fmt: skip
        commands += [{"add": {"table": table}}, {"add": {"chain": chain}}]
        for expressions in _expressions(interface, rules):
            rule = {"family": "inet", "table": table["name"], "chain": "forward", "expr": expressions}
            commands.append({"add": {"rule": rule}})
    return {"nftables": commands}


def _expressions(interface: str, rules: Sequence[Rule]) -> Iterator[list[Expression]]:
    inside = _match({"meta": {"key": "iifname"}}, interface)
    yield [inside, _match({"ct": {"key": "state"}}, ["established", "related"], "in"), {"accept": None}]
    for rule in rules:
        peer = ipaddress.ip_network(rule.peer)
        protocol = "ip6" if peer.version == 6 else "ip"
        source = _match({"payload": {"protocol": protocol, "field": "saddr"}}, _prefix(peer))
        allowed = _merged(rule.allow, peer.version)
        if allowed:
            target = _match({"payload": {"protocol": protocol, "field": "daddr"}}, {"set": [_prefix(net) for net in allowed]})
            yield [inside, source, target, {"accept": None}]
        yield [inside, source, {"counter": None}, {"drop": None}]
    yield [inside, {"counter": None}, {"drop": None}]


def _match(left: Expression, right: Any, op: str = "==") -> Expression:
    return {"match": {"op": op, "left": left, "right": right}}


def _prefix(net: Network) -> Expression | str:
    if net.prefixlen == net.max_prefixlen:
        return str(net.network_address)
    return {"prefix": {"addr": str(net.network_address), "len": net.prefixlen}}


def _merged(texts: Sequence[str], version: int) -> list[Network]:
    """Networks of one version without overlaps, which a set of nftables does not take."""
    nets = [ipaddress.ip_network(each) for each in texts]
    if version == 4:
        return list(ipaddress.collapse_addresses(net for net in nets if isinstance(net, ipaddress.IPv4Network)))
    return list(ipaddress.collapse_addresses(net for net in nets if isinstance(net, ipaddress.IPv6Network)))


def _count(interface: str, rules: Sequence[Rule] | None) -> int | None:
    """How many rules the table has to have; None for no table. Raises ValueError for what is no network."""
    return None if rules is None else sum(1 for _ in _expressions(interface, rules))


class Firewall:
    """The table of one interface."""

    def __init__(self, interface: str, space: Space) -> None:
        self.interface, self._space = interface, space
        self._made: tuple[Rule, ...] | None = None
        """What was made here last."""

    async def set(self, rules: Sequence[Rule] | None) -> bool:
        """Make the table exactly these; None takes it away. What stands already is left as it is.

        Returns:
            Whether somebody else had taken away what was made here.

        Raises:
            TunnelError: nft is not installed, or refused; the table is as it was.
        """
        program = shutil.which(PROGRAM)
        if program is None:
            if rules is None:
                return False
            raise TunnelError("Rules for peers need nftables, which is not installed.", "sudo apt-get install nftables")
        wanted = None if rules is None else tuple(rules)
        same = wanted == self._made
        try:
            if (same or wanted is None) and await self._standing(program) == _count(self.interface, wanted):
                self._made = wanted
                return False
            text = await asyncio.to_thread(lambda: json.dumps(ruleset(self.interface, rules)))
        except ValueError as error:
            raise TunnelError(f"A rule for a peer is none: {error}.", "correct it; the rules are as they were.") from None
        await self._run([program, "-j", "-f", "-"], text)
        self._made = wanted
        return same and wanted is not None

    async def _standing(self, program: str) -> int | None:
        """How many rules the table has; None where there is no table, or it cannot be seen."""
        argv = [program, "-j", "list", "table", "inet", table_name(self.interface)]
        done = await self._ask(argv, "")
        if done.returncode:
            return None
        try:
            return await asyncio.to_thread(lambda: sum("rule" in each for each in json.loads(done.stdout)["nftables"]))
        except (ValueError, KeyError, TypeError):
            return None

    async def _ask(self, argv: list[str], text: str) -> subprocess.CompletedProcess[str]:
        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603

        try:
            return await self._space.run(run)
        except subprocess.TimeoutExpired:
            raise TunnelError(f"nft did not end within {SECONDS:g} s.", "see whether another program holds nftables.") from None
        except OSError as error:
            raise TunnelError(f"nft could not be started: {error}.", "sudo apt-get install --reinstall nftables") from None

    async def _run(self, argv: list[str], text: str) -> None:
        done = await self._ask(argv, text)
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[0]
            raise TunnelError(f"nft refused the rules of {self.interface}: {said[:200]}.", RIGHT)
