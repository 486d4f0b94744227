"""A dialogue on a real dispatcher with a real audit, whose actions count what was done; and on the real registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from appliance.core.actions import Action, ActionRegistry, Invocation, NoParams, Params
from appliance.core.audit import AuditLog
from appliance.core.dispatch import Dispatcher
from appliance.core.fleet.model import FleetStatus, LinkStatus, Node, NodeMetrics, NodeStatus, Reach
from appliance.core.model import Actor, Health, Phase, Role, ServiceStatus
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.core.voice.intents.dialogue import Dialogue
from appliance.core.voice.intents.model import Ground
from appliance.core.voice.model import Reply, Transcript
from appliance.errors import AbsentError, NotFoundError
from appliance.settingvoice import VoiceSettings
from tests.support import ManualClock

VOICE = Actor("microphone", Role.operator, "voice")
SERVICES = ("inference", "memory", "telemetry", "redis")
NODES = ("primecore2", "primecore3", "control-pc")


class OneService(Params):
    """One service."""

    name: str = Field(max_length=64)


class SomeNodes(Params):
    """Some machines."""

    nodes: list[str]


class OneMode(Params):
    """A mode."""

    mode: Literal["auto", "on-grid", "off-grid"]


class Minutes(Params):
    """A rule, for minutes."""

    rule: str = Field(max_length=64)
    minutes: float = Field(60, gt=0, le=10080)


def absent() -> Any:
    raise AbsentError("No language model is configured.", "set one.")


class Rig:
    """What a test has.

    Attributes:
        done: (action, arguments, actor) of everything that was carried out.
        begun: What the pipeline was told of.
        streamed: Sentences of a language model.
    """

    def __init__(
        self, directory: Path, gateway: Callable[[], Any] = absent, privacy: str = "edge-only", **settings: Any
    ) -> None:
        self.clock = ManualClock()
        self.store = Store(directory / "state.db")
        self.store.open()
        self.audit = AuditLog(self.store, b"k" * 32, self.clock)
        self.state, self.registry = LiveState(self.clock), ActionRegistry()
        self.registry.add(*self._actions())
        self.dispatcher = Dispatcher(self.registry, self.audit)
        self.done: list[tuple[str, dict[str, Any], str]] = []
        self.begun: list[str] = []
        self.streamed: list[str] = []
        self.why_not: str | None = None
        self.looks = 0
        fill(self.state)
        self.settings = VoiceSettings.model_validate(settings)
        self.dialogue = Dialogue(Ground(
            self.dispatcher, self.state, self.clock, self.settings, gateway, lambda: privacy, device="control-pc",
        ))  # fmt: skip

    def _actions(self) -> list[Action]:
        async def do(call: Invocation, params: Any) -> str:
            self.done.append((call.action, params.model_dump(exclude_defaults=True), call.actor.name))
            return "ok"

        async def look(params: SomeNodes) -> None:
            self.looks += 1
            if "gone" in params.nodes:
                raise NotFoundError("There is no such machine.", "list them.")

        only = (lambda: self.why_not,)
        return [
            Action("service.list", "List services", do, role=Role.viewer, query=True),
            Action("user.list", "List users", do, role=Role.admin, query=True),
            Action("service.restart", "Restart a service", do, OneService, preconditions=only, brief=lambda _: "it runs again"),
            Action("power.mode", "Set how mains and battery are taken", do, OneMode),
            Action("alert.silence", "Silence an alert rule", do, Minutes),
            Action("fleet.status", "Show how every machine is", do, role=Role.viewer, query=True),
            Action("tls.renew", "Make a new certificate", do, role=Role.admin),
            Action("fleet.reboot", "Restart machines", do, SomeNodes, dangerous=True, look_up=look,
                   confirm_text="Restart the machines {nodes}?"),
            Action("power.plan-abort", "Abort the power plan", do, role=Role.admin, dangerous=True),
            Action("user.remove", "Remove a user", do, OneService, role=Role.admin, dangerous=True),
            Action("log.list", "Show the log", do, NoParams, role=Role.viewer, query=True),
        ]  # fmt: skip

    async def say(self, words: str, actor: Actor = VOICE, **heard: Any) -> Reply:
        async def on_sentence(text: str) -> None:
            self.streamed.append(text)

        return await self.dialogue.hear(Transcript(words, "test", **heard), actor, self.begun.append, on_sentence)

    async def outcomes(self) -> list[tuple[str, str]]:
        """(action, outcome) of the audit, oldest first."""
        return [(each.action, each.outcome) for each in reversed(await self.audit.entries(1000))]

    def close(self) -> None:
        self.store.close()


class OneJob(Params):
    """A job."""

    job_id: str


def cancel_job() -> Action:
    async def do(call: Invocation, params: OneJob) -> str:
        return params.job_id

    return Action("job.cancel", "Cancel a job", do, OneJob, positional=("job_id",))


def fill(state: LiveState) -> None:
    """Services and machines."""
    state.put(Section.services, tuple(
        ServiceStatus(name, "", Phase.running, Health.degraded if name == "redis" else Health.healthy,
                      "it is slow" if name == "redis" else "well") for name in SERVICES
    ))  # fmt: skip
    state.put(Section.rules, ())
    seen = NodeMetrics(time=0.0, monotonic=0.0, cpu=12.4, memory=None)
    state.put(Section.fleet, FleetStatus(nodes=tuple(
        NodeStatus(Node(name=name, host="192.0.2.1"), LinkStatus(reach=Reach.up), Health.healthy, "it answers", metrics=seen)
        for name in NODES
    )))  # fmt: skip
