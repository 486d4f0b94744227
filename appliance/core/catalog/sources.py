"""Actions on sources: where frames come from, zones and rules in them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.catalog.source_forms import check_address, check_name, definition_of, document_in, points_of, refusal
from appliance.core.inference.sources.definition import Definition, build
from appliance.core.inference.sources.model import Kind, SourceEvent, SourceStatus
from appliance.core.inference.sources.service import SourceService, told
from appliance.core.model import Device, Role, Severity
from appliance.errors import NotFoundError

LONGEST = 31
"""Characters of a name."""
NewName = Annotated[str, AfterValidator(check_name)]


class SourceName(Params):
    """One source."""

    name: str = Field(min_length=1, max_length=LONGEST, description="Name of the source")


class Options(Params):
    """How a source is read; what is not given stays as it is, or has its default."""

    model: str | None = Field(None, max_length=128, description="Model to use; the active one where it is empty")
    rate: float | None = Field(None, ge=0.01, le=60, description="Most frames a second that are looked at; 5")
    drop: Literal["latest", "wait"] | None = Field(None, description="latest: the newest frame wins; wait: files, every frame")
    repeat: bool | None = Field(None, description="A video file begins again at its end")
    existing: bool | None = Field(None, description="Pictures that are in a folder already are looked at too")
    timeout: float | None = Field(None, ge=0.5, le=300, description="Seconds without a frame until it has failed; 10")
    schedule: str | None = Field(None, max_length=500, description='When it runs, such as "mon-fri 08:00-18:00; sat,sun"')
    keep_results: bool | None = Field(None, description="Every result goes to store and topics, not only events")
    track_score: float | None = Field(None, ge=0, le=1, description="Least score with which a track begins; 0.4")
    track_seconds: float | None = Field(None, ge=0, le=600, description="How long an unseen object stays the same one; 2")
    keyframes: bool | None = Field(None, description="Decode only frames that stand by themselves; saves CPU")
    transport: Literal["tcp", "udp"] | None = Field(None, description="Of RTSP; tcp")
    size: str | None = Field(None, max_length=11, description="Of a camera's frames, such as 1280x720")
    pixel_format: str | None = Field(None, max_length=20, description="What a camera sends, such as mjpeg")
    password: SecretStr | None = Field(None, max_length=1024, description="Password of a stream")


class Adding(Options):
    """A new source."""

    name: NewName = Field(min_length=1, max_length=LONGEST, description="Lower case letters, digits, dash, underscore")
    address: str | None = Field(None, max_length=2048, description="URL without password, path, /dev/videoN or picamera")
    kind: Kind | None = Field(None, description="What it is; seen from the address where it is not given")
    stopped: bool = Field(False, description="Add it, and do not start it")
    file: str | None = Field(
        None,
        max_length=200_000,
        description="Everything about it as TOML or JSON in Base64, zones and rules too; on the command line: a file to read",
        json_schema_extra={"contentEncoding": "base64"},
    )

    @field_validator("address")
    @classmethod
    def _no_password(cls, address: str | None) -> str | None:
        return check_address(address)

    @model_validator(mode="after")
    def _nor_in_the_file(self) -> Adding:
        if self.file is not None:  # before it is audited
            document_in(self.file)
        if self.address is None and self.file is None:
            raise refusal("give an address: a URL, a path, /dev/videoN or picamera; or a file that has it")
        return self


class Changing(Options):
    """What is to be another way of a source."""

    name: str = Field(min_length=1, max_length=LONGEST, description="Name of the source")
    address: str | None = Field(None, max_length=2048, description="URL without password, path, /dev/videoN or picamera")

    @field_validator("address")
    @classmethod
    def _no_password(cls, address: str | None) -> str | None:
        return check_address(address)


class ZoneForm(SourceName):
    """An area of a source's frame."""

    zone: NewName = Field(min_length=1, max_length=LONGEST, description="Name of the zone")
    points: str = Field(max_length=2000, description='Corners as shares of the frame: "0.1,0.2 0.9,0.2 0.9,0.8 0.1,0.8"')
    anchor: Literal["foot", "centre"] = Field("foot", description="Point of a box that must lie in it")


class ZoneName(SourceName):
    """A zone of a source."""

    zone: str = Field(min_length=1, max_length=LONGEST, description="Name of the zone")


class RuleForm(SourceName):
    """When a source tells of an event."""

    rule: NewName = Field(min_length=1, max_length=LONGEST, description="Name of the rule")
    labels: list[str] = Field([], max_length=32, description="What is looked for, such as person; again for each further one")
    zone: str = Field("", max_length=LONGEST, description="Where it must be; anywhere without it")
    seconds: float = Field(0.0, ge=0, le=86400, description="How long it must be there")
    cooldown: float = Field(60.0, ge=0, le=86400, description="Seconds of quiet after an event")
    score: float = Field(0.0, ge=0, le=1, description="Least score of the object")
    severity: Severity = Field(Severity.info, description="Of the event")
    snapshot: bool = Field(True, description="Keep the frame")
    clip: float = Field(0.0, ge=0, le=60, description="Seconds of video to keep around the event; 0 for none")


class RuleName(SourceName):
    """A rule of a source."""

    rule: str = Field(min_length=1, max_length=LONGEST, description="Name of the rule")


class Preview(SourceName):
    """What a source saw last, to be drawn in a terminal."""

    columns: int = Field(76, ge=1, le=500, description="Width, cells")
    rows: int = Field(18, ge=1, le=200, description="Height, cells")
    mode: Literal["half-blocks", "console", "kitty", "sixel"] = Field("half-blocks", description="How to draw")


class Events(Params):
    """Events of the sources."""

    name: str | None = Field(None, max_length=LONGEST, description="Only of this source")
    limit: int = Field(50, ge=1, le=500, description="Most rows")


Cameras = Callable[[], tuple[Device, ...]]
"""The cameras of this machine; blocks."""


def source_actions(service: SourceService, cameras: Cameras) -> list[Action]:
    """Sources: add, change, start, stop, look."""
    return [*_showing(service, cameras), *_setting(service), *_areas(service), *_telling(service)]


def _showing(service: SourceService, cameras: Cameras) -> list[Action]:
    async def listed(_: Invocation, __: NoParams) -> tuple[SourceStatus, ...]:
        return service.statuses()

    async def show(_: Invocation, params: SourceName) -> dict[str, Any]:
        source = await service.book.one(params.name)
        status = next((each for each in service.statuses() if each.name == params.name), None)
        return {"definition": source.model_dump(mode="json"), "status": status}

    async def events(_: Invocation, params: Events) -> list[SourceEvent]:
        found = [event for status in service.statuses() if params.name in {None, status.name} for event in status.events]
        return sorted(found, key=lambda event: event.event_id, reverse=True)[: params.limit]

    async def preview(_: Invocation, params: Preview) -> dict[str, Any]:
        return await service.preview(params.name, params.columns, params.rows, params.mode)

    async def there(_: Invocation, __: NoParams) -> tuple[Device, ...]:
        return await asyncio.to_thread(cameras)

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("source.list", "List the sources and how each is", listed, brief=told),
        query("source.show", "Show everything about a source", show, params=SourceName, positional=("name",)),
        query("source.events", "List the newest events of the sources", events, params=Events),
        query("source.preview", "Draw what a source saw last", preview, params=Preview, positional=("name",), hidden=True),
        query("source.cameras", "List the cameras of this machine", there),
    ]


def _setting(service: SourceService) -> list[Action]:
    async def add(_: Invocation, params: Adding) -> SourceStatus:
        source = await asyncio.to_thread(definition_of, params)
        return await service.add(source, _password(params) or "")

    async def change(_: Invocation, params: Changing) -> SourceStatus:
        given = params.model_dump(mode="json", exclude={"password", "name"}, exclude_none=True)
        source = await service.book.one(params.name)
        return await service.change(build({**source.model_dump(mode="json"), **given}), _password(params))

    async def start(_: Invocation, params: SourceName) -> SourceStatus:
        return await service.switch(params.name, enabled=True)

    async def stop(_: Invocation, params: SourceName) -> SourceStatus:
        return await service.switch(params.name, enabled=False)

    async def remove(_: Invocation, params: SourceName) -> None:
        await service.remove(params.name)

    async def snapshot(_: Invocation, params: SourceName) -> dict[str, Any]:
        return await service.snapshot(params.name)

    one = functools.partial(Action, params=SourceName, positional=("name",))
    return [
        Action("source.add", "Add a source of frames", add, Adding, positional=("name", "address"), timeout=60.0),
        Action("source.change", "Change a source", change, Changing, positional=("name",), timeout=60.0),
        one("source.start", "Start a source", start),
        one("source.stop", "Stop a source", stop),
        one("source.remove", "Remove a source", remove, dangerous=True, look_up=lambda params: service.book.one(params.name),
            confirm_text="Remove the source {name} with its zones and rules? Its snapshots stay for their time."),
        one("source.snapshot", "Keep the newest frame of a source in the memory", snapshot),
    ]  # fmt: skip


def _password(params: Options) -> str | None:
    return None if params.password is None else params.password.get_secret_value()


def _areas(service: SourceService) -> list[Action]:
    async def put(_: Invocation, params: ZoneForm) -> SourceStatus:
        new = {"name": params.zone, "points": points_of(params.points), "anchor": params.anchor}
        return await _with(service, params.name, "zones", params.zone, new)

    async def remove(_: Invocation, params: ZoneName) -> SourceStatus:
        return await _without(service, params.name, "zones", params.zone)

    return [
        Action("source.set-zone", "Set a zone of a source", put, ZoneForm, positional=("name", "zone", "points")),
        Action("source.remove-zone", "Remove a zone of a source", remove, ZoneName, positional=("name", "zone")),
    ]


def _telling(service: SourceService) -> list[Action]:
    async def put(_: Invocation, params: RuleForm) -> SourceStatus:
        new = {**params.model_dump(mode="json", exclude={"name", "rule"}), "name": params.rule}
        return await _with(service, params.name, "rules", params.rule, new)

    async def remove(_: Invocation, params: RuleName) -> SourceStatus:
        return await _without(service, params.name, "rules", params.rule)

    return [
        Action("source.set-rule", "Set a rule of a source", put, RuleForm, positional=("name", "rule")),
        Action("source.remove-rule", "Remove a rule of a source", remove, RuleName, positional=("name", "rule")),
    ]


async def _with(service: SourceService, name: str, group: str, part: str, new: dict[str, Any]) -> SourceStatus:
    document = (await service.book.one(name)).model_dump(mode="json")
    others = [each for each in document[group] if each["name"] != part]
    return await service.change(build({**document, group: [*others, new]}))


async def _without(service: SourceService, name: str, group: str, part: str) -> SourceStatus:
    source: Definition = await service.book.one(name)
    document = source.model_dump(mode="json")
    left = [each for each in document[group] if each["name"] != part]
    if len(left) == len(document[group]):
        there = ", ".join(each["name"] for each in left) or "none"
        raise NotFoundError(f"{name} has no {group[:-1]} {part!r}.", f"its {group} are: {there}.")
    return await service.change(build({**document, group: left}))
