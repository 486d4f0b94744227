"""How fast a version is on this machine: its own self-test, or a blank input, again and again through the whole pipeline."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from appliance.core.figures import percentile
from appliance.core.inference.model import ModelVersion, Priority
from appliance.core.inference.pipeline import Pipeline, Ran
from appliance.core.inference.registry.checks import self_test

WARM = 3
"""Runs before it counts: the first ones load and allocate."""


async def bench(
    version: ModelVersion, pipeline: Pipeline, requests: int, parallel: int, report: Callable[[float, str], None]
) -> dict[str, Any]:
    """Figures of so many requests.

    Args:
        version: Which.
        pipeline: Runs it.
        requests: How many are measured.
        parallel: How many at a time.
        report: Told the share (0…1) that is done.

    Returns:
        model, input, requests, parallel, per_second, total_p50_ms and so on (end to end, without decoding),
        device_p50_ms and so on (the device alone, for the batch), devices: requests by device.

    Raises:
        InferenceError, AbsentError: As Pipeline.run.
    """
    sample = await self_test(version, pipeline)
    times: list[float] = []
    runs: list[Ran] = []

    async def one() -> Ran:
        return await pipeline.run(version, sample, threshold=0.3, priority=Priority.low)

    for _ in range(WARM):
        await one()
    left = iter(range(requests))

    async def worker() -> None:
        for _ in left:
            began = time.perf_counter()
            runs.append(await one())
            times.append((time.perf_counter() - began) * 1000)
            report(len(times) / requests, f"{len(times)} of {requests}")

    began = time.perf_counter()
    tasks = [asyncio.create_task(worker()) for _ in range(parallel)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    took = time.perf_counter() - began
    return {
        "model": version.key, "input": _input(version), "requests": len(runs), "parallel": parallel,
        "per_second": round(len(runs) / took, 2), **_times("total", times),
        **_times("device", [ran.inference_ms for ran in runs]), "devices": dict(Counter(ran.device for ran in runs)),
    }  # fmt: skip


def _input(version: ModelVersion) -> str:
    file = version.manifest.file("self-test")
    return "a blank input: the manifest has no self-test" if file is None else f"the self-test's {file.path}"


def _times(name: str, values: list[float]) -> dict[str, float]:
    return {f"{name}_p{share}_ms": round(percentile(values, share / 100), 2) for share in (50, 95, 99)}
