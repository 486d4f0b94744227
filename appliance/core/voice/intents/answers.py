"""Answers to questions, out of the live state. What nobody knows is told as not known, and what is old with its age."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appliance.core.figures import counted
from appliance.core.model import AlertState, Device, Health, HostSample, ServiceStatus
from appliance.core.state import LiveState, Section
from appliance.core.voice.intents.model import Command
from appliance.core.voice.intents.spoken import said, sentence, series, span

OLD = 15.0
"""Seconds from which on the age of an answer is told."""
OVER = frozenset({AlertState.ok, AlertState.no_data, AlertState.resolved})
BAD = frozenset({Health.unhealthy, Health.degraded})
Teller = Callable[[Any, Command], str]


def figure(value: float | None, unit: str) -> str:
    """A number with its unit; "not known" where there is none."""
    return "not known" if value is None else f"{value:.0f} {unit}".strip()


def _overview(state: LiveState) -> str:
    services = state.get(Section.services).value or ()
    bad, alerts = [each for each in services if each.health in BAD], _active(state.get(Section.alerts).value or ())
    parts = [
        f"{counted(len(services), 'service')}, "
        + (f"{len(bad)} not well: {series([each.name for each in bad], 3)}" if bad else "none is down")
    ]
    parts.append(f"{counted(len(alerts), 'alert')}" if alerts else "no alerts")
    power = state.get(Section.power).value
    if power is not None:
        parts.append(_supply(power))
    fleet = state.get(Section.fleet).value
    if fleet is not None and fleet.nodes:
        well = sum(each.health is Health.healthy for each in fleet.nodes)
        parts.append(f"{well} of {counted(len(fleet.nodes), 'machine')} well")
    return sentence("; ".join(parts))


def _problems(state: LiveState) -> str:
    found = [f"{said(each.name)} is {each.health.value}: {each.reason}" for each in state.get(Section.services).value or ()
             if each.health in BAD]  # fmt: skip
    found += [each.message for each in _active(state.get(Section.alerts).value or ())]
    fleet = state.get(Section.fleet).value
    found += [
        f"machine {said(each.node.name)} is {each.health.value}"
        for each in (fleet.nodes if fleet else ())
        if each.health in BAD
    ]
    if not found:
        return "Nothing is wrong: no service is down and no alert is active."
    rest = len(found) - 3
    return " ".join(sentence(each) for each in found[:3]) + (f" And {rest} more." if rest > 0 else "")


def whole_state(state: LiveState, command: Command) -> str:
    """Everything, or what is wrong."""
    return _problems(state) if command.topic == "problems" else _overview(state)


def _services(values: tuple[ServiceStatus, ...], command: Command) -> str:
    if command.topic == "one":
        one = next((each for each in values if each.name == command.subject), None)
        if one is None:
            return f"There is no service {said(command.subject)} now."
        step = f" Next: {one.next_step}" if one.next_step and one.health is not Health.healthy else ""
        return sentence(f"{said(one.name)} is {one.health.value}: {one.reason}") + step
    bad = [each for each in values if each.health in BAD]
    absent = [each for each in values if each.health is Health.absent]
    if command.topic == "down":
        return sentence(f"{series([each.name for each in bad])}: {bad[0].reason}" if bad else "no service is down")
    wrong = f"; not well: {series([each.name for each in bad])}" if bad else ", none is down"
    return sentence(
        f"{len(values) - len(bad) - len(absent)} of {counted(len(values), 'service')} healthy, {len(absent)} absent{wrong}"
    )


def _host(host: HostSample, command: Command) -> str:
    total, free, room = host.disk_total / 2**30, host.disk_free / 2**30, (host.memory_total - host.memory_used) / 2**30
    busy, heat = host.cpu_usage, host.temperature_c
    rates = [each for each in host.network if each.is_up and each.name != "lo" and each.tx_rate is not None]
    traffic = ", ".join(
        f"{each.name} sends {(each.tx_rate or 0) / 1000:.0f} and receives {(each.rx_rate or 0) / 1000:.0f} kilobytes a second"
        for each in rates
    )
    told = {
        "cpu": "the processor's load is not known yet" if busy is None else f"the processor is {busy:.0f} percent busy",
        "memory": f"memory is {host.memory_usage:.0f} percent used, {room:.1f} gibibytes free",
        "disk": f"the disk is {host.disk_usage:.0f} percent full, {free:.0f} of {total:.0f} gibibytes free",
        "temperature": "this machine does not tell its temperature" if heat is None else f"{heat:.0f} degrees Celsius",
        "load": f"the load is {host.load_1m:.1f}, over fifteen minutes {host.load_15m:.1f}",
        "uptime": f"this machine has been up for {span(host.uptime_s)}",
        "network": traffic or "the network's traffic is not known",
    }  # fmt: skip
    if command.topic:
        return sentence(told[command.topic])
    return sentence(f"{told['cpu']}, {told['memory']}, and {told['disk']}")


def _supply(power: Any) -> str:
    return {"mains": "on mains", "battery": "on battery"}.get(power.supply.value, "mains or battery is not known")


def _power(power: Any, command: Command) -> str:
    why = f": {power.reason}" if power.percent is None and power.reason else ""
    age = f", as of {span(power.percent_age)} ago" if power.percent_age is not None and power.percent_age > OLD else ""
    battery = (
        f"the battery is at {figure(power.percent, 'percent')}{age}"
        if power.percent is not None
        else f"the battery's charge is not known{why}"
    )
    left = (
        f"{span(power.runtime)} left on battery"
        if power.runtime is not None
        else f"how long the battery lasts is not known{why}"
    )
    upses = [f"{said(each.name)} is {each.health.value}" for each in power.upses]
    told = {
        "battery": battery + (", charging" if power.charging and power.percent is not None else ""),
        "runtime": left,
        "supply": _supply(power) + (f": {power.reason}" if power.supply.value == "unknown" else ""),
        "mode": f"the power mode is {said(power.setting.value)}, and the phase is {power.phase.value}",
        "ups": "; ".join(upses) or f"no UPS is known{why}",
    }  # fmt: skip
    if command.topic:
        return sentence(told[command.topic])
    rest = f"; {left}" if power.runtime is not None else ""
    return sentence(f"{told['supply'] if power.percent is None else _supply(power) + '; ' + battery}{rest}")


def _vpn(vpn: Any, command: Command) -> str:
    if not vpn.enabled:
        return "No VPN is configured."
    down = [each.name for each in vpn.peers if each.state.value == "down"]
    if command.topic == "peers" or vpn.is_active:
        lost = f"; down: {series(down)}" if down else ""
        up = "" if command.topic == "peers" else "the VPN is up, "
        return sentence(f"{up}{vpn.connected_peers} of {counted(vpn.total_peers, 'peer')} connected{lost}")
    return sentence(f"the VPN is down{': ' + vpn.problems[0] if vpn.problems else ''}")


def _active(alerts: Any) -> list[Any]:
    found = [each for each in alerts if each.state not in OVER and each.state is not AlertState.pending]
    return sorted(found, key=lambda each: (each.state is not AlertState.firing, each.severity.value != "critical"))


def _alerts(alerts: Any, _: Command) -> str:
    active = _active(alerts)
    if not active:
        return "No alert is active."
    first = " ".join(sentence(f"{each.severity.value}, {each.state.value}: {each.message}") for each in active[:3])
    more = f" And {len(active) - 3} more." if len(active) > 3 else ""
    many = sentence(f"{counted(len(active), 'alert')} active") + " " if len(active) > 1 else ""
    return f"{many}{first}{more}"


def _fleet(fleet: Any, command: Command) -> str:
    if not fleet.nodes:
        return "No machine is in the fleet yet." + (f" {sentence(fleet.problem)}" if fleet.problem else "")
    wanted = command.args.get("nodes", [])
    if command.topic not in {"", "down"} and wanted and wanted != ["all"]:
        one = next((each for each in fleet.nodes if each.node.name == wanted[0]), None)
        return _node(one, command.topic) if one is not None else f"There is no machine {said(wanted[0])}."
    bad = [each for each in fleet.nodes if each.health is not Health.healthy]
    lost = "; ".join(f"{said(each.node.name)} is {each.health.value}: {each.reason}" for each in bad[:3])
    if command.topic == "down":
        return sentence(lost or "no machine is down")
    return sentence(
        f"{len(fleet.nodes) - len(bad)} of {counted(len(fleet.nodes), 'machine')} healthy{'; ' + lost if lost else ''}"
    )


def _node(one: Any, topic: str) -> str:
    name, seen = said(one.node.name), one.metrics
    if topic == "one":
        figures = (
            f"; processor {figure(seen.cpu, 'percent')}, memory {figure(seen.memory, 'percent')}" if seen is not None else ""
        )
        step = f" Next: {one.next_step}" if one.next_step and one.health is not Health.healthy else ""
        return sentence(f"{name} is {one.health.value}: {one.reason}{figures}") + step
    value = {"cpu": "cpu", "memory": "memory", "disk": "disk", "temperature": "temperature_c"}[topic]
    unit = "degrees" if topic == "temperature" else "percent"
    known = getattr(seen, value, None)
    return sentence(
        f"{topic} of {name}: {figure(known, unit)}" + (f", because {one.reason}" if known is None and one.reason else "")
    )


def _tasks(tasks: Any, command: Command) -> str:
    if command.args.get("state") == "failed":
        failed = [each for each in tasks.history if each.state.value == "failed"]
        return sentence(
            f"{counted(len(failed), 'task')} failed; the last one, {said(failed[0].type)}: {failed[0].reason}"
            if failed
            else "no task has failed"
        )
    waiting = sum(tasks.depths.values()) + tasks.resting
    if not waiting and not tasks.with_workers:
        return "No task is open."
    return sentence(f"{counted(waiting, 'task')} waiting, {tasks.with_workers} with workers")


def _streams(streams: Any, command: Command) -> str:
    waiting = counted(streams.outbox.waiting, "message")
    paused = ", sending is paused" if streams.outbox.paused else ""
    if command.topic == "outbox":
        old = f", the oldest for {span(streams.outbox.oldest_s)}" if streams.outbox.oldest_s else ""
        return sentence(
            f"{waiting} wait in the outbox{old}{paused}" if streams.outbox.waiting else f"nothing waits in the outbox{paused}"
        )
    return sentence(
        f"the link to Kafka is {streams.link.state.value}: {streams.link.reason.rstrip('.')}; {waiting} waiting{paused}"
    )


def _devices(devices: tuple[Device, ...], command: Command) -> str:
    if command.topic == "one":
        one = next((each for each in devices if each.kind == command.subject), None)
        return (
            sentence(f"{one.name}: {one.health.value}, {one.reason}")
            if one is not None
            else f"No {command.subject} was looked for."
        )
    there, gone = ([each.name for each in devices if (each.health is Health.absent) is lacks] for lacks in (False, True))
    return sentence(f"found: {', '.join(there) or 'none'}; missing: {', '.join(gone) or 'none'}")


def _sources(sources: Any, command: Command) -> str:
    if command.topic == "one":
        one = next((each for each in sources if each.name == command.subject), None)
        if one is None:
            return f"There is no source {said(command.subject)}."
        seen = ", ".join(sorted({each.label for each in one.tracks}))
        return sentence(
            f"{said(one.name)} is {one.state.value}{': ' + one.reason if one.reason else ''}"
            f"{'; it sees ' + seen if seen else ''}"
        )
    if not sources:
        return "No source is configured."
    return sentence("; ".join(f"{said(each.name)} is {each.state.value}" for each in sources[:6]))


def _models(status: Any, command: Command) -> str:
    rows = getattr(status, "models", ())
    if command.topic == "active":
        return sentence(f"{said(status.model)} on {status.backend}" if status.model else "no model is active")
    names = list(dict.fromkeys(each.name for each in rows))
    return sentence(f"{counted(len(names), 'model')}: {series(names, 6)}" if names else "no model is installed")


def _inference(status: Any, _: Command) -> str:
    mean = f", half of them within {status.p50_ms:.0f} milliseconds" if status.p50_ms is not None else ""
    return sentence(
        f"{counted(status.total, 'inference')} since the start, {status.errors} failed{mean}; "
        f"model {said(status.model)} on {status.backend}"
    )


def _plan(power: Any, _: Command) -> str:
    if power.plan is None:
        return "The power plan is not known."
    stages = ", then ".join(f"{each.name} when {each.condition}" for each in power.plan.stages)
    return sentence(f"the plan is {power.plan.state.value}: {stages}")


def last_seen(state: LiveState, now: float) -> str:
    """The newest result of a model."""
    results = state.get(Section.results).value or ()
    if not results:
        return "Nothing was looked at yet."
    one = results[0]
    labels: dict[str, int] = {}
    for label in [box.label for box in one.boxes] or [each.label for each in one.classes[:1]]:
        labels[label] = labels.get(label, 0) + 1
    seen = ", ".join(f"{count} {label}" if count > 1 else label for label, count in labels.items()) or "nothing that it knows"
    return sentence(f"{span(max(0.0, now - one.time))} ago, in {said(one.source)}: {seen}")


def _memory(status: Any, _: Command) -> str:
    return sentence(
        "; ".join(f"tier {each.level}, {each.name}, is {each.health.value}: {each.reason}" for each in status.tiers)
        or "no tier is there"
    )


def _sync(runs: Any, _: Command) -> str:
    if not runs:
        return "Nothing was synchronised yet: no cloud tier is there, or it was not tried."
    return sentence(
        "; ".join(
            f"{each.tier}: {'failed, ' + each.error if each.error else f'{each.pushed} sent, {each.pulled} taken'}"
            for each in runs
        )
    )


def _llm(status: Any, _: Command) -> str:
    if status is None or not status.endpoints:
        return "No language model is configured."
    return sentence(
        "; ".join(f"{said(each.name)}, {each.place.value}, is {each.health.value}: {each.reason}" for each in status.endpoints)
    )


def _deployments(status: Any, _: Command) -> str:
    return sentence(
        f"{counted(len(status.services), 'service')}: {series([each.name for each in status.services])}"
        if status.services
        else "no service is deployed"
    )


def _voice(status: Any, _: Command) -> str:
    microphone = status.microphone
    heard = f"I hear you by {microphone.name}" if microphone is not None and not microphone.problem else "no microphone is open"
    return sentence(status.degraded or heard)


TELLERS: dict[str, tuple[Section, Teller]] = {
    "service.list": (Section.services, _services), "host.show": (Section.host, _host), "power.status": (Section.power, _power),
    "power.plan-show": (Section.power, _plan), "vpn.status": (Section.vpn, _vpn), "alert.list": (Section.alerts, _alerts),
    "fleet.status": (Section.fleet, _fleet), "task.list": (Section.tasks, _tasks), "device.list": (Section.devices, _devices),
    "streams.status": (Section.streams, _streams),
    "source.list": (Section.sources, _sources), "model.list": (Section.inference, _models),
    "inference.stats": (Section.inference, _inference), "memory.status": (Section.memory, _memory),
    "sync.status": (Section.sync, _sync), "deploy.status": (Section.deployments, _deployments),
    "voice.status": (Section.voice, _voice),
}  # fmt: skip


def answer(state: LiveState, command: Command, now: float) -> str | None:
    """The answer to a question; None where the action's own result is to be told instead.

    Args:
        state: The live state.
        command: The question.
        now: Wall clock.
    """
    if command.action == "appliance.status":
        return whole_state(state, command)
    if command.intent == "inference.results/last":
        return last_seen(state, now)
    if command.action == "llm.endpoints":
        return _llm(state.get(Section.llm).value, command)
    if command.action not in TELLERS or (command.action == "fleet.status" and command.args and not command.topic):
        return None
    section, tell = TELLERS[command.action]
    value, age = state.get(section).value, state.age(section)
    if value is None:
        return f"That is not known: nothing has told of the {section.value} yet."
    old = f" That was {span(age)} ago." if age is not None and age > OLD and section is Section.host else ""
    return tell(value, command) + old
