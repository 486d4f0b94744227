"""The bounds of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


def _batches() -> Mapping[str, int]:
    return {"hailo": 8, "cpu": 4}


def _slots() -> Mapping[str, int]:
    return {"hailo": 2, "cpu": 1}


def _stalls() -> Mapping[str, float]:
    return {"hailo": 2.0, "cpu": 60.0}


@dataclass(frozen=True)
class Limits:
    """Bounds of queues, batches and times; all times in seconds.

    Attributes:
        waiting: Requests of one priority that may wait. Beyond it a frame (Priority.low) is dropped, any other is refused.
        waiting_bytes: Bytes of all waiting inputs; beyond it the lowest priority's oldest is dropped first.
        max_batch: Most requests in one run, by backend.
        hold: Longest that a shared run may take, where one request alone does not take longer: what is urgent waits for it.
        max_wait: Longest that a request waits for others to share its run, where they come that fast.
        slots: Batches that a device works on at the same time, by backend.
        stall: Without an answer for so long, a device is held for stalled, by backend; drivers may notice earlier.
        slow: A model whose runs take long is given this many times its usual time, where that is more than `stall`.
        load: Longest that loading a model may take.
        models: Most models that one device holds; the least recently used goes.
        poll: Between two readings of the devices.
        hot_c: °C of the accelerator from which on others are preferred.
        cool_c: °C below which it is preferred again.
        probe_first: Until the first attempt to bring a stalled device back.
        probe_longest: Between later ones at most.
        relapse: A device that fails again within this time after its return waits longer each time.
        absent_retry: Between two looks for a device that is not there.
        broken_retry: Until a model that a device could not load is tried there again.
    """

    waiting: int = 64
    waiting_bytes: int = 256 * 1024 * 1024
    max_batch: Mapping[str, int] = field(default_factory=_batches)
    hold: float = 0.05
    max_wait: float = 0.002
    slots: Mapping[str, int] = field(default_factory=_slots)
    stall: Mapping[str, float] = field(default_factory=_stalls)
    slow: float = 20.0
    load: float = 60.0
    models: int = 8
    poll: float = 2.0
    hot_c: float = 85.0
    cool_c: float = 78.0
    probe_first: float = 0.5
    probe_longest: float = 60.0
    relapse: float = 120.0
    absent_retry: float = 30.0
    broken_retry: float = 60.0
