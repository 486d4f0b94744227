"""Actions on metrics, pictures and models."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.analytics.duck import DuckStore
from appliance.core.figures import counted
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.model import InferenceResult, JobStatus, Role
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.errors import InferenceError, ModelError, NotFoundError

BUCKETS = {"minute": "device_metrics_minute", "hour": "device_metrics_hourly"}


class History(Params):
    """One metric over a range of time."""

    metric: str = Field(max_length=256, description="Name of the metric, such as cpu_usage")
    hours: float = Field(1.0, gt=0, le=24 * 365, description="How far back, hours")
    bucket: Literal["minute", "hour"] = Field("minute", description="Width of one point")


class Pictures(Params):
    """Picture files on this machine."""

    paths: list[Annotated[str, Field(max_length=4096)]] = Field(min_length=1, max_length=1000, description="Picture files")


class Preview(Params):
    """A past result, to be drawn in a terminal."""

    result_id: str = Field(max_length=64, description="Id of the result")
    columns: int = Field(76, ge=1, le=500, description="Width, cells")
    rows: int = Field(18, ge=1, le=200, description="Height, cells")
    mode: Literal["half-blocks", "console", "kitty", "sixel"] = Field("half-blocks", description="How to draw")


class Limit(Params):
    """How many."""

    limit: int = Field(50, ge=1, le=1000, description="Most rows")


class Inferrer(Protocol):
    """What the actions need of the inference service."""

    async def infer_file(self, path: Path) -> InferenceResult:
        """Run the model on a file. Raises InferenceError, AbsentError."""

    def recent(self) -> tuple[InferenceResult, ...]:
        """The newest results of this run, newest first; the disk has them a moment later."""

    async def preview(self, result: InferenceResult, columns: int, rows: int, mode: str) -> dict[str, Any]:
        """Draw a result for a terminal. Raises ImageError where the picture is gone or another one."""

    def models(self) -> list[dict[str, Any]]:
        """The models found, each with what its manifest says; blocks."""


def metric_actions(duck: DuckStore, clock: Clock) -> list[Action]:
    """Metrics kept locally."""

    async def names(_: Invocation, __: NoParams) -> list[str]:
        return await asyncio.to_thread(duck.metrics)

    async def history(_: Invocation, params: History) -> dict[str, Any]:
        now = clock.wall()
        points = await asyncio.to_thread(duck.trend, params.metric, now - params.hours * 3600, now, BUCKETS[params.bucket])
        if not points and params.metric not in await asyncio.to_thread(duck.metrics):
            raise NotFoundError(f"No metric is called {params.metric!r}.", "list them with `prime-spark metric list`.")
        return {"metric": params.metric, "bucket": params.bucket, "points": points}

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("metric.list", "List the metrics that are kept", names),
        query("metric.history", "Show a metric over time (averages)", history, params=History, positional=("metric",)),
    ]


def inference_actions(inference: Inferrer, jobs: Jobs, state: LiveState, duck: DuckStore) -> list[Action]:
    """Pictures in, labelled boxes out."""

    async def run(call: Invocation, params: Pictures) -> JobStatus:
        paths = [Path(path) for path in params.paths]
        name = f"infer {paths[0].name}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        return await jobs.submit(name, call.actor.name, lambda handle: _infer_all(inference, paths, handle))

    async def results(_: Invocation, params: Limit) -> list[InferenceResult]:
        found = {result.result_id: result for result in await asyncio.to_thread(duck.results, params.limit)}
        found |= {result.result_id: result for result in inference.recent()}
        return sorted(found.values(), key=lambda result: (result.time, result.result_id), reverse=True)[: params.limit]

    async def preview(_: Invocation, params: Preview) -> dict[str, Any]:
        shown: tuple[InferenceResult, ...] = (*inference.recent(), *(state.get(Section.results).value or ()))
        result = next((each for each in shown if each.result_id == params.result_id), None)
        if result is None:
            result = await asyncio.to_thread(duck.result, params.result_id)
        if result is None:
            raise NotFoundError("That result is not kept any more.", "run the inference again.")
        return await inference.preview(result, params.columns, params.rows, params.mode)

    async def models(_: Invocation, __: NoParams) -> list[dict[str, Any]]:
        return await asyncio.to_thread(inference.models)

    async def stats(_: Invocation, __: NoParams) -> Any:
        return state.get(Section.inference).value

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        Action("inference.run", "Detect objects in picture files of this machine", run, params=Pictures, positional=("paths",),
               brief=lambda job: f"job {job.job_id[-6:]} {job.state.value}"),
        query("inference.results", "List the newest results", results, params=Limit),
        query("inference.stats", "Show counters and times of the model", stats),
        query("inference.preview", "Draw a result for a terminal", preview, params=Preview, hidden=True),
        query("inference.models", "List the models found", models),
    ]  # fmt: skip


async def _infer_all(inference: Inferrer, paths: list[Path], handle: JobHandle) -> list[dict[str, Any]]:
    """Run every file; a bad one is told in its place and spoils no other. Where all are bad, the job has failed."""
    outcomes: list[dict[str, Any]] = []
    refused = failed = 0
    for index, path in enumerate(paths):
        handle.report(index / len(paths), path.name)
        try:
            outcomes.append({"path": str(path), "result": await inference.infer_file(path)})
        except InferenceError as error:
            outcomes.append({"path": str(path), "error": error.message, "next_step": error.next_step})
            failed += isinstance(error, ModelError)
            refused += not isinstance(error, ModelError)
    bad = ", ".join(f"{count} of {len(paths)} {what}" for count, what in ((refused, "refused"), (failed, "failed")) if count)
    handle.report(1.0, bad or counted(len(paths), "picture"))
    if refused + failed == len(paths):
        lead = f"{bad}: " if len(paths) > 1 else ""
        handle.fail(f"{lead}{outcomes[0]['error']} Next: {outcomes[0]['next_step']}")
    return outcomes
