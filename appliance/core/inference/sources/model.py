"""The values of the sources: how each is now, what is tracked in it, what happened. They cross to screens and fronts."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from appliance.core.model import Box


class Kind(StrEnum):
    """What a source is."""

    picture = "picture"
    """One picture file."""
    folder = "folder"
    """Picture files that come into a directory."""
    video = "video"
    """One video file."""
    stream = "stream"
    """RTSP or HTTP."""
    v4l2 = "v4l2"
    """A camera of the kernel: USB, capture card."""
    picamera = "picamera"
    """A camera on the Raspberry Pi's own connector."""

    @property
    def live(self) -> bool:
        """What is not taken in time is gone."""
        return self in {Kind.stream, Kind.v4l2, Kind.picamera}


class SourceState(StrEnum):
    """Where a source stands."""

    stopped = "stopped"
    """By the operator."""
    paused = "paused"
    """Outside its schedule."""
    opening = "opening"
    running = "running"
    retrying = "retrying"
    """It failed, and is tried again at `next_try`."""
    ended = "ended"
    """A file was read to its end, or as far as it goes."""


class Track(msgspec.Struct, frozen=True):
    """One object that is followed from frame to frame.

    Attributes:
        track_id: Stable while it is followed; unique within a run of its source.
        label: What it is.
        score: Of the newest frame, 0…1.
        box: In pixels of the frame.
        seconds: Since it was seen first.
        zones: Names of the zones that it is in.
    """

    track_id: int
    label: str
    score: float
    box: Box
    seconds: float
    zones: tuple[str, ...] = ()


class SourceEvent(msgspec.Struct, frozen=True):
    """A rule's condition came true.

    Attributes:
        event_id: UUID version 7, the id of the event on the bus too.
        time: Wall clock, seconds since the epoch.
        source: Name of the source.
        rule: Name of the rule.
        severity: "info", "warning" or "critical".
        zone: Name of the zone; empty for the whole picture.
        label: What was seen.
        track_id: Which one.
        score: 0…1.
        seconds: How long it had been there.
        box: In pixels of the frame.
        snapshot: Key in the memory's namespace "sources"; empty where none is kept.
        clip: As snapshot; it comes some seconds after the event.
        problem: Why snapshot or clip were not kept; empty where they were, or are not wanted.
    """

    event_id: str
    time: float
    source: str
    rule: str
    severity: str
    zone: str
    label: str
    track_id: int
    score: float
    seconds: float
    box: Box
    snapshot: str = ""
    clip: str = ""
    problem: str = ""


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One source as the Sources screen shows it. None is "not known".

    Attributes:
        name: Chosen by the operator.
        kind: What it is.
        address: URL without password, path, or device.
        enabled: The operator wants it to run.
        state: Where it stands.
        reason: What is said of that state; the last error while it is tried again.
        next_step: What to do about that error.
        since: Wall clock of the last change of state.
        next_try: Wall clock of the next attempt while `state` is retrying; 0 otherwise.
        model: Model that is asked for; empty for the active one.
        rate: Frames a second that are looked at, at most.
        schedule: As it was given; empty for always.
        fps_in: Frames a second that arrive, over the last seconds.
        fps_inferred: Frames a second that were looked at.
        frames: That arrived, since the service started.
        inferred: That were looked at.
        skipped: Not wanted by `rate`.
        dropped: Given up for a newer frame.
        refused: Not looked at, because more urgent requests were there (QueueFullError).
        late: Not looked at in time (DeadlineError).
        failed: On which the model failed.
        damaged: Pictures and packets that could not be decoded.
        reconnects: Since the service started.
        frame_age_s: Of the newest frame, seconds, when this was put.
        width: Of a frame, pixels.
        height: Of a frame, pixels.
        latency_ms: Half of the last frames had their result in less, from their arrival on.
        problem: The newest of what went wrong besides its state: a model, a full disk.
        tracks: Followed now, oldest first; at most 64.
        zones: Their names.
        rules: Their names.
        events: The newest ones first; at most 20.
        events_total: Since the service started.
        suppressed: Events that were not told because of a rule's cooldown.
        kept: Snapshots and clips kept since the service started.
        not_kept: Those that found no room, or could not be made.
    """

    name: str
    kind: Kind
    address: str
    enabled: bool
    state: SourceState
    reason: str = ""
    next_step: str = ""
    since: float = 0.0
    next_try: float = 0.0
    model: str = ""
    rate: float
    schedule: str = ""
    fps_in: float | None = None
    fps_inferred: float | None = None
    frames: int = 0
    inferred: int = 0
    skipped: int = 0
    dropped: int = 0
    refused: int = 0
    late: int = 0
    failed: int = 0
    damaged: int = 0
    reconnects: int = 0
    frame_age_s: float | None = None
    width: int | None = None
    height: int | None = None
    latency_ms: float | None = None
    problem: str = ""
    tracks: tuple[Track, ...] = ()
    zones: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    events: tuple[SourceEvent, ...] = ()
    events_total: int = 0
    suppressed: int = 0
    kept: int = 0
    not_kept: int = 0
