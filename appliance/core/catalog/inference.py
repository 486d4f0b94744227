"""Actions on pictures and recordings: run models on them, and look at what came of it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.analytics.duck import DuckStore
from appliance.core.figures import counted
from appliance.core.inference.model import Priority
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.model import InferenceResult, JobStatus, Role
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, InferenceError, ModelError, NotFoundError


class Pictures(Params):
    """Files on this machine, and how to look at them."""

    paths: list[Annotated[str, Field(max_length=4096)]] = Field(
        min_length=1, max_length=1000, description="Pictures or recordings"
    )
    model: str = Field("", max_length=129, description="NAME, or NAME@VERSION; empty for the one that serves")
    task: Literal["", "detection", "classification", "pose", "segmentation", "audio", "embedding"] = Field(
        "", description="Which task's model, where none is named"
    )
    threshold: float | None = Field(None, ge=0, le=1, description="Lowest score that is reported")
    priority: Literal["critical", "high", "normal", "low"] = Field("high", description="Whose turn it is")


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

    async def infer_file(self, path: Path, **wanted: Any) -> InferenceResult:
        """Run a model on a file; see InferenceService.infer. Raises InferenceError, AbsentError."""

    def recent(self) -> tuple[InferenceResult, ...]:
        """The newest results of this run, newest first; the disk has them a moment later."""

    async def preview(self, result: InferenceResult, columns: int, rows: int, mode: str) -> dict[str, Any]:
        """Draw a result for a terminal. Raises ImageError where the picture is gone or another one."""


def inference_actions(
    inference: Inferrer, jobs: Jobs, state: LiveState, duck: DuckStore, forget: Callable[[], int]
) -> list[Action]:
    """Pictures and recordings in, findings out.

    Args:
        inference: Runs models.
        jobs: Where files are worked through.
        state: Has the newest results.
        duck: Has the older ones.
        forget: Empties the cache; how many results it had.
    """

    async def run(call: Invocation, params: Pictures) -> JobStatus:
        paths = [Path(path) for path in params.paths]
        wanted: dict[str, Any] = params.model_dump(include={"model", "task", "threshold"})
        wanted["priority"] = Priority[params.priority]
        name = f"infer {paths[0].name}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        return await jobs.submit(name, call.actor.name, lambda handle: _infer_all(inference, paths, handle, wanted))

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

    async def clear(_: Invocation, __: NoParams) -> dict[str, int]:
        return {"forgotten": forget()}

    async def stats(_: Invocation, __: NoParams) -> Any:
        return state.get(Section.inference).value

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        Action("inference.run", "Run a model on pictures or recordings of this machine", run, params=Pictures,
               positional=("paths",), brief=lambda job: f"job {job.job_id[-6:]} {job.state.value}"),
        query("inference.results", "List the newest results", results, params=Limit),
        query("inference.stats", "Show counters, times, devices, versions and cache", stats),
        query("inference.preview", "Draw a result for a terminal", preview, params=Preview, hidden=True),
        Action("inference.cache-clear", "Forget the remembered results", clear),
    ]  # fmt: skip


async def _infer_all(inference: Inferrer, paths: list[Path], handle: JobHandle, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Run every file; a bad one is told in its place and spoils no other. Where all are bad, the job has failed."""
    outcomes: list[dict[str, Any]] = []
    refused = failed = 0
    for index, path in enumerate(paths):
        handle.report(index / len(paths), path.name)
        try:
            outcomes.append({"path": str(path), "result": await inference.infer_file(path, **wanted)})
        except (InferenceError, AbsentError) as error:
            outcomes.append({"path": str(path), "error": error.message, "next_step": error.next_step})
            failed += isinstance(error, ModelError | AbsentError)
            refused += not isinstance(error, ModelError | AbsentError)
    bad = ", ".join(f"{count} of {len(paths)} {what}" for count, what in ((refused, "refused"), (failed, "failed")) if count)
    handle.report(1.0, bad or counted(len(paths), "file"))
    if refused + failed == len(paths):
        lead = f"{bad}: " if len(paths) > 1 else ""
        handle.fail(f"{lead}{outcomes[0]['error']} Next: {outcomes[0]['next_step']}")
    return outcomes
