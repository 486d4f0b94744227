"""How a node is, from evidence: pure. What nobody could ask is not known, which is neither well nor ill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.core.figures import counted
from appliance.core.fleet.model import LinkStatus, Node, NodeFacts, NodeMetrics, NodeStatus, Reach, ServiceState
from appliance.core.model import Health

CPU, MEMORY, DISK, HOT = 85.0, 90.0, 90.0, 80.0
"""Percent, and °C, above which a node is degraded (contracts, section 9)."""
BUSY = 300.0
"""Seconds above the limit until the CPU counts."""
LOOKS = 60
"""Looks that are kept: with shorter intervals, the CPU counts sooner, and the reason says after how long."""
SKEW = 5.0
"""Seconds by which a clock may be off."""
SHARES = {"cpu": CPU, "memory": MEMORY, "disk": DISK}


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a node."""

    health: Health
    reason: str
    next_step: str = ""


def expected(node: Node, facts: NodeFacts | None, others: Mapping[str, str]) -> tuple[ServiceState, ...]:
    """Its expected services, as the last facts have them.

    Args:
        node: Says which.
        facts: Of the last asking.
        others: Units that are no services → whether they are active.
    """
    return tuple(_service(name, facts, others) for name in node.services)


def _service(name: str, facts: NodeFacts | None, others: Mapping[str, str]) -> ServiceState:
    if facts is None:
        return ServiceState(name, None, "not asked yet")
    kind, colon, rest = name.partition(":")
    if colon and kind == "tcp":
        return _port(name, rest, facts)
    if colon and kind in {"compose", "container"}:
        return _containers(name, kind, rest, facts)
    return _unit(name, facts, others)


def _port(name: str, port: str, facts: NodeFacts) -> ServiceState:
    if facts.listening is None:
        return ServiceState(name, None, facts.missing.get("listening", "not told"))
    ok = port.isdigit() and int(port) in facts.listening
    return ServiceState(name, ok, "listening" if ok else "nothing listens")


def _containers(name: str, kind: str, wanted: str, facts: NodeFacts) -> ServiceState:
    if facts.containers is None:
        return ServiceState(name, None, facts.missing.get("docker", "not told"))
    own = [each for each in facts.containers if wanted == (each.project if kind == "compose" else each.name)]
    bad = [each for each in own if each.state != "running"]
    if not own:
        return ServiceState(name, False, "no such container" if kind == "container" else "no container of that project")
    told = f"{bad[0].name} {bad[0].state}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "") if bad else "running"
    return ServiceState(name, not bad, told)


def _unit(name: str, facts: NodeFacts, others: Mapping[str, str]) -> ServiceState:
    if facts.units is None:
        return ServiceState(name, None, facts.missing.get("units", "not told"))
    if name in others:
        return ServiceState(name, others[name] == "active", others[name])
    wanted = name if "." in name else f"{name}.service"
    found = next((unit for unit in facts.units if unit.name == wanted), None)
    if found is None:
        return ServiceState(name, False, "no such unit")
    ok = found.active in {"active", "reloading"}
    return ServiceState(name, ok, found.sub if found.active == found.sub else f"{found.active} ({found.sub})")


def judge(
    node: Node, link: LinkStatus, silent: float | None, metrics: NodeMetrics | None, facts: NodeFacts | None,
    services: Sequence[ServiceState], trend: dict[str, tuple[float, ...]], interval: float = 10.0,
) -> Verdict:  # fmt: skip
    """How a node is.

    Args:
        node: Its entry.
        link: How it is reached.
        silent: Seconds since it answered a look; None where it never did.
        metrics: Of the last look.
        facts: Of the last asking.
        services: Its expected ones.
        trend: Its last looks.
        interval: Seconds between two of them.
    """
    unseen = _unseen(node, link)
    if unseen is not None:
        return unseen
    found = [*_services(node, services), *_numbers(node, metrics, trend, interval)]
    found += [*_clock(metrics), *_quiet(node, link, silent, interval)]
    if not found:
        return Verdict(Health.healthy, _well(metrics, services))
    worst = next((each for each in found if each.health is Health.unhealthy), found[0])
    others = len(found) - 1
    more = f" (and {counted(others, 'other matter')})" if others else ""
    return Verdict(worst.health, worst.reason + more, worst.next_step)


def _unseen(node: Node, link: LinkStatus) -> Verdict | None:
    """Of a node that cannot be asked: nothing is known of it, but that."""
    if link.reach is Reach.changed:
        return Verdict(Health.unhealthy, f"IT SHOWS ANOTHER HOST KEY: {link.reason}", link.next_step)
    if link.reach is Reach.off:
        return Verdict(Health.absent, link.reason or "it is off", link.next_step)
    if link.reach in {Reach.never, Reach.connecting}:
        return Verdict(Health.absent, "nobody has asked it yet" if link.reach is Reach.never else "it is being reached")
    if link.reach in {Reach.unreachable, Reach.refused, Reach.untrusted}:
        said = link.reason.removeprefix(f"{node.name}: ")
        return Verdict(Health.absent, f"{link.reach.value}: {said}" if said else link.reach.value, link.next_step)
    return None


def _quiet(node: Node, link: LinkStatus, silent: float | None, interval: float) -> list[Verdict]:
    if link.reach is Reach.stale:
        return [Verdict(Health.degraded, link.reason, link.next_step or "wait a moment; else look at its network.")]
    if silent is not None and link.answered is not None and silent > max(QUIET, MISSED * interval):
        step = f"log in there: prime-spark fleet shell {node.name}; a hanging disk or no memory left are likely."
        return [Verdict(Health.degraded, f"its link is up, but it has answered no question for {silent:.0f} s", step)]
    return []


QUIET = 60.0
"""Seconds without an answer over a link that is up; where is looked seldom, looks that were missed."""
MISSED = 2.5


def _services(node: Node, services: Sequence[ServiceState]) -> list[Verdict]:
    bad = [each for each in services if each.ok is False]
    unknown = [each for each in services if each.ok is None and each.state != "not asked yet"]
    found = []
    if bad:
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        step = f"prime-spark service logs {bad[0].name} --node {node.name}"
        if ":" in bad[0].name:  # a compose project or a port: its log has no unit's name
            step = f"see what runs there: prime-spark fleet facts {node.name}"
        found.append(Verdict(Health.unhealthy, f"{bad[0].name}: {bad[0].state}{more}", step))
    if unknown:
        why = f"whether {unknown[0].name} runs is not known: {unknown[0].state}"
        found.append(Verdict(Health.degraded, why, "see `prime-spark fleet facts` for what it could not tell."))
    return found


def _numbers(node: Node, metrics: NodeMetrics | None, trend: dict[str, tuple[float, ...]], interval: float) -> list[Verdict]:
    if metrics is None:
        return []
    found = []
    looks = max(1, min(LOOKS, round(BUSY / interval)))
    last = trend.get("cpu", ())[-looks:]
    if len(last) == looks and min(last) > CPU:
        step = f"see what runs: prime-spark fleet run --node {node.name} -- top -bn1"
        found.append(Verdict(Health.degraded, f"CPU above {CPU:g} % for {looks * interval / 60:g} min", step))
    if metrics.memory is not None and metrics.memory > MEMORY:
        found.append(
            Verdict(Health.degraded, f"memory {metrics.memory:.0f} %, above {MEMORY:g} %", "end what takes most, or add swap.")
        )
    for disk in metrics.disks:
        if disk.size and 100.0 * disk.used / disk.size > DISK:
            told = f"{disk.mount} {100.0 * disk.used / disk.size:.0f} % full, above {DISK:g} %"
            found.append(Verdict(Health.degraded, told, f"free some space: du -xh {disk.mount} | sort -h | tail"))
    if metrics.temperature_c is not None and metrics.temperature_c > HOT:
        found.append(
            Verdict(Health.degraded, f"{metrics.temperature_c:.0f} °C, above {HOT:g} °C", "look at its fan and its place.")
        )
    return found


def _clock(metrics: NodeMetrics | None) -> list[Verdict]:
    """Off by more than half the round trip could explain."""
    if metrics is None or metrics.clock_offset is None or abs(metrics.clock_offset) - metrics.took_ms / 2000 <= SKEW:
        return []
    ahead = "ahead of" if metrics.clock_offset > 0 else "behind"
    told = f"its clock is {_span(abs(metrics.clock_offset))} {ahead} ours"
    return [Verdict(Health.degraded, told, "see `timedatectl` there: systemd-timesyncd or chrony should run.")]


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def _well(metrics: NodeMetrics | None, services: Sequence[ServiceState]) -> str:
    if metrics is None:
        return "its link is up; it was not looked at yet"
    known = [each for each in services if each.ok is not None]
    return (
        f"all {len(known)} expected services run" if len(known) > 1 else "its expected service runs" if known else "it answers"
    )


def trouble_of(status: NodeStatus) -> tuple[str, ...]:
    """Expected services that do not run, by name; empty too where nothing is known."""
    return tuple(each.name for each in status.expected if each.ok is False)
