"""What a service shall be: the specification as its TOML file has it, read strictly."""

from __future__ import annotations

import datetime as dt
import difflib
import re
import shlex
import tomllib
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from appliance.core.deploy.model import Kind, Strategy
from appliance.errors import InvalidArgumentsError

LARGEST = 200_000
"""Characters of a specification."""
NAME = r"^[a-z][a-z0-9-]{0,30}$"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Delay = Annotated[float, Meta(ge=0, le=86400)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Replicas = Annotated[int, Meta(ge=0, le=200)]
Text = Annotated[str, Meta(max_length=4000)]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the tables."""


class Unit(Part, frozen=True, kw_only=True):
    """A systemd unit: one made from a command, or a template unit that is there already."""

    command: Text = ""
    """Program with arguments; {port}, {version}, {node} and {replica} are filled in."""
    template: Annotated[str, Meta(pattern=r"^([A-Za-z0-9:_.{}-]+@)?$", max_length=120)] = ""
    """Template unit on the nodes, such as "web@" or "web-{version}@"; its instance is the port."""
    user: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{0,32}$")] = ""
    """Who it runs as; empty for a user that exists only while it runs."""
    folder: Annotated[str, Meta(pattern=r"^(/[^\x00-\x1f]*)?$", max_length=1000)] = ""
    """Its working folder on the node, as an absolute path."""
    prepare: Text = ""
    """Shell command, run once on every node before the first start of a version: it fetches what the version needs."""


class Compose(Part, frozen=True, kw_only=True):
    """A compose project."""

    file: Annotated[str, Meta(min_length=1, max_length=100_000)]
    """The compose file's text; ${PORT}, ${VERSION}, ${NODE}, ${REPLICA}, the environment and the secrets are given to it."""


class Ports(Part, frozen=True, kw_only=True):
    """Where replicas answer: each on a port of its own, out of this range."""

    first: Port
    count: Annotated[int, Meta(ge=1, le=1000)] = 20
    via: Annotated[str, Meta(pattern=r"^(host|vpn)$")] = "host"
    """"vpn": they are reached at their node's VPN address."""


class Front(Part, frozen=True, kw_only=True):
    """What the balancer listens on."""

    listen: Port
    address: Annotated[str, Meta(pattern=r"^[0-9A-Fa-f:.*]{1,45}$")] = "127.0.0.1"
    """Of this machine; "*" for all."""
    mode: Annotated[str, Meta(pattern=r"^(http|tcp)$")] = "http"


class Health(Part, frozen=True, kw_only=True):
    """How it is told whether a replica is well."""

    kind: Annotated[str, Meta(pattern=r"^(http|tcp|command|container|none)$")] = "tcp"
    path: Annotated[str, Meta(pattern=r"^/[^\s]*$", max_length=500)] = "/"
    scheme: Annotated[str, Meta(pattern=r"^https?$")] = "http"
    status: tuple[Annotated[int, Meta(ge=100, le=599)], ...] = (200,)
    """HTTP: statuses that are well."""
    body: Text = ""
    """HTTP: text that the answer has to hold."""
    json: dict[str, str | int | float | bool] = {}
    """HTTP: values that its JSON has to have, by their path, such as {"database.status" = "up"}."""
    command: Text = ""
    """Shell command on the node; 0 is well."""
    interval: Seconds = 30.0
    timeout: Seconds = 10.0
    retries: Annotated[int, Meta(ge=1, le=100)] = 3
    """Failures in a row that make it unhealthy."""
    rise: Annotated[int, Meta(ge=1, le=100)] = 2
    """Successes in a row that make an unhealthy one healthy again."""
    start_period: Delay = 60.0
    """Seconds after a start in which failures are forgiven."""
    start_interval: Seconds = 2.0
    """Seconds between two checks while it starts, and during a rollout."""
    flaps: Annotated[int, Meta(ge=2, le=1000)] = 6
    """Changes in ten minutes from which a replica counts as unhealthy, whatever the last check said."""


class Plan(Part, frozen=True, kw_only=True):
    """How a version takes another's place."""

    strategy: Strategy = Strategy.rolling
    batch: Annotated[int, Meta(ge=1, le=100)] = 1
    """Rolling: replicas that are begun at a time."""
    surge: Annotated[int, Meta(ge=0, le=100)] = 1
    """Rolling: replicas beyond the wanted number while it lasts."""
    unavailable: Annotated[int, Meta(ge=0, le=100)] = 0
    """Rolling: replicas that may lack while it lasts."""
    settle: Delay = 5.0
    """Seconds that a replica has to be healthy before it counts."""
    soak: Delay = 60.0
    """Seconds that the new version is watched under all of the traffic before the old one is given up."""
    steps: tuple[Annotated[float, Meta(gt=0, lt=100)], ...] = (5.0, 25.0, 50.0)
    """Canary: percents of the traffic, rising."""
    step_seconds: Delay = 120.0
    """Canary: seconds that each is held."""
    deadline: Seconds = 600.0
    """Seconds without progress after which it counts as failed."""
    drain: Delay = 30.0
    """Most seconds that open requests of a replica are waited for before it is stopped."""
    max_error_percent: Percent = 5.0
    """Share of failed requests from which a version counts as failed, where the old one has fewer; 100 for never."""
    min_requests: Annotated[int, Meta(ge=1)] = 20
    """Requests that are needed to judge that."""


METRIC = r"^(requests_per_second|requests_per_replica|latency_ms|cpu|memory|http:/\S*#[A-Za-z0-9_.]+)$"
Metric = Annotated[str, Meta(pattern=METRIC, max_length=300)]


class Target(Part, frozen=True, kw_only=True):
    """Keep a metric near a value."""

    metric: Metric
    value: Annotated[float, Meta(gt=0)]
    tolerance: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """Deviation that changes nothing, as a share."""


class Step(Part, frozen=True, kw_only=True):
    """More or fewer replicas beyond a value."""

    metric: Metric
    above: float | None = None
    below: float | None = None
    change: Annotated[int, Meta(ge=-100, le=100)]


class Schedule(Part, frozen=True, kw_only=True):
    """Other bounds at certain hours, in the appliance's time zone."""

    days: tuple[str, ...] = DAYS
    start: dt.time
    end: dt.time
    least: Replicas
    most: Replicas | None = None


class Scaling(Part, frozen=True, kw_only=True):
    """How many replicas, by load and by the clock."""

    least: Annotated[int, Meta(ge=1, le=200)] = 1
    most: Annotated[int, Meta(ge=1, le=200)]
    up_cooldown: Delay = 60.0
    """Seconds after a change until the next one upwards."""
    down_cooldown: Delay = 300.0
    """Seconds after a change, and of low load without a break, until one downwards."""
    interval: Seconds = 15.0
    target: tuple[Target, ...] = ()
    step: tuple[Step, ...] = ()
    schedule: tuple[Schedule, ...] = ()


class ServiceSpec(Part, frozen=True, kw_only=True):
    """One service."""

    name: Annotated[str, Meta(pattern=NAME)]
    version: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
    kind: Kind
    replicas: Annotated[int, Meta(ge=1, le=200)] = 1
    nodes: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(min_length=1, max_length=200)]
    """Selector over the fleet: names, "group:NAME", "tag:KEY=VALUE", "role:NAME", "all", each with "!" to leave out."""
    ports: Ports
    unit: Unit | None = None
    compose: Compose | None = None
    front: Front | None = None
    environment: dict[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")], Text] = {}
    secrets: dict[
        Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")],
        Annotated[str, Meta(pattern=r"^deploy\.[a-z0-9][a-z0-9._-]{0,100}$")],
    ] = {}
    """Variable → name of a secret of the appliance; names begin with "deploy."."""
    health: Health = Health()
    rollout: Plan = Plan()
    scaling: Scaling | None = None
    replace_after: Seconds = 300.0
    """Seconds that a node may be silent before its replicas are started elsewhere."""
    restart_after: Seconds = 60.0
    """Seconds that a replica may be unhealthy before it is made anew; doubled each time."""


def parse(document: str) -> ServiceSpec:
    """Read a specification.

    Args:
        document: TOML.

    Raises:
        InvalidArgumentsError: It is no TOML, names something unknown, or contradicts itself; says where and what to do.
    """
    if len(document) > LARGEST:
        raise InvalidArgumentsError(f"The specification has more than {LARGEST} characters.", "keep large files elsewhere.")
    try:
        given = tomllib.loads(document)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgumentsError(f"The specification is no TOML: {error}.", "mend that line.") from error
    try:
        spec = msgspec.convert(given, ServiceSpec)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from error
    _check(spec)
    return spec


def _explained(told: str) -> InvalidArgumentsError:
    what, _, where = told.partition(" - at `$")
    place = where.rstrip("`").lstrip(".") or "the top"
    hint = "see docs/deploy.md for what each table takes."
    if told.startswith("Invalid enum value"):
        hint = f"it takes: {', '.join(CHOICES.get(place, ()))}." if place in CHOICES else hint
    elif told.startswith("Expected `str`, got"):
        hint = "write it in quotes."
    if found := re.search(r"unknown field `([^`]+)`", what):
        table = PARTS.get(place, ServiceSpec if place == "the top" else None)
        names = [field.name for field in msgspec.structs.fields(table)] if table is not None else []
        if near := difflib.get_close_matches(found[1], names, 1):
            hint = f"did you mean {near[0]}?"
        elif names:
            hint = f"it takes: {', '.join(names)}."
    return InvalidArgumentsError(f"The specification is wrong at {place}: {what}.", hint)


PARTS: dict[str, Any] = {
    "unit": Unit, "compose": Compose, "ports": Ports, "front": Front, "health": Health, "rollout": Plan, "scaling": Scaling,
}  # fmt: skip
"""Table → what it is read as."""
CHOICES: dict[str, tuple[str, ...]] = {"kind": tuple(Kind), "rollout.strategy": tuple(Strategy)}
"""Field → what it takes."""


def _check(spec: ServiceSpec) -> None:
    """What no single field says. Raises InvalidArgumentsError."""
    faults = [*_carrier_faults(spec), *_rollout_faults(spec), *_health_faults(spec.health), *_scaling_faults(spec)]
    if faults:
        message, step = faults[0]
        raise InvalidArgumentsError(f"{spec.name}: {message}.", step)


def _carrier_faults(spec: ServiceSpec) -> list[tuple[str, str]]:
    faults = []
    if spec.kind is Kind.unit:
        if spec.unit is None or bool(spec.unit.command) == bool(spec.unit.template):
            faults.append(("a unit has either a command or a template", "give [unit] with one of them."))
        elif fault := _command_fault(spec.unit.command):
            faults.append((f"unit.command {fault}", "write it as a shell would take it, or put it into a script."))
    elif spec.compose is None:
        faults.append(("a compose project needs its file", "give [compose] with file."))
    if (spec.unit is not None) and (spec.compose is not None):
        faults.append(("it is a unit and a compose project at once", "leave one of the two tables out."))
    if any(set(text) & {"\n", "\r", "\0"} for text in spec.environment.values()):
        faults.append(("a variable of the environment has more than one line", "put it into a file of the version."))
    if both := set(spec.environment) & set(spec.secrets):
        faults.append((f"{min(both)} is in the environment and a secret", "leave one of them out."))
    if spec.ports.first + spec.ports.count - 1 > 65535:
        faults.append(("the range of ports ends beyond 65535", "begin lower, or take fewer."))
    if spec.front is not None and spec.ports.first <= spec.front.listen < spec.ports.first + spec.ports.count:
        faults.append(("the balancer's port lies in the replicas' range", "choose another listen or first."))
    return faults


def _command_fault(command: str) -> str:
    """Why a unit cannot have a command; empty where it can."""
    if set(command) & {"\n", "\r", "\0"}:
        return "has more than one line"
    try:
        return "" if not command or shlex.split(command) else "is empty"
    except ValueError as error:
        return f"cannot be read: {str(error).lower()}"


def _rollout_faults(spec: ServiceSpec) -> list[tuple[str, str]]:
    plan, faults = spec.rollout, []
    if plan.strategy in {Strategy.blue_green, Strategy.canary} and spec.front is None:
        faults.append((f"{plan.strategy} needs traffic that can be directed", "give [front] with listen, or use rolling."))
    if plan.strategy is Strategy.rolling and plan.surge == 0 and plan.unavailable == 0:
        faults.append(("rolling without surge and without unavailable can change nothing", "set one of them to 1."))
    if plan.strategy is Strategy.canary and (not plan.steps or list(plan.steps) != sorted(set(plan.steps))):
        faults.append(("the canary's steps do not rise", "write them such as [5, 25, 50]."))
    return faults


def _health_faults(health: Health) -> list[tuple[str, str]]:
    faults = []
    if health.kind == "command" and not health.command:
        faults.append(("a health check by command needs the command", "give health.command."))
    if health.kind != "http" and (health.body or health.json):
        faults.append(("only HTTP checks look at what is answered", 'set kind = "http" under [health].'))
    return faults


def _scaling_faults(spec: ServiceSpec) -> list[tuple[str, str]]:
    scaling, faults = spec.scaling, []
    if scaling is None:
        return []
    if scaling.least > scaling.most:
        faults.append(("scaling.least is more than scaling.most", "swap them."))
    if not (scaling.target or scaling.step or scaling.schedule):
        faults.append(("scaling has no rule", "give [[scaling.target]], [[scaling.step]] or [[scaling.schedule]]."))
    for step in scaling.step:
        if (step.above is None) == (step.below is None) or not step.change:
            faults.append(("a step has either above or below, and a change", "such as above = 80, change = 1."))
        elif (step.change > 0) != (step.above is not None):
            faults.append(("a step above a value adds, one below it takes away", "turn the sign of change."))
    unknown = {day for each in scaling.schedule for day in each.days} - set(DAYS)
    if unknown:
        faults.append((f"{min(unknown)!r} is no day", f"use {', '.join(DAYS)}."))
    metrics = {rule.metric for rule in scaling.target} | {rule.metric for rule in scaling.step}
    if spec.front is None and metrics & {"requests_per_second", "requests_per_replica", "latency_ms"}:
        faults.append(("requests are counted by the balancer only", "give [front], or scale by another metric."))
    return faults


def slots_needed(spec: ServiceSpec, most: int) -> int:
    """Places that a rollout needs at its fullest.

    Args:
        spec: Of the new version.
        most: Replicas of the service, before or after.
    """
    if spec.rollout.strategy in {Strategy.blue_green, Strategy.canary}:
        return 2 * most
    return most + (spec.rollout.surge if spec.rollout.strategy is Strategy.rolling else 0)
