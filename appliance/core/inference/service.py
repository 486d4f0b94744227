"""The inference service: bounded, one model, one worker; results are on disk before they are told."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.core.events import new_id
from appliance.core.figures import percentile
from appliance.core.inference import manifest as manifests
from appliance.core.inference.detector import Detection, Detector, choose, load
from appliance.core.inference.image import DecodedPicture, decode, read_file
from appliance.core.model import Box, Health, HealthReport, InferenceResult, InferenceStats
from appliance.core.ports import Accelerator, Clock
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, ImageError, InferenceError, ModelError

log = logging.getLogger(__name__)

WAITING = 64
"""Requests that may wait for the worker; further ones are refused."""
RECENT = 100
KEPT = 200
"""Results in memory: they are found there at once, and on disk a moment later."""


@dataclass(frozen=True)
class _Seen:
    """What the worker made of one picture."""

    detector: Detector
    picture: DecodedPicture
    found: Detection
    sha256: str


class InferenceService:
    """Detects objects in pictures (implements ports.Service).

    Args:
        accelerator: Runs the model.
        model_dirs: Where models are looked for, in order.
        model: Name of the wanted one; empty takes the first.
        state: Shows the counters (Section.inference).
        clock: For the results' times.
        on_result: Awaited with each result before it is told; durability lives there.
        score_threshold: Lowest score (0…1) of a box.
        max_bytes: Largest file.
        max_pixels: Largest picture.
    """

    name = "inference"
    summary = "Runs models on pictures"
    depends: tuple[str, ...] = ("store",)

    def __init__(  # noqa: PLR0913 one keyword for each thing it is given, by the composition root alone
        self,
        *,
        accelerator: Accelerator,
        model_dirs: list[Path],
        model: str,
        state: LiveState,
        clock: Clock,
        on_result: Callable[[InferenceResult], Awaitable[None]],
        score_threshold: float,
        max_bytes: int,
        max_pixels: int,
    ) -> None:
        self._accelerator = accelerator
        self._model_dirs = model_dirs
        self._wanted = model
        self._state = state
        self._clock = clock
        self._on_result = on_result
        self._threshold = score_threshold
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._directory: Path | None = None
        self._detector: Detector | None = None
        self._worker = ThreadPoolExecutor(1, "inference")
        self._painter = ThreadPoolExecutor(1, "preview")  # one picture at a time, however many look
        self._waiting = 0
        self._total = 0
        self._errors = 0
        self._refused = 0
        self._last: deque[bool] = deque(maxlen=RECENT)
        self._times: deque[float] = deque(maxlen=RECENT)
        self._error: ModelError | None = None
        self._results: deque[InferenceResult] = deque(maxlen=KEPT)

    async def start(self) -> None:
        """Find the model; it is loaded when first used. Raises AbsentError, ModelError."""
        if not await asyncio.to_thread(manifests.find, self._model_dirs):
            places = ", ".join(str(path) for path in self._model_dirs)
            raise AbsentError(f"No model is in {places}.", "make setup fetches one; or set inference.model_dir.")
        self._directory = await asyncio.to_thread(choose, self._model_dirs, self._wanted)
        self._error = None
        self._show()

    async def run(self) -> None:
        """Requests come by `infer_file`; wait until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Free the model."""
        detector, self._detector, self._directory = self._detector, None, None
        if detector is not None:
            await asyncio.get_running_loop().run_in_executor(self._worker, detector.close)

    async def health(self) -> HealthReport:
        """Unhealthy after the model failed, until it works again."""
        if self._error is not None:
            return HealthReport(Health.unhealthy, self._error.message, self._error.next_step)
        name = self._directory.name if self._directory is not None else "no model"
        loaded = "loaded" if self._detector is not None else "loads at first use"
        details = {"waiting": self._waiting, "refused": self._refused}
        return HealthReport(Health.healthy, f"{name} on {self._accelerator.name}, {loaded}", details=details)

    async def infer_file(self, path: Path) -> InferenceResult:
        """Detect objects in a picture file.

        Raises:
            ImageError: It is not a picture that can be taken.
            ModelError: The model failed.
            InferenceError: Too many requests wait.
            AbsentError: There is no model.
            StoreError: The result could not be kept; it is not told then.
        """
        try:
            data = await asyncio.to_thread(read_file, path, self._max_bytes)
        except ImageError:
            self._refuse()
            raise
        return await self.infer(data, str(path))

    async def infer(self, data: bytes, source: str) -> InferenceResult:
        """Detect objects in a picture's bytes; raises as `infer_file`."""
        if self._directory is None:
            raise AbsentError("There is no model to run.", "see `prime-spark services` for why.")
        if self._waiting >= WAITING:
            self._refuse()
            raise InferenceError(f"{self._waiting} pictures wait already.", "try again in a moment.")
        self._waiting += 1
        try:
            began = time.perf_counter()
            seen = await asyncio.get_running_loop().run_in_executor(self._worker, self._work, data, source)
            result = self._result(seen, (time.perf_counter() - began) * 1000)
        except ModelError as error:
            self._failed(error)
            raise
        except ImageError:
            self._refuse()
            raise
        finally:
            self._waiting -= 1
        await self._on_result(result)
        self._succeeded(result)
        return result

    def _work(self, data: bytes, source: str) -> _Seen:
        if self._directory is None:
            raise AbsentError("The inference service stopped.", "try again when it runs.")
        picture = decode(data, source, self._max_pixels)
        if self._detector is None:
            self._detector = load(self._directory, self._accelerator)
        found = self._detector.detect(picture, self._threshold)
        return _Seen(self._detector, picture, found, hashlib.sha256(data).hexdigest())

    def _result(self, seen: _Seen, total_ms: float) -> InferenceResult:
        detector, picture = seen.detector, seen.picture
        return InferenceResult(
            result_id=new_id(),
            time=self._clock.wall(),
            source=picture.source,
            model=detector.manifest.name,
            model_version=detector.manifest.version,
            task=detector.manifest.task,
            backend=detector.backend,
            width=picture.width,
            height=picture.height,
            boxes=seen.found.boxes,
            inference_time_ms=round(seen.found.inference_time_ms, 2),
            total_time_ms=round(total_ms, 2),
            sha256=seen.sha256,
        )

    def _refuse(self) -> None:
        self._refused += 1
        self._show()

    def _failed(self, error: ModelError) -> None:
        log.error("inference failed: %s", error)
        self._error = error
        self._errors += 1
        self._last.append(False)
        self._show()

    def recent(self) -> tuple[InferenceResult, ...]:
        """The newest results of this run, newest first."""
        return tuple(self._results)

    def _succeeded(self, result: InferenceResult) -> None:
        self._error = None
        self._results.appendleft(result)
        self._total += 1
        self._last.append(True)
        self._times.append(result.total_time_ms)
        self._show()

    def _show(self) -> None:
        stats = InferenceStats(
            model=self._directory.name if self._directory is not None else "",
            backend=self._accelerator.backend,
            total=self._total,
            errors=self._errors,
            p50_ms=percentile(self._times, 0.5) if self._times else None,
            p95_ms=percentile(self._times, 0.95) if self._times else None,
            error_rate=self._last.count(False) / len(self._last) if self._last else None,
            refused=self._refused,
        )
        self._state.put(Section.inference, stats)

    def models(self) -> list[dict[str, Any]]:
        """The models found; one that cannot be read says why."""
        found: list[dict[str, Any]] = []
        for directory in manifests.find(self._model_dirs):
            try:
                manifest = manifests.load(directory)
            except ModelError as error:
                found.append({"name": directory.name, "error": error.message})
                continue
            facts: dict[str, Any] = {"name": manifest.name, "version": manifest.version, "task": manifest.task}
            facts |= {"labels": len(manifest.labels), "licence": manifest.licence, "directory": str(directory)}
            found.append({**facts, "active": directory == self._directory})
        return found

    async def preview(self, result: InferenceResult, columns: int, rows: int, mode: str) -> dict[str, Any]:
        """Draw a past result: {"text": …} and, for cell modes, {"rows": cells}.

        Raises:
            ImageError: The file is gone, or is another picture by now.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._painter, self._draw, result, columns, rows, mode)

    def _draw(self, result: InferenceResult, columns: int, rows: int, mode: str) -> dict[str, Any]:
        from appliance.core.inference import render

        data = read_file(Path(result.source), self._max_bytes)
        if result.sha256 and result.sha256 != hashlib.sha256(data).hexdigest():
            raise ImageError(f"{result.source} is another picture than the one that was looked at.", "run the inference again.")
        picture = decode(data, result.source, self._max_pixels, 2 * render.pixels_needed(mode, columns, rows))
        boxes = _scaled(result, picture)
        if mode in {"kitty", "sixel"}:
            draw = render.kitty if mode == "kitty" else render.sixel
            return {"text": draw(picture.rgb, boxes, columns, rows), "rows": []}
        paint = render.half_blocks if mode == "half-blocks" else render.console
        cells = paint(picture.rgb, boxes, columns, rows)
        return {"text": render.ansi(cells), "rows": cells}


def _scaled(result: InferenceResult, picture: DecodedPicture) -> tuple[Box, ...]:
    """The boxes in pixels of the picture, which may be a reduced one. Raises ImageError where it is another one."""
    if (picture.width, picture.height) != (result.width, result.height):
        raise ImageError(f"{result.source} is another picture than the one that was looked at.", "run the inference again.")
    across, down = picture.rgb.shape[1] / result.width, picture.rgb.shape[0] / result.height
    return tuple(
        Box(box.label, box.score, box.x_min * across, box.y_min * down, box.x_max * across, box.y_max * down)
        for box in result.boxes
    )
