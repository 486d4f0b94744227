"""One accelerator as the engine sees it: its state, its threads, the models that it holds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance.core.inference.engine import batching
from appliance.core.inference.engine.batching import Pace, Tensors
from appliance.core.inference.engine.held import Loaded, Run, Tally
from appliance.core.inference.engine.limits import Limits
from appliance.core.inference.engine.worker import Worker
from appliance.core.inference.model import DeviceReading, ModelVersion
from appliance.core.inference.status import DeviceStatus, ModelLoad
from appliance.core.model import Health
from appliance.core.ports import Accelerator, AcceleratorModel, Clock
from appliance.errors import DeviceError, DeviceStalledError, ModelError

log = logging.getLogger(__name__)

LEFT_BEHIND = 4
"""Threads of a slot that never came back, after which it is given up until the appliance restarts."""
CLOSE = 3.0
"""Seconds that letting go of a device may take."""
BROKEN = 64
"""Models that could not be loaded, of which it is remembered why."""


class EngineDevice:
    """State and threads of one accelerator. Used on the event loop alone; what blocks goes to its threads.

    Args:
        accelerator: The driver.
        limits: Of the engine.
        clock: For times.
    """

    def __init__(self, accelerator: Accelerator, limits: Limits, clock: Clock) -> None:
        self.accelerator = accelerator
        self.name, self.backend, self.kind = accelerator.name, accelerator.backend, accelerator.kind
        self._limits = limits
        self._clock = clock
        self.health = Health.absent
        self.reason, self.next_step = "not looked for yet", ""
        self._met = False
        self.reading: DeviceReading | None = None
        self.hot = ""
        self.loaded: OrderedDict[str, Loaded] = OrderedDict()
        """The least recently used first."""
        self.loading: dict[str, asyncio.Task[Loaded]] = {}
        self.runs: set[Run] = set()
        self.failed = asyncio.Event()
        """Set when the device stopped working, for whoever brings it back."""
        self._last: ModelVersion | None = None
        self._slots = limits.slots.get(self.backend, 1)
        self._free = [Worker(f"{self.backend}-{index}") for index in range(self._slots)]
        self._control, self._poller = Worker(f"{self.backend}-control"), Worker(f"{self.backend}-poll")
        self._latency: float | None = None
        self._tally = Tally(looked=clock.monotonic(), since=clock.monotonic())

    # --- state

    @property
    def works(self) -> bool:
        """Requests may be sent to it."""
        return self.health in {Health.healthy, Health.degraded}

    @property
    def missing(self) -> bool:
        """It is not there, and was not since the start: nothing falls back from it."""
        return self.health is Health.absent and not self._met

    @property
    def free(self) -> bool:
        """A batch could begin now."""
        return self.works and bool(self._free)

    def set(self, health: Health, reason: str, next_step: str = "") -> None:
        """It is so from now on."""
        self.health, self.reason, self.next_step = health, reason, next_step
        self._met = self._met or self.works
        if not self.works:
            self.reading = None

    def fail(self, error: ModelError) -> bool:
        """It does not work any more; False where that was known. Its models are gone: they are loaded again."""
        if not self.works:
            return False
        self._tally.stalls += isinstance(error, DeviceStalledError)
        self.set(Health.unhealthy, error.message, error.next_step)
        for loaded in self.loaded.values():
            loaded.retired = True
        self.loaded.clear()
        self.failed.set()
        return True

    async def detect(self) -> bool:
        """Look whether it is there; sets the state, and returns whether it can be used."""
        found = await asyncio.to_thread(self.accelerator.detect)
        self.set(found.health, found.reason, found.next_step)
        self.failed.clear()
        return self.works

    def poll_state(self) -> None:
        """Reckon how busy it was since the last look."""
        self._count()
        tally = self._tally
        if (passed := tally.since - tally.looked) > 0:
            tally.share = min(1.0, tally.busy / passed)
            tally.busy, tally.looked = 0.0, tally.since

    def _count(self) -> None:
        now = self._clock.monotonic()
        self._tally.busy += (now - self._tally.since) if self.runs else 0.0
        self._tally.since = now

    def status(self) -> DeviceStatus:
        """For the screen."""
        tally = self._tally
        return DeviceStatus(
            name=self.name, backend=self.backend, health=self.health, reason=self.hot or self.reason,
            next_step=self.next_step, reading=self.reading, loaded=tuple(self.loaded), done=tally.done, failed=tally.failed,
            stalls=tally.stalls, resets=tally.resets, busy=tally.share,
            latency_ms=None if self._latency is None else round(self._latency * 1000, 3),
        )  # fmt: skip

    def loads(self) -> list[ModelLoad]:
        """How each model does here."""
        return [
            ModelLoad(
                model=key, device=self.name, requests=loaded.requests,
                batch=loaded.pace.size(1 << 20) if loaded.batchable else 1,
                mean_ms=None if loaded.pace.mean is None else round(loaded.pace.mean * 1000, 3),
            )
            for key, loaded in self.loaded.items()
        ]  # fmt: skip

    def wait(self) -> float:
        """Seconds until a batch could begin, as far as is known."""
        if self._free:
            return 0.0
        now = self._clock.monotonic()
        return min((max(0.0, run.began + (run.expected or 0.0) - now) for run in self.runs), default=0.0)

    # --- models

    def lacks(self, version: ModelVersion) -> str:
        """Why it can never run this version; empty where it can."""
        kind = "HEF" if self.kind == "hef" else "ONNX file"
        return "" if version.manifest.file(self.kind) else f"no {kind} of this model"

    def broken(self, key: str) -> ModelError | None:
        """Why this model could not be loaded a short while ago."""
        error, until = self._tally.broken.get(key, (None, 0.0))
        return error if until > self._clock.monotonic() else None

    def load(self, version: ModelVersion) -> asyncio.Task[Loaded]:
        """Begin to load a model, or join one that is being loaded."""
        if (task := self.loading.get(version.key)) is None:
            task = asyncio.create_task(self._load(version), name=f"load {version.key} on {self.name}")
            self.loading[version.key] = task
            task.add_done_callback(lambda done: self._loaded(version.key, done))
        return task

    def _loaded(self, key: str, task: asyncio.Task[Loaded]) -> None:
        self.loading.pop(key, None)
        if not task.cancelled() and isinstance(error := task.exception(), ModelError) and not isinstance(error, DeviceError):
            broken = self._tally.broken
            while len(broken) >= BROKEN:
                broken.popitem(last=False)
            broken[key] = (error, self._clock.monotonic() + self._limits.broken_retry)

    async def _load(self, version: ModelVersion) -> Loaded:
        if (held := self.loaded.get(version.key)) is not None:
            return held
        named = version.manifest.file(self.kind)
        if named is None:
            raise ModelError(f"{version.key} has {self.lacks(version)}.", "add one to the model.")
        path = str(Path(version.directory) / named.path)
        await self._room()
        model = await self._do(self._control, lambda: self.accelerator.load(path), self._limits.load, f"load {version.key}")
        most = self._limits.max_batch.get(self.backend, 1)
        loaded = Loaded(version, model, Pace(most, self._limits.hold), batching.batches(model.inputs, model.outputs))
        self.loaded[version.key] = loaded
        self._last = version
        return loaded

    async def _room(self) -> None:
        while len(self.loaded) >= self._limits.models:
            idle = next((key for key, loaded in self.loaded.items() if not loaded.users), None)
            if idle is None:
                return
            await self.unload(idle)

    async def unload(self, key: str) -> None:
        """Close a model, now or when its last run ends; that it could not be loaded is forgotten: it may come back mended."""
        self._tally.broken.pop(key, None)
        if (loaded := self.loaded.pop(key, None)) is None:
            return
        loaded.retired = True
        if not loaded.users:
            await self._close(loaded)

    async def _close(self, loaded: Loaded) -> None:
        try:
            await self._do(self._control, loaded.model.close, self._limits.load, f"close {loaded.version.key}")
        except ModelError as error:
            log.warning("%s could not be closed on %s: %s", loaded.version.key, self.name, error)

    # --- runs

    def begin(self, loaded: Loaded, count: int) -> Run:
        """Take a place for a batch; only where the device is free, and `end` must follow."""
        self._count()
        run = Run(self._clock.monotonic(), loaded, loaded.pace.expected(count), self._free.pop())
        self.runs.add(run)
        loaded.users += 1
        if loaded.version.key in self.loaded:
            self.loaded.move_to_end(loaded.version.key)
        self._last = loaded.version
        return run

    async def run(self, run: Run, requests: Sequence[Tensors]) -> tuple[list[list[Any]], float]:
        """Run one batch: the outputs of each request, and the seconds on the device.

        Raises:
            ModelError: The model failed on it.
            DeviceError: The device failed; DeviceStalledError where it did not answer.
        """
        loaded, worker = run.loaded, run.worker
        try:
            outputs, seconds = await self._do(
                worker, lambda: _infer(loaded.model, requests), self._limit(loaded), "run a model"
            )
        except ModelError as error:
            self._tally.failed += len(requests)
            if isinstance(error.__cause__, TimeoutError):
                run.hung = True
            raise
        self._learn(loaded, len(requests), seconds)
        return outputs, seconds

    async def end(self, run: Run) -> None:
        """Give the place back."""
        self._count()
        self.runs.discard(run)
        loaded = run.loaded
        loaded.users -= 1
        if not run.hung:
            self._free.append(run.worker)
        elif (worker := self._replace(run.worker)) is not None:
            self._free.append(worker)
        if loaded.retired and not loaded.users and self.works:
            await self._close(loaded)

    def _learn(self, loaded: Loaded, count: int, seconds: float) -> None:
        loaded.pace.learn(count, seconds)
        loaded.requests += count
        self._tally.done += count
        self._latency = seconds if self._latency is None else self._latency + batching.WEIGHT * (seconds - self._latency)

    def _limit(self, loaded: Loaded) -> float:
        """Half a second above what the driver itself allows, and enough for models whose runs are known to be long."""
        least = self._limits.stall.get(self.backend, 10.0) + (0.5 if self.backend != "cpu" else 0.0)
        return max(least, self._limits.slow * (loaded.pace.mean or 0.0)) if self.backend == "cpu" else least

    def _replace(self, worker: Worker) -> Worker | None:
        """A new thread for one that hangs; none after too many."""
        worker.end()
        self._tally.left_behind += 1
        if self._tally.left_behind >= LEFT_BEHIND * self._slots:
            return None
        return Worker(f"{self.backend}-{self._tally.left_behind + self._slots}")

    async def _do(self, worker: Worker, function: Any, limit: float, what: str) -> Any:
        try:
            return await worker.run(function, limit)
        except TimeoutError as error:
            if worker is self._control:
                self._control = Worker(f"{self.backend}-control")
            if worker is self._poller:
                self._poller = Worker(f"{self.backend}-poll")
            raise DeviceStalledError(f"{self.name} did not {what} within {limit:g} s.", "it is reset; see the log.") from error
        except (ModelError, asyncio.CancelledError):
            raise
        except MemoryError as error:
            raise ModelError(
                f"There was not enough memory on {self.name} to {what}.", "free memory, or use a smaller model."
            ) from error
        except Exception as error:
            log.exception("%s could not %s", self.name, what)
            raise ModelError(f"{self.name} could not {what}: {type(error).__name__}: {error}", "see the log.") from error

    # --- care

    async def read(self) -> None:
        """Ask it how it is. Raises DeviceError."""
        limit = self._limits.stall.get(self.backend, 10.0) + 0.5
        reading: DeviceReading = await self._do(self._poller, self.accelerator.reading, limit, "tell how it is")
        self.reading = reading
        self._heat(reading.temperature_c)

    def _heat(self, celsius: float | None) -> None:
        limits = self._limits
        if celsius is None or celsius < limits.cool_c:
            self.hot = ""
        elif celsius >= limits.hot_c or self.hot:
            self.hot = f"it is hot ({celsius:.0f} °C)"

    async def reset(self) -> None:
        """Bring it back to a state from which it can be used. Raises DeviceError."""
        self._tally.resets += 1
        await self._do(self._control, self.accelerator.reset, self._limits.load, "reset")

    async def prove(self) -> None:
        """Run something on it, or at least ask it. Raises DeviceError where it does not work."""
        if self._last is None:
            await self.read()
            return
        loaded = await self._load(self._last)
        began = time.perf_counter()
        try:
            await self._do(
                self._control,
                lambda: loaded.model.infer(batching.zeros(loaded.model.inputs)),
                self._limit(loaded),
                "run a probe",
            )
        except DeviceError:
            self.loaded.pop(self._last.key, None)
            raise
        except ModelError as error:  # zeros are no input for every model; the device answered
            log.info("the probe of %s: %s", self.name, error)
        log.info("%s answered a probe within %.0f ms", self.name, (time.perf_counter() - began) * 1000)

    async def close(self) -> None:
        """Let go of all of it; it can be used again."""
        for task in list(self.loading.values()):
            task.cancel()
        self.loaded.clear()
        last = Worker(f"{self.backend}-close")
        try:
            await self._do(last, self.accelerator.close, CLOSE, "close")
        except ModelError as error:
            log.warning("%s", error)
        for worker in (*self._free, self._control, self._poller, last):
            worker.end()
        self._free = [Worker(f"{self.backend}-{index}") for index in range(self._slots)]
        self._control, self._poller = Worker(f"{self.backend}-control"), Worker(f"{self.backend}-poll")
        self.failed.clear()
        self.set(Health.absent, "the engine stopped")


def _infer(model: AcceleratorModel, requests: Sequence[Tensors]) -> tuple[list[list[Any]], float]:
    """In the device's thread: one run for all, and each one's outputs."""
    inputs = batching.join(requests)
    began = time.perf_counter()
    outputs = model.infer(inputs)
    seconds = time.perf_counter() - began
    return [batching.alone(outputs)] if len(requests) == 1 else batching.split(outputs, len(requests)), seconds
