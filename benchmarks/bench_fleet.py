"""Facts and metrics of a hundred real SSH servers beside Ansible's in the same run, and what a thousand nodes cost here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from appliance.core.clock import SystemClock
from appliance.core.figures import percentile
from appliance.core.fleet.asking import ask
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import FleetStatus, Node, Reach
from appliance.core.fleet.rounds import Rhythm
from appliance.core.fleet.service import FleetService, Ground
from appliance.core.state import LiveState, Section
from benchmarks.fleet_rig import FORKS, Hosts, Simulated, hosts, missing
from benchmarks.rows import Figure, at_least, at_most
from benchmarks.vpn_rig import tell
from tests.support import wait_for

HOSTS, THOUSAND = 100, 1000
WATCHED = 30.0
"""Seconds for which the thousand are watched."""
BUDGET, TIMES = 3.0, 5.0
"""Seconds for facts of all; and how many times faster than Ansible."""
ROUNDS = 3


def run() -> list[Figure]:
    """All of it; of the servers nothing where they cannot be had."""
    figures = asyncio.run(_thousand())
    if problem := missing():
        tell(f"fleet: not measured beside Ansible: {problem}")
        return figures
    with hosts(HOSTS) as servers:
        return [*_beside_ansible(servers), *figures]


def _beside_ansible(servers: Hosts) -> list[Figure]:
    cold, warm = asyncio.run(_ours(servers))
    setup, shell = servers.ansible("setup"), servers.ansible("shell", "-a", "uptime")
    piped, piped_shell = servers.ansible("setup", pipelining=True), servers.ansible("shell", "-a", "uptime", pipelining=True)
    first, second = f"ansible -m setup, {FORKS} forks", f"ansible -m shell, {FORKS} forks"
    faster = min(setup / cold["facts"], shell / cold["metrics"])
    return [
        at_most(f"facts of {HOSTS} sshd, with connecting", cold["facts"], "s", BUDGET, first, round(setup, 2)),
        at_most(f"facts of {HOSTS} sshd, connected", warm["facts"], "s", BUDGET, "the same, pipelining", round(piped, 2)),
        at_most(f"numbers of {HOSTS} sshd, with connecting", cold["metrics"], "s", BUDGET, second, round(shell, 2)),
        at_most(
            f"numbers of {HOSTS} sshd, connected", warm["metrics"], "s", BUDGET, "the same, pipelining", round(piped_shell, 2)
        ),
        at_least("faster than Ansible with connecting, the worse of facts and numbers", faster, "times", TIMES),
        Figure("our own CPU for facts with connecting", round(cold["cpu"], 2), "s"),
        Figure("our own CPU for facts, connected", round(warm["cpu"], 2), "s"),
    ]


async def _ours(servers: Hosts) -> tuple[dict[str, float], dict[str, float]]:
    """Medians of rounds: each cold one with links of its own, each warm one over links that stand."""
    cold: dict[str, list[float]] = {"facts": [], "metrics": [], "cpu": []}
    warm: dict[str, list[float]] = {"facts": [], "metrics": [], "cpu": []}
    for _ in range(ROUNDS):
        for name, kind in (("metrics", "metrics"), ("facts", "host")):
            links = servers.links()
            try:
                took, cpu = await _timed(lambda links=links, kind=kind: _all(links, servers, kind))  # type: ignore[misc]
                cold[name].append(took)
                again, cpu_again = await _timed(lambda links=links, kind=kind: _all(links, servers, kind))  # type: ignore[misc]
                warm[name].append(again)
                if name == "facts":
                    cold["cpu"].append(cpu)
                    warm["cpu"].append(cpu_again)
            finally:
                await links.close()
    return ({name: percentile(each, 0.5) for name, each in found.items()} for found in (cold, warm))  # type: ignore[return-value]


async def _timed(work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    began, used = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - began, time.process_time() - used


async def _all(links: Links, servers: Hosts, kind: str) -> None:
    clock, lane = SystemClock(), asyncio.Semaphore(Rhythm().connecting)

    async def one(node: Node) -> None:
        async with lane:
            said = await ask(links, clock, node.name, kind)
        assert said.answers.fields

    await asyncio.gather(*(one(node) for node in servers.nodes))


# -- a thousand that are not there -----------------------------------------------------------------------------------------


async def _nothing(*_: Any) -> None:
    """Nobody listens."""


async def _thousand() -> list[Figure]:
    nodes = tuple(
        Node(name=f"n{number:04}", host="192.0.2.1", services=("ssh.service", "tcp:22")) for number in range(THOUSAND)
    )
    clock = SystemClock()
    state, shell = LiveState(clock), Simulated(nodes)
    service = FleetService(Ground(
        inventory=FleetInventory(nodes), shell=shell, state=state, clock=clock, note=_nothing, publish=_nothing,  # type: ignore[arg-type]
        rhythm=Rhythm(updates=False),
    ))  # fmt: skip
    await service.start()
    running = asyncio.create_task(service.run())
    try:
        await wait_for(lambda: _known(state), 120.0, every=0.1)
        return await _watched(service, state, shell)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await service.stop()


def _known(state: LiveState) -> bool:
    status = state.get(Section.fleet).value
    nodes = status.nodes if isinstance(status, FleetStatus) else ()
    return len(nodes) == THOUSAND and all(node.facts is not None and node.link.reach is Reach.up for node in nodes)


async def _watched(service: FleetService, state: LiveState, shell: Simulated) -> list[Figure]:
    lags: list[float] = []
    asked, used, version = shell.runs, time.process_time(), state.get(Section.fleet).version
    ends = began = time.perf_counter()
    while ends - began < WATCHED:
        await asyncio.sleep(0.01)
        now = time.perf_counter()
        lags.append(now - ends - 0.01)
        ends = now
    share = 100.0 * (time.process_time() - used) / (ends - began)
    rate, puts = (shell.runs - asked) / (ends - began), (state.get(Section.fleet).version - version) / (ends - began)
    began = time.perf_counter()
    for watch in service.monitor.watches.values():
        service.monitor.changed(watch)
    service.monitor.show()
    shown = time.perf_counter() - began
    size = len(msgspec.json.encode(state.get(Section.fleet).value))
    return [
        at_most(f"{THOUSAND} nodes, a look each 10 s: CPU of one core", share, "%", 25.0),
        Figure("of that: looks and askings a second", round(rate, 1), "1/s"),
        Figure("the section is put", round(puts, 2), "1/s"),
        at_most("core loop held up meanwhile, p99", 1000 * percentile(lags, 0.99), "ms", 25.0),
        Figure(f"showing all {THOUSAND} anew", round(1000 * shown, 1), "ms"),
        Figure("the section as JSON", round(size / 2**20, 1), "MiB"),
    ]
