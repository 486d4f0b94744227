"""Rules of the windows: what is counted together, how, and over which time. Checked here, wherever a rule comes from."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from appliance.core.analytics.model import Aggregation
from appliance.core.streams import rules_language
from appliance.errors import RuleError

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SPAN = re.compile(r"^(\d{1,9})(ms|s|m|h|d)$")
LONGEST = 7 * UNITS["d"]
"""Milliseconds; what Kafka keeps bounds what a window can hold."""
AUTO = "auto"
OVERLAPS = 100
"""Most hopping windows that one event may lie in."""
PATH = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_][A-Za-z0-9_-]*){0,7}$")
SOURCES = (
    "edge.telemetry", "edge.ai.inference", "edge.sensors", "system.health", "analytics.events", "agents.tasks",
    "agents.results", "models.updates", "cloud.commands",
)  # fmt: skip
"""Topics that can be aggregated; not what the windows write themselves."""


class Kind(StrEnum):
    """Kinds of windows. All lie in event time: the envelope's timestamp."""

    tumbling = "tumbling"
    """One after the other, aligned to the epoch, [start, end)."""
    hopping = "hopping"
    """Of one size, one begins with each step; they overlap, [start, end)."""
    sliding = "sliding"
    """One ends at each event and holds what came in the time before it, [end - size, end], both inclusive."""
    session = "session"
    """Events with no longer pause than the gap between them, [first, last + 1 ms)."""


def milliseconds(text: str) -> int:
    """A length of time such as 500ms, 30s, 5m, 1h or 1d. Raises ValueError."""
    found = SPAN.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no length of time: a whole number with ms, s, m, h or d, such as 30s")
    return int(found[1]) * UNITS[found[2]]


class Window(BaseModel):
    """The time over which is aggregated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Kind.tumbling
    size: str = ""
    """Width, for all but sessions."""
    step: str = ""
    """Of hopping windows: how long after a window the next one begins."""
    gap: str = ""
    """Of sessions: the longest pause in one."""

    @field_validator("size", "step", "gap")
    @classmethod
    def _span(cls, text: str) -> str:
        if text and not 100 <= milliseconds(text) <= LONGEST:
            raise ValueError(f"{text!r} is out of range: from 100ms to 7d")
        return text

    @model_validator(mode="after")
    def _fits(self) -> Window:
        wanted = {"gap"} if self.kind is Kind.session else {"size", "step"} if self.kind is Kind.hopping else {"size"}
        given = {name for name in ("size", "step", "gap") if getattr(self, name)}
        if given != wanted:
            raise ValueError(f"a {self.kind.value} window takes {' and '.join(sorted(wanted))}, and nothing else")
        if self.kind is Kind.hopping and not self.size_ms / OVERLAPS <= self.step_ms < self.size_ms:
            raise ValueError(f"the step must be shorter than the size, and not below a {OVERLAPS}th of it")
        return self

    @property
    def size_ms(self) -> int:
        """Width; of sessions the gap."""
        return milliseconds(self.gap or self.size)

    @property
    def step_ms(self) -> int:
        """From the beginning of a window to that of the next one."""
        return milliseconds(self.step) if self.step else self.size_ms

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind.value, self.gap or self.size, self.step and f"every {self.step}") if part)


class Rule(BaseModel):
    """One rule: filter → group → field → function over a window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    """Its name: lower case letters, digits and dashes."""
    enabled: bool = True
    topic: Literal[SOURCES]  # type: ignore[valid-type]  # the same tuple tells people what there is
    """Where its events come from."""
    types: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=32)] = ()
    """Types of events; empty for all."""
    filter: Annotated[str, Field(max_length=1000)] = ""
    """Expression that must be true, see rules_language; empty for all events."""
    group_by: Annotated[tuple[Annotated[str, Field(max_length=256)], ...], Field(max_length=8)] = ("device_id",)
    """What an event is grouped by: device_id, source, type, tag:NAME, or a path in its data; empty for all together."""
    field: Annotated[str, Field(max_length=1000)] = ""
    """Expression over the event's data that gives a number, such as metrics.cpu_usage; may be empty for count."""
    function: Aggregation = Aggregation.avg
    percentile: Annotated[float, Field(ge=0, le=100)] = 95.0
    window: Window
    lateness: str = "10s"
    """How much later than the newest event of its group an event may come, beyond its window's end."""
    idle: str = AUTO
    """Open windows of a group are closed when none of its events has come for so long; "" only by later events.

    "auto" is the window's size and the lateness, at least 1m: a shorter time closes windows that are not over, and what comes
    for them afterwards is late.
    """
    description: Annotated[str, Field(max_length=500)] = ""

    @field_validator("filter", "field")
    @classmethod
    def _expression(cls, text: str) -> str:
        if text:
            rules_language.compile_expression(text)
        return text

    @field_validator("group_by")
    @classmethod
    def _grouping(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not PATH.match(name.removeprefix("tag:")):
                raise ValueError(f"{name!r} is neither device_id, source, type, tag:NAME nor a path in the data")
        if len(set(names)) != len(names):
            raise ValueError("a name is there twice")
        return names

    @field_validator("lateness")
    @classmethod
    def _late(cls, text: str) -> str:
        if text and milliseconds(text) > UNITS["d"]:
            raise ValueError(f"{text!r} is longer than 1d")
        return text

    @field_validator("idle")
    @classmethod
    def _quiet(cls, text: str) -> str:
        if text and text != AUTO and milliseconds(text) > LONGEST + UNITS["d"]:
            raise ValueError(f"{text!r} is longer than 8d")
        return text

    @model_validator(mode="after")
    def _has_field(self) -> Rule:
        if not self.field and self.function is not Aggregation.count:
            raise ValueError(f"{self.function.value} needs a field, such as metrics.cpu_usage; only count goes without")
        return self

    @property
    def lateness_ms(self) -> int:
        """Milliseconds."""
        return milliseconds(self.lateness) if self.lateness else 0

    @property
    def idle_s(self) -> float | None:
        """Seconds, or None."""
        if self.idle == AUTO:
            return max(UNITS["m"], self.window.size_ms + self.lateness_ms) / 1000
        return milliseconds(self.idle) / 1000 if self.idle else None

    @property
    def aggregation(self) -> str:
        """How events on cloud.aggregated name the function."""
        return f"p{self.percentile:g}" if self.function is Aggregation.percentile else self.function.value

    @property
    def fingerprint(self) -> str:
        """Of everything that decides what a window holds: with another one, open windows cannot be continued."""
        decisive = self.model_dump(mode="json", exclude={"enabled", "description", "idle", "lateness"})
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:10]


def check(document: Mapping[str, Any]) -> Rule:
    """A rule from what somebody wrote.

    Raises:
        RuleError: It is wrong; the message says what, the next step names the nearest field.
    """
    try:
        return Rule.model_validate(document)
    except ValidationError as error:
        raise _explain(document, error) from error


def _explain(document: Mapping[str, Any], error: ValidationError) -> RuleError:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    name = str(document.get("id", "without id"))[:80]
    if first["type"] != "extra_forbidden":
        said = first["msg"].removeprefix("Value error, ")
        return RuleError(f"Rule {name}: {f'{where}: ' if where else ''}{said}.", "the fields are described in docs/windows.md.")
    fields = Window.model_fields if len(first["loc"]) > 1 else Rule.model_fields
    near = difflib.get_close_matches(str(first["loc"][-1]), fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(fields)}."
    return RuleError(f"Rule {name} has no field {where!r}.", hint)
