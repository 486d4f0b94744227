"""Actions on a picture that came with the request itself: run a model on it, or show how it is made ready for one."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from appliance.core.actions import Action, Invocation, Params
from appliance.core.inference.model import Priority
from appliance.core.inference.uploads import Uploads
from appliance.core.model import InferenceResult, Role

if TYPE_CHECKING:
    from appliance.core.inference.service import InferenceService, Readied

LONG = 120.0
"""Seconds: a model may have to be loaded first."""
LARGEST = 64 * 2**20
"""Bytes of tensors that are told in full."""


class Picture(Params):
    """A picture, and what to do with it."""

    ticket: str = Field(max_length=64, description="Of the picture that came with the request")
    name: str = Field("upload", min_length=1, max_length=255, description="Its name")
    model: str = Field("", max_length=129, description="NAME, or NAME@VERSION; empty for the one that serves")
    task: Literal["", "detection", "classification", "pose", "segmentation", "audio", "embedding"] = Field(
        "", description="Which task's model, where none is named"
    )


class Upload(Picture):
    """A picture to run a model on."""

    threshold: float | None = Field(None, ge=0, le=1, description="Lowest score that is reported")
    priority: Literal["critical", "high", "normal", "low"] = Field("high", description="Whose turn it is")


class Readying(Picture):
    """A picture to be made ready."""

    data: bool = Field(False, description="Give the tensors' values too, in Base64")


def upload_actions(inference: InferenceService, uploads: Uploads) -> list[Action]:
    """Both.

    Args:
        inference: Runs models.
        uploads: Has what came with requests.
    """

    async def run(_: Invocation, params: Upload) -> InferenceResult:
        return await inference.infer(
            uploads.get(params.ticket), f"upload:{params.name}", model=params.model, task=params.task,
            threshold=params.threshold, priority=Priority[params.priority],
        )  # fmt: skip

    async def ready(_: Invocation, params: Readying) -> dict[str, Any]:
        data, name = uploads.get(params.ticket), f"upload:{params.name}"
        readied = await inference.ready(data, name, model=params.model, task=params.task)
        return await asyncio.to_thread(told, readied, values=params.data)

    hidden = functools.partial(Action, hidden=True, role=Role.operator, timeout=LONG)
    return [
        hidden("inference.upload", "Run a model on a picture that came with the request", run, params=Upload),
        hidden("inference.prepare", "Show how a picture is made ready for a model", ready, params=Readying, query=True),
    ]


def told(readied: Readied, *, values: bool) -> dict[str, Any]:
    """Tensors and how the picture lies in them; blocks.

    Args:
        readied: What was made ready.
        values: Whether the values are told, C-contiguous and little-endian, in Base64.
    """
    version, prepared = readied.version, readied.prepared
    whole = values and sum(each.nbytes for batch in prepared.batches for each in batch.values()) <= LARGEST
    place = prepared.context
    return {
        "model": version.key, "task": version.manifest.task, "kind": readied.kind, "runs": len(prepared.batches),
        "width": readied.size[0] or None, "height": readied.size[1] or None,
        "tensors": [_tensor(name, each, whole=whole) for batch in prepared.batches for name, each in batch.items()],
        "fit": dataclasses.asdict(place.fit) if hasattr(place, "fit") else None, "took_ms": round(readied.took_ms, 2),
    }  # fmt: skip


def _tensor(name: str, array: Any, *, whole: bool) -> dict[str, Any]:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    row = {
        "name": name, "shape": list(array.shape), "dtype": str(array.dtype), "min": float(array.min()),
        "max": float(array.max()), "mean": float(array.mean()),
    }  # fmt: skip
    return {**row, "data": base64.b64encode(little.tobytes()).decode()} if whole else row
