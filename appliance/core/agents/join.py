"""What SSH tells of an installation and what the tasks tell of a worker, joined to one agent for each machine; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from appliance.core.agents.layout import UNIT
from appliance.core.agents.model import Agent, AgentsStatus, AgentState
from appliance.core.fleet.facts.host.agent import BROKEN, NONE
from appliance.core.fleet.model import NodeStatus, Reach
from appliance.core.tasks.model import Worker, WorkerState

STATES = {WorkerState.ready: AgentState.ready, WorkerState.stopping: AgentState.stopping}
TWINS = "give each of them a name of its own: node.device_id in its configuration."


class Ears(NamedTuple):
    """Whether signs of life can come.

    Attributes:
        hears: They would reach us now.
        enough: They would have for longer than a lease: whoever was silent for so long is silent.
        reason: Why they would not.
        next_step: What to do then.
    """

    hears: bool
    enough: bool
    reason: str = ""
    next_step: str = ""


class _Verdict(NamedTuple):
    state: AgentState
    reason: str = ""
    next_step: str = ""


def join(nodes: Sequence[NodeStatus], workers: Sequence[Worker], ears: Ears, version: str) -> AgentsStatus:
    """All agents: one for each machine, then workers that are of no machine.

    Args:
        nodes: The fleet.
        workers: As the tasks know them, this machine's own among them.
        ears: Whether they can be heard.
        version: Of this appliance.
    """
    known = {each.name: each for each in workers}
    found = [_of_node(each, known.pop(each.node.name, None), ears, version) for each in nodes]
    found += [_stray(each, ears, version) for each in known.values() if not each.local]
    return AgentsStatus(
        agents=tuple(sorted(found, key=lambda each: (each.node or each.worker, each.node == ""))), version=version
    )


def counts(agents: Sequence[Agent]) -> Mapping[AgentState, int]:
    """How many are in which state."""
    return {state: sum(each.state is state for each in agents) for state in AgentState}


def _of_node(node: NodeStatus, worker: Worker | None, ears: Ears, version: str) -> Agent:
    facts, name = node.facts, node.node.name
    installed = None if facts is None else facts.agent
    verdict = _own(worker) or _heard(node, worker, ears) or _unheard(node, ears)
    if verdict.state is AgentState.ready and not verdict.reason:
        verdict = _versions(name, worker, installed, version)
    return _made(
        verdict, worker, node=name, installed=installed, outdated=_other(version, installed, worker),
        seen=None if facts is None else facts.monotonic,
    )  # fmt: skip


def _stray(worker: Worker, ears: Ears, version: str) -> Agent:
    """A worker that no machine of the fleet has the name of."""
    step = f"prime-spark fleet add {worker.name} --host ADDRESS, or give it the name that its machine has in the fleet."
    verdict = _Verdict(STATES.get(worker.state, AgentState.silent), "no machine of the fleet has its name", step)
    if not ears.hears:
        verdict = _Verdict(AgentState.mute, ears.reason, ears.next_step)
    elif worker.state is WorkerState.silent and not ears.enough:
        verdict = _Verdict(AgentState.unknown, "it was not heard of yet", "wait a moment.")
    elif worker.state is WorkerState.silent:
        step = f"prime-spark task worker-forget {worker.name}, where it is gone for good."
        verdict = verdict._replace(reason="no sign of life, and no machine of the fleet has its name", next_step=step)
    elif worker.note:
        verdict = verdict._replace(reason=worker.note, next_step=TWINS)
    return _made(verdict, worker, node="", outdated=_other(version, None, worker))


def _made(verdict: _Verdict, worker: Worker | None, **more: object) -> Agent:
    told: dict[str, object] = dict(more)
    if worker is not None and verdict.state is AgentState.absent:  # what it was does not count any more
        told |= {"worker": worker.name, "beat": worker.beat}
    elif worker is not None:
        told |= {
            "worker": worker.name, "version": worker.version or None, "load": worker.load, "busy": worker.busy,
            "limit": worker.limit, "beat": worker.beat, "capabilities": tuple(each.name for each in worker.capabilities),
        }  # fmt: skip
    return Agent(**told, state=verdict.state, reason=verdict.reason, next_step=verdict.next_step)  # type: ignore[arg-type]


def _other(version: str, installed: str | None, worker: Worker | None) -> bool:
    running = worker.version if worker is not None else ""
    return any(each not in {"", None, version} for each in (installed, running))


def _own(worker: Worker | None) -> _Verdict | None:
    if worker is None or not worker.local:
        return None
    return _Verdict(AgentState.ready, "it is this appliance itself")


def _heard(node: NodeStatus, worker: Worker | None, ears: Ears) -> _Verdict | None:
    """Of one that gives signs of life, or gave some; None where it cannot be known by that."""
    if worker is None:
        return None
    if not ears.hears:
        return _Verdict(AgentState.mute, ears.reason, ears.next_step)
    if worker.state is WorkerState.stopping:
        return _Verdict(AgentState.stopping, "it ends what it has, and takes nothing more")
    if worker.state is WorkerState.ready:
        return _Verdict(AgentState.ready, worker.note, TWINS if worker.note else "")
    if _missing(node) == NONE:
        step = f"prime-spark task worker-forget {worker.name}; prime-spark agent install {node.node.name} brings it back."
        return _Verdict(AgentState.absent, "it is installed no more; its worker gives no sign of life", step)
    return _silence(node, ears, "no sign of life")


def _unheard(node: NodeStatus, ears: Ears) -> _Verdict:
    """Of one that nobody has ever heard of."""
    name, why = node.node.name, _missing(node)
    if node.facts is None or (node.facts.agent is None and why not in {NONE, BROKEN}):
        return _Verdict(AgentState.unknown, *_unasked(node, why))
    if why == NONE:
        return _Verdict(AgentState.absent, why, f"prime-spark agent install {name}")
    if why == BROKEN:
        return _Verdict(AgentState.absent, why, f"prime-spark agent install {name} mends it.")
    if not ears.hears:
        return _Verdict(AgentState.mute, ears.reason, ears.next_step)
    return _silence(node, ears, "it is installed, and no worker of that name was ever heard of")


def _silence(node: NodeStatus, ears: Ears, told: str) -> _Verdict:
    if not ears.enough:
        return _Verdict(AgentState.unknown, "it was not heard of yet", "wait a moment.")
    if not node.node.enabled or node.link.reach is Reach.off:
        return _Verdict(AgentState.unknown, "its machine is off" if node.node.enabled else "its machine is set aside")
    if node.link.reach is not Reach.up:
        return _Verdict(AgentState.silent, f"{told}, and the machine is {node.link.reach.value}", node.link.next_step)
    name = node.node.name
    unit = next((each for each in (node.facts.units or ()) if each.name == UNIT), None) if node.facts else None
    if unit is not None and unit.active != "active":
        step = f"prime-spark fleet service-logs {UNIT} --nodes {name}, then fleet service-restart."
        return _Verdict(AgentState.silent, f"{told}; its service was {unit.active} ({unit.sub}) when it was asked", step)
    step = f"prime-spark fleet service-logs {UNIT} --nodes {name}: does it reach Kafka, has it the key?"
    return _Verdict(AgentState.silent, told, step)


def _versions(name: str, worker: Worker | None, installed: str | None, version: str) -> _Verdict:
    """Of one that is well."""
    running = worker.version if worker is not None else ""
    if installed is not None and running and running != installed:
        step = f"prime-spark fleet service-restart {UNIT} --nodes {name}"
        return _Verdict(AgentState.ready, f"{running} runs, {installed} is installed", step)
    if running and running != version:
        step = f"prime-spark agent upgrade {name}" if installed is not None else "bring it up to date as it was installed."
        return _Verdict(AgentState.ready, f"{running} runs, this appliance is {version}", step)
    return _Verdict(AgentState.ready)


def _missing(node: NodeStatus) -> str:
    return "" if node.facts is None else node.facts.missing.get("agent", "")


def _unasked(node: NodeStatus, why: str) -> tuple[str, str]:
    """(why nobody knows what is installed, what to do)."""
    if not node.node.enabled:
        return "the machine is set aside", f"prime-spark fleet maintenance {node.node.name} --off"
    if node.facts is not None:
        return f"not told: {why}" if why else "not told", ""
    if node.link.reach in {Reach.never, Reach.connecting, Reach.up}:
        return "its machine was not asked yet", ""
    return f"its machine is {node.link.reach.value}", node.link.next_step
