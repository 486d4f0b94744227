"""Whether a new version that gets a share of the requests is to serve: by its errors and times beside the old one's."""

from __future__ import annotations

from typing import NamedTuple

from appliance.core.inference.registry.records import Split
from appliance.core.inference.registry.watching import Comparison
from appliance.settinginference import ModelSettings

STOP = 3
"""Failures in a row from the very first request on, after which nothing more is tried."""
COMPARABLE = 5
"""Answers that both must have given before their times are compared."""


class Verdict(NamedTuple):
    """good: None while it is not decided."""

    good: bool | None
    reason: str


def judge(split: Split, seen: Comparison, left: float, settings: ModelSettings) -> Verdict:
    """Judge a canary.

    Args:
        split: What was begun.
        seen: Of both versions since then.
        left: Seconds until it must be decided.
        settings: Limits.
    """
    new, old = seen.candidate, seen.active
    wanted = split.wanted or settings.canary_requests
    if new.errors >= STOP and new.errors == new.requests and not old.errors:
        return Verdict(False, f"all of its {new.requests} requests failed, and none of the old version's")
    if new.requests < wanted and left > 0:
        return Verdict(None, f"{new.requests} of {wanted} requests, {max(0.0, left):.0f} s left")
    if new.requests < max(1, wanted // 5):
        return Verdict(False, f"only {new.requests} of {wanted} requests came in its time: too few to judge by")
    failed, before = new.rate() or 0.0, old.rate() or 0.0
    if failed > before + settings.canary_error_percent / 100:
        return Verdict(False, f"{failed:.1%} of its requests failed, {before:.1%} of the old version's")
    mine, others = new.status(), old.status()
    times = ""
    if mine.p95_ms is not None and others.p95_ms is not None and min(_good(seen)) >= COMPARABLE:
        times = f", p95 {mine.p95_ms:.0f} ms beside {others.p95_ms:.0f} ms"
        if mine.p95_ms > others.p95_ms * (1 + settings.canary_latency_percent / 100):
            return Verdict(False, f"it is slower{times}")
    return Verdict(True, f"{failed:.1%} of {new.requests} requests failed, {before:.1%} of the old version's{times}")


def _good(seen: Comparison) -> tuple[int, int]:
    return seen.candidate.requests - seen.candidate.errors, seen.active.requests - seen.active.errors
