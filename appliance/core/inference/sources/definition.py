"""What an operator says of a source: where it is, how often it is looked at, when, which zones and rules it has."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from appliance.core.inference.sources import address as addresses
from appliance.core.inference.sources import schedule as schedules
from appliance.core.inference.sources import zones
from appliance.core.inference.sources.model import Kind
from appliance.core.model import Severity
from appliance.errors import InvalidArgumentsError

NAME = r"^[a-z0-9][a-z0-9_-]{0,30}$"
Name = Annotated[str, Field(pattern=NAME)]
Share = Annotated[float, Field(ge=0, le=1)]
SMALLEST = 1e-4
"""Area of a zone, as a share of the frame."""
MOST_ZONES = 16
MOST_RULES = 16


class Part(BaseModel):
    """Base: frozen, strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Zone(Part):
    """A polygon in the frame.

    Attributes:
        name: Of the zone.
        points: Its corners in order, in shares of width and height from the upper left corner.
        anchor: Which point of a box must lie in it: the middle of its lower edge, or its centre.
    """

    name: Name
    points: tuple[tuple[Share, Share], ...] = Field(min_length=3, max_length=32)
    anchor: Literal["foot", "centre"] = "foot"

    @field_validator("points")
    @classmethod
    def _is_an_area(cls, points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        if zones.crossing(points):
            raise ValueError("two sides of the zone cross each other; give its corners in order around it.")
        if zones.area(points) < SMALLEST:
            raise ValueError("the zone has no area; give corners that do not lie on one line.")
        return points


class Rule(Part):
    """When something is told.

    Attributes:
        name: Of the rule.
        labels: What is looked for; any of them. Everything where none is given.
        zone: Where it must be; anywhere where none is given.
        seconds: How long it must be there.
        cooldown: Seconds after an event in which this rule tells no further one.
        score: Least score of the object, 0…1.
        severity: Of the event.
        snapshot: Keep the frame as JPEG.
        clip: Seconds of video to keep from before and after the event, half and half; 0 for none.
    """

    name: Name
    labels: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field((), max_length=32)
    zone: str = ""
    seconds: float = Field(0.0, ge=0, le=86400)
    cooldown: float = Field(60.0, ge=0, le=86400)
    score: float = Field(0.0, ge=0, le=1)
    severity: Severity = Severity.info
    snapshot: bool = True
    clip: float = Field(0.0, ge=0, le=60)


class Definition(Part):
    """One source.

    Attributes:
        name: Of the source; in keys, events and commands.
        kind: What it is.
        address: URL without password, absolute path, device, or picamera.
        enabled: It runs when the appliance runs.
        model: Model to use; empty for the active one.
        rate: Most frames a second that are looked at. Tracks need about 5, where things move.
        drop: "latest": the newest frame wins, older ones are dropped. "wait": files only, every wanted frame is looked at.
        repeat: A video file begins again at its end.
        existing: Pictures that are in a folder already are looked at too.
        timeout: Seconds without a frame after which the source has failed.
        schedule: Times of the week (see schedule); empty for always.
        keep_results: Each result goes to the store and the topics, not only events.
        track_score: Least score with which a new track begins; lower ones only continue one.
        track_seconds: How long a track is kept though it is not seen.
        keyframes: Decode only the frames of a video that stand by themselves: saves most of the CPU, gives few frames.
        transport: Of RTSP.
        size: Of a camera, such as 1280x720; its own choice where empty.
        pixel_format: Of a camera, such as mjpeg or yuyv422; its own choice where empty.
        zones: Areas of the frame.
        rules: What is told.
    """

    name: Name
    kind: Kind
    address: str = Field(min_length=1, max_length=2048)
    enabled: bool = True
    model: str = Field("", max_length=128)
    rate: float = Field(5.0, ge=0.01, le=60)
    drop: Literal["latest", "wait"] = "latest"
    repeat: bool = False
    existing: bool = False
    timeout: float = Field(10.0, ge=0.5, le=300)
    schedule: str = Field("", max_length=500)
    keep_results: bool = False
    track_score: float = Field(0.4, ge=0, le=1)
    track_seconds: float = Field(2.0, ge=0, le=600)
    keyframes: bool = False
    transport: Literal["tcp", "udp"] = "tcp"
    size: Annotated[str, Field(pattern=r"^([1-9]\d{1,4}x[1-9]\d{1,4})?$")] = ""
    pixel_format: Annotated[str, Field(pattern=r"^[a-z0-9_]{0,20}$")] = ""
    zones: tuple[Zone, ...] = Field((), max_length=MOST_ZONES)
    rules: tuple[Rule, ...] = Field((), max_length=MOST_RULES)

    @model_validator(mode="after")
    def _fits_together(self) -> Definition:
        if addresses.check(self.kind, self.address) != self.address:
            raise ValueError("the address is not in its plain form; give it without . and .. in it.")
        schedules.parse(self.schedule)
        if self.kind.live and self.drop == "wait":
            raise ValueError("a live source waits for nobody; its drop policy is latest.")
        if self.repeat and self.kind is not Kind.video:
            raise ValueError("only a video file can be repeated.")
        _once("zone", [zone.name for zone in self.zones])
        _once("rule", [rule.name for rule in self.rules])
        names = {zone.name for zone in self.zones}
        for rule in self.rules:
            if rule.zone and rule.zone not in names:
                raise ValueError(f"the rule {rule.name} names the zone {rule.zone[:40]!r}, and there is none; add it first.")
        return self


def _once(what: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"two {what}s have the same name.")


def build(document: dict[str, Any]) -> Definition:
    """A definition from plain values. Raises InvalidArgumentsError, which names no value of an address."""
    try:
        return Definition.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        faults = "; ".join(
            ": ".join([*filter(None, [".".join(map(str, fault["loc"]))]), _said(fault["msg"])]) for fault in found[:5]
        )
        raise InvalidArgumentsError(f"This is no source: {faults}", "see docs/sources.md for examples.") from None


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")
