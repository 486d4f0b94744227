"""Actions on the rules of the windows."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import tomllib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.analytics.model import Aggregation
from appliance.core.model import Role
from appliance.core.streams.rules import SOURCES, Rule, check
from appliance.core.streams.rules_events import data_of
from appliance.core.streams.rules_service import RulesService
from appliance.core.streams.rules_store import Kept, RuleBook
from appliance.core.streams.rules_try import attempt
from appliance.errors import InvalidArgumentsError, RuleError

WINDOW = re.compile(r"^\s*(tumbling|hopping|sliding|session)\s+(\w+)(?:\s+every\s+(\w+))?\s*$")
EVENTS = 10_000
"""Most events of one trial."""
SHOWN = 500
"""Most windows of one trial that are shown."""

Sampler = Callable[[str, int], Awaitable[list[bytes]]]
"""(topic, most) → the newest events that this appliance has of it, as envelopes, oldest first."""

Text = Annotated[str, Field(max_length=256)]


class RuleId(Params):
    """One rule."""

    rule_id: str = Field(min_length=1, max_length=63, description="Id of the rule")


class RuleForm(Params):
    """A rule to keep; what is not given has its default."""

    id: str | None = Field(None, max_length=63, description="Its name: lower case letters, digits, dashes")
    topic: Literal[SOURCES] | None = Field(None, description="Where its events come from")  # type: ignore[valid-type]
    function: Aggregation | None = Field(None, description="What becomes of the values; avg where it is not given")
    field: str | None = Field(None, max_length=1000, description="Number of the event, such as metrics.cpu_usage")
    window: str | dict[str, str] | None = Field(
        None, description='"tumbling 1m", "hopping 5m every 1m", "sliding 5m" or "session 30s"'
    )
    group_by: list[Text] | None = Field(None, max_length=8, description="device_id, source, type, tag:NAME or a path in data")
    types: list[Text] | None = Field(None, max_length=32, description="Types of events; all where none is given")
    filter: str | None = Field(None, max_length=1000, description="Must be true, such as 'metrics.cpu_usage > 80'")
    percentile: float | None = Field(None, ge=0, le=100, description="0 to 100, for the function percentile")
    lateness: str | None = Field(None, max_length=16, description="How much later an event may come; 10s")
    idle: str | None = Field(None, max_length=16, description="Closes a quiet group's windows after so long; auto: its length")
    description: str | None = Field(None, max_length=500, description="What it is for")
    enabled: bool | None = Field(None, description="Off: kept, not carried out")
    file: str | None = Field(
        None,
        max_length=100_000,
        description="The rule as TOML or JSON in Base64, instead of the others; on the command line: a file to read",
        json_schema_extra={"contentEncoding": "base64"},
    )


class Trying(Params):
    """A rule, and events to try it on."""

    rule_id: str = Field(min_length=1, max_length=63, description="Id of the rule")
    limit: int = Field(1000, ge=1, le=EVENTS, description="Newest events of this appliance to try it on")
    file: str | None = Field(
        None,
        max_length=4_000_000,
        description="Envelopes, one JSON a line, in Base64, instead of this appliance's; on the command line: a file to read",
        json_schema_extra={"contentEncoding": "base64"},
    )


def rule_actions(service: RulesService, sample: Sampler) -> list[Action]:
    """Rules: list, show, set, remove, switch, try."""
    return [*_showing(service.book), *_setting(service), *_switching(service), _trying(service.book, sample)]


def _showing(book: RuleBook) -> list[Action]:
    async def listed(_: Invocation, __: NoParams) -> list[dict[str, Any]]:
        return [row(kept) for kept in await book.all()]

    async def show(_: Invocation, params: RuleId) -> dict[str, Any]:
        return row(await book.one(params.rule_id))

    return [
        Action("rules.list", "List the rules of the windows", listed, role=Role.viewer, query=True),
        Action("rules.show", "Show a rule", show, RuleId, role=Role.viewer, query=True, positional=("rule_id",)),
    ]


def _setting(service: RulesService) -> list[Action]:
    book = service.book

    async def put(_: Invocation, params: RuleForm) -> dict[str, Any]:
        rule = _checked(document_of(params))
        await book.put(rule)
        service.wake()
        return row(await book.one(rule.id))

    async def remove(_: Invocation, params: RuleId) -> None:
        await book.remove(params.rule_id)
        service.wake()

    return [
        Action("rules.set", "Create or replace a rule", put, RuleForm, role=Role.operator, positional=("id",)),
        Action(
            "rules.remove", "Remove a rule", remove, RuleId, role=Role.operator, dangerous=True, positional=("rule_id",),
            confirm_text="Remove the rule {rule_id}? Its open windows are not written.",
            look_up=lambda params: book.one(params.rule_id),
        ),
    ]  # fmt: skip


def _switching(service: RulesService) -> list[Action]:
    book = service.book

    async def switch(rule_id: str, *, enabled: bool) -> dict[str, Any]:
        kept = await book.one(rule_id)
        if kept.rule.enabled is not enabled:
            await book.put(kept.rule.model_copy(update={"enabled": enabled}))
            service.wake()
        return row(await book.one(rule_id))

    async def enable(_: Invocation, params: RuleId) -> dict[str, Any]:
        return await switch(params.rule_id, enabled=True)

    async def disable(_: Invocation, params: RuleId) -> dict[str, Any]:
        return await switch(params.rule_id, enabled=False)

    return [
        Action("rules.enable", "Switch a rule on", enable, RuleId, role=Role.operator, positional=("rule_id",)),
        Action("rules.disable", "Switch a rule off", disable, RuleId, role=Role.operator, positional=("rule_id",)),
    ]


def _trying(book: RuleBook, sample: Sampler) -> Action:
    async def trial(_: Invocation, params: Trying) -> dict[str, Any]:
        rule = (await book.one(params.rule_id)).rule
        bodies = _decoded(params.file).splitlines() if params.file else await sample(rule.topic, params.limit)
        return await asyncio.to_thread(_tried, rule, [body for body in bodies if body.strip()][-EVENTS:], own=not params.file)

    return Action(
        "rules.try", "Try a rule on past events", trial, Trying, role=Role.viewer, query=True, positional=("rule_id",)
    )


def row(kept: Kept) -> dict[str, Any]:
    """A rule as plain JSON, with when it was changed and whether Kafka has it."""
    return {**kept.rule.model_dump(mode="json"), "changed": kept.changed, "published": kept.published}


def document_of(form: RuleForm) -> dict[str, Any]:
    """What was given, as a rule's document. Raises InvalidArgumentsError."""
    given = {name: value for name, value in form.model_dump(mode="json").items() if value is not None and name != "file"}
    if form.file:
        document = _parsed(_decoded(form.file))
        return {**document, **given}
    if isinstance(form.window, str):
        given["window"] = _window(form.window)
    return given


def _window(text: str) -> dict[str, str]:
    found = WINDOW.match(text)
    if found is None:
        raise InvalidArgumentsError(f"{text!r} is no window.", 'write "tumbling 1m", "hopping 5m every 1m" or "session 30s".')
    kind, size, step = found.groups()
    return {"kind": kind, "gap" if kind == "session" else "size": size, **({"step": step} if step else {})}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidArgumentsError(f"file is no Base64: {error}.", "encode the file's bytes.") from error


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode()
        document = msgspec.json.decode(body) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentsError(f"The file is neither TOML nor JSON: {error}.", "see docs/windows.md for one.") from error
    if not isinstance(document, dict):
        raise InvalidArgumentsError("The file has no rule.", "see docs/windows.md for one.")
    return document


def _checked(document: dict[str, Any]) -> Rule:
    try:
        return check(document)
    except RuleError as error:
        raise InvalidArgumentsError(error.message, error.next_step) from error


def _tried(rule: Rule, bodies: list[bytes], *, own: bool) -> dict[str, Any]:
    trial = attempt(rule, bodies)
    windows = [data_of(closed) for closed in trial.windows[-SHOWN:]]
    return {
        "rule_id": rule.id, "source": "this appliance" if own else "file", "messages": len(bodies), "events": trial.events,
        "late": trial.late, "errors": dict(Counter(trial.errors).most_common(20)), "windows": windows,
        "cut": max(0, len(trial.windows) - SHOWN),
    }  # fmt: skip
