"""What inference shows of itself (Section.inference): devices, versions, splits, cache, counters."""

from __future__ import annotations

import msgspec

from appliance.core.inference.model import DeviceReading
from appliance.core.model import Health, InferenceStats


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One accelerator as the engine sees it.

    Attributes:
        name: The accelerator's.
        backend: "hailo" or "cpu".
        health: Absent where it is not there or switched off; unhealthy while it stalls.
        reading: Its own word; None where it gives none.
        loaded: Keys (name@version) of the models that it holds.
        done: Requests that it answered since the start.
        failed: Requests that it failed.
        stalls: How often it did not answer in time.
        resets: How often it was reset.
        latency_ms: Of a batch, as an exponential mean; None before the first.
        busy: Share (0…1) of the last seconds in which it ran a batch; None where that is not known yet.
    """

    name: str
    backend: str
    health: Health
    reason: str
    next_step: str = ""
    reading: DeviceReading | None = None
    loaded: tuple[str, ...] = ()
    done: int = 0
    failed: int = 0
    stalls: int = 0
    resets: int = 0
    latency_ms: float | None = None
    busy: float | None = None


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """A request, or many in a row for one reason, that ran elsewhere than it should have."""

    time: float
    """Of the newest; wall clock, seconds since the epoch."""
    model: str
    """name@version."""
    wanted: str
    """Device that it should have run on."""
    used: str
    reason: str
    count: int = 1


class ModelLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How one model does on one device that holds it.

    Attributes:
        model: name@version.
        requests: That it answered there since it was loaded.
        batch: How many requests in one run pay, as far as is known.
        mean_ms: Of a run, as an exponential mean; None before the first.
    """

    model: str
    device: str
    requests: int = 0
    batch: int = 1
    mean_ms: float | None = None


class EngineEvent(msgspec.Struct, frozen=True):
    """Something that happened to a device.

    Attributes:
        time: Wall clock, seconds since the epoch.
        device: The accelerator's name.
        kind: "stalled" (no answer in time), "failed", "lost" (not there any more), "found", "returned" (it answers again),
            "hot", "cool", "notice", "fallback" (its requests run elsewhere; told once for each reason), "load-failed".
        reason: What happened.
        next_step: What can be done about it.
    """

    time: float
    device: str
    kind: str
    reason: str
    next_step: str = ""


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What runs models, now and since the start.

    Attributes:
        devices: In the order in which they are tried.
        waiting: By the priority's name.
        waiting_bytes: Of their inputs.
        running: Requests in a batch now.
        dropped: Requests given up for more urgent ones, or refused because their queue was full.
        dropped_by: The same, by the priority's name.
        expired: Requests whose deadline passed.
        cancelled: Requests whose caller went away before they ran.
        batches: That were run.
        batched: Requests in them.
        fallbacks: Requests that ran elsewhere than they should have.
        last_fallbacks: Newest first, 20 at most.
        histogram: (upper limit in ms, answers) from a request's coming to its answer; the last limit is infinite (None).
        p50_ms: Of the newest 500 answers; None before the first.
        p99_ms: Likewise.
        per_second: Answers a second over the last ten seconds; None before the first.
        loads: Of the models that the devices hold.
    """

    devices: tuple[DeviceStatus, ...] = ()
    waiting: dict[str, int] = {}
    waiting_bytes: int = 0
    running: int = 0
    dropped: int = 0
    dropped_by: dict[str, int] = {}
    expired: int = 0
    cancelled: int = 0
    batches: int = 0
    batched: int = 0
    fallbacks: int = 0
    last_fallbacks: tuple[Fallback, ...] = ()
    histogram: tuple[tuple[float | None, int], ...] = ()
    p50_ms: float | None = None
    p99_ms: float | None = None
    per_second: float | None = None
    loads: tuple[ModelLoad, ...] = ()


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What one version did, over the newest requests that it served (1000 at most); None where it served none."""

    requests: int = 0
    """Since it was taken into service in this run of the appliance."""
    errors: int = 0
    error_rate: float | None = None
    """0…1."""
    p50_ms: float | None = None
    p95_ms: float | None = None


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How far what a version finds now is from what it found at first (population stability index).

    Attributes:
        state: "gathering" (the baseline is not complete), "watching", or "drifted".
        baseline: Requests in the baseline.
        window: Requests in the window that is held against it.
        needed: Requests that each must have.
        labels: Index over the labels; None until both are complete.
        scores: Index over the scores in tenths; None likewise.
        limit: From which on it has drifted.
        most: The label that moved most, with its shares; empty where none did.
    """

    state: str
    baseline: int
    window: int
    needed: int
    limit: float
    labels: float | None = None
    scores: float | None = None
    most: str = ""


class VersionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one model, as lists show it.

    Attributes:
        stage: "Staging", "Production" or "Archived".
        active: It serves the requests for its name.
        previous: What `model rollback` would bring back.
        task: Empty where the manifest cannot be read.
        kinds: Of its files: "onnx", "hef", …
        size: Bytes on disk.
        removable: It lies in the appliance's own directory.
        added: Wall clock; 0 where it was not added by the registry.
        tested: What the last self-test said; empty where there was none.
        error: Why it cannot be used; empty where it can.
    """

    name: str
    version: str
    stage: str
    active: bool = False
    previous: bool = False
    task: str = ""
    labels: int = 0
    kinds: tuple[str, ...] = ()
    size: int = 0
    licence: str = ""
    directory: str = ""
    removable: bool = False
    added: float = 0.0
    origin: str = ""
    tested: str = ""
    error: str = ""
    next_step: str = ""
    served: Served = Served()
    drift: Drift | None = None


class SplitRow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one name divided between two versions, and how they compare.

    Attributes:
        mode: "ab" (each request goes to one of them), "shadow" (the active one answers, the other runs beside it), or
            "canary" (as ab, and judged at its end).
        percent: Of the requests that the candidate gets.
        agreement: Share (0…1) of the inputs of a shadow on which both found the same; None where none was compared.
        compared: Inputs on which both ran.
        skipped: Inputs of a shadow that the candidate did not run on, because the devices had more urgent work.
        until: Wall clock at which a canary is judged at the latest; 0 for no such time.
        wanted: Requests after which a canary is judged.
        verdict: What speaks for or against the candidate so far.
    """

    name: str
    active: str
    candidate: str
    mode: str
    percent: float
    since: float
    of_active: Served = Served()
    of_candidate: Served = Served()
    agreement: float | None = None
    compared: int = 0
    skipped: int = 0
    until: float = 0.0
    wanted: int = 0
    verdict: str = ""


class CacheStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Results that are remembered."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    entry_limit: int = 0
    bytes: int = 0
    byte_limit: int = 0
    evicted: int = 0


class InferenceStatus(InferenceStats, frozen=True, kw_only=True):
    """Section.inference: the counters, and all that the screen shows beside them.

    Attributes:
        done_by: Results by backend, those of the cache not among them.
        cached: Results of the cache.
        prepared: Inputs that were decoded and brought into a model's form.
        histogram: (upper limit in ms, results) of the end-to-end times since the start; the last limit is infinite (None).
        per_second: Results a second over the last ten seconds; None before the first.
        models: By name, then version.
        dropped_models: What was archived or removed to make room, newest first, 20 at most.
    """

    done_by: dict[str, int] = msgspec.field(default_factory=dict)
    cached: int = 0
    prepared: int = 0
    histogram: tuple[tuple[float | None, int], ...] = ()
    per_second: float | None = None
    engine: EngineStatus = EngineStatus()
    models: tuple[VersionRow, ...] = ()
    models_bytes: int = 0
    models_limit: int = 0
    dropped_models: tuple[str, ...] = ()
    splits: tuple[SplitRow, ...] = ()
    cache: CacheStatus = CacheStatus()
