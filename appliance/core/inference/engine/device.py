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
from appliance.core.inference.engine.threads import Threads
from appliance.core.inference.model import DeviceReading, ModelVersion
from appliance.core.inference.status import DeviceStatus, ModelLoad
from appliance.core.model import Health
from appliance.core.ports import Accelerator, AcceleratorModel, Clock
from appliance.errors import DeviceError, DeviceStalledError, ModelError

log = logging.getLogger(__name__)

CLOSE = 3.0
"""Seconds that letting go of a device may take."""
BROKEN = 64
"""Models that could not be loaded, of which it is remembered why."""
STRIKES = 3
"""Failures of a model in a row, after which it is not tried on the device for a while."""


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
        self._recent: OrderedDict[str, ModelVersion] = OrderedDict()
        """Versions to prove it with, the newest last; one that fails makes room for the others."""
        self.slots = limits.slots.get(self.backend, 1)
        self.generation = 0
        """How often it failed: what was begun before that says nothing of it as it is now."""
        self._threads = Threads(self.name, self.backend, self.slots, lambda: getattr(accelerator, "preparing", False))
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
        return self.works and self._threads.free

    @property
    def spent(self) -> bool:
        """So many of its threads hang that it can run nothing until the engine is started anew."""
        return self._threads.spent

    def set(self, health: Health, reason: str, next_step: str = "") -> None:
        """It is so from now on."""
        if self.spent:
            health, reason, next_step = Health.unhealthy, "all its threads hang", "restart the appliance."
        self.health, self.reason, self.next_step = health, reason, next_step
        self._met = self._met or self.works
        if not self.works:
            self.reading = None
            self._tally.share, self._tally.busy, self._tally.looked = None, 0.0, self._clock.monotonic()

    def fail(self, error: ModelError) -> bool:
        """It does not work any more; False where that was known. Its models are gone: they are loaded again."""
        if not self.works:
            return False
        self.generation += 1
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
        """Seconds until a batch could begin, as far as is known; one that is late may be as late again."""
        if self._threads.free:
            return 0.0
        now = self._clock.monotonic()
        return min((abs(run.began + run.expected - now) for run in self.runs if run.expected is not None), default=0.0)

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
            self._break(key, error)

    async def _load(self, version: ModelVersion) -> Loaded:
        """Where the device fails and comes back meanwhile, what was loaded is gone with it: it is loaded again."""
        while True:
            if (held := self.loaded.get(version.key)) is not None:
                return held
            generation = self.generation
            try:
                loaded = await self._loaded_now(version)
            except DeviceError:
                self._used(version)
                if generation != self.generation and self.works:
                    continue
                raise
            if generation == self.generation:
                self.loaded[version.key] = loaded
                self._used(version)
                return loaded
            await self._close(loaded)
            if not self.works:
                raise DeviceError(f"{self.name} failed while {version.key} was loaded.", "it is loaded again by itself.")

    def _used(self, version: ModelVersion) -> None:
        self._recent[version.key] = version
        self._recent.move_to_end(version.key)
        while len(self._recent) > self._limits.models:
            self._recent.popitem(last=False)

    async def _loaded_now(self, version: ModelVersion) -> Loaded:
        named = version.manifest.file(self.kind)
        if named is None:
            raise ModelError(f"{version.key} has {self.lacks(version)}.", "add one to the model.")
        path = str(Path(version.directory) / named.path)
        await self._room()
        model = await self._threads.control(lambda: self.accelerator.load(path), self._limits.load, f"load {version.key}")
        most = self._limits.max_batch.get(self.backend, 1)
        return Loaded(version, model, Pace(most, self._limits.hold), batching.batches(model.inputs, model.outputs))

    async def _room(self) -> None:
        while len(self.loaded) >= self._limits.models:
            idle = next((key for key, loaded in self.loaded.items() if not loaded.users), None)
            if idle is None:
                return
            await self.drop(idle)

    async def unload(self, key: str) -> None:
        """Close a model, now or when its last run ends; that it could not be loaded is forgotten: it may come back mended."""
        if (task := self.loading.get(key)) is not None:
            await asyncio.wait({task})
        self._tally.broken.pop(key, None)
        self._tally.strikes.pop(key, None)
        self._recent.pop(key, None)
        await self.drop(key)

    async def drop(self, key: str) -> None:
        """Close a model, now or when its last run ends."""
        if (loaded := self.loaded.pop(key, None)) is None:
            return
        loaded.retired = True
        if not loaded.users:
            await self._close(loaded)

    async def _close(self, loaded: Loaded) -> None:
        try:
            await self._threads.control(loaded.model.close, self._limits.load, f"close {loaded.version.key}")
        except ModelError as error:
            log.warning("%s could not be closed on %s: %s", loaded.version.key, self.name, error)

    def strike(self, key: str, error: ModelError) -> bool:
        """A model failed here; True where it did so too often in a row: it is not tried for a while, and is to be dropped."""
        strikes = self._tally.strikes
        strikes[key] = strikes.pop(key, 0) + 1
        while len(strikes) > BROKEN:
            strikes.popitem(last=False)
        if strikes[key] < STRIKES:
            return False
        del strikes[key]
        self._break(key, error)
        return True

    def _break(self, key: str, error: ModelError) -> None:
        broken = self._tally.broken
        while len(broken) >= BROKEN:
            broken.popitem(last=False)
        broken[key] = (error, self._clock.monotonic() + self._limits.broken_retry)

    # --- runs

    def begin(self, loaded: Loaded, count: int) -> Run:
        """Take a place for a batch; only where the device is free, and `end` must follow."""
        self._count()
        run = Run(self._clock.monotonic(), loaded, loaded.pace.expected(count), self._threads.take(), self.generation)
        self.runs.add(run)
        loaded.users += 1
        if loaded.version.key in self.loaded:
            self.loaded.move_to_end(loaded.version.key)
        self._used(loaded.version)
        return run

    async def run(self, run: Run, requests: Sequence[Tensors]) -> tuple[list[list[Any]], float]:
        """Run one batch: the outputs of each request, and the seconds on the device.

        Raises:
            ModelError: The model failed on it.
            DeviceError: The device failed; DeviceStalledError where it did not answer.
        """
        loaded, worker = run.loaded, run.worker
        try:
            outputs, seconds = await self._threads.run(
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
        self._threads.give(run.worker, hung=run.hung)
        if self.spent:
            self.set(Health.unhealthy, "")
        if loaded.retired and not loaded.users and self.works:
            await self._close(loaded)

    def _learn(self, loaded: Loaded, count: int, seconds: float) -> None:
        loaded.pace.learn(count, seconds)
        loaded.requests += count
        self._tally.done += count
        self._tally.strikes.pop(loaded.version.key, None)
        if count > 1:
            loaded.refused = 0
        self._latency = seconds if self._latency is None else self._latency + batching.WEIGHT * (seconds - self._latency)

    def _limit(self, loaded: Loaded) -> float:
        """Half a second above what the driver itself allows, and enough for models whose runs are known to be long."""
        least = self._limits.stall.get(self.backend, 10.0) + (0.5 if self.backend != "cpu" else 0.0)
        return max(least, self._limits.slow * (loaded.pace.mean or 0.0)) if self.backend == "cpu" else least

    # --- care

    async def read(self) -> None:
        """Ask it how it is. Raises DeviceError."""
        limit = self._limits.stall.get(self.backend, 10.0) + 0.5
        reading: DeviceReading = await self._threads.poll(self.accelerator.reading, limit, "tell how it is")
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
        await self._threads.control(self.accelerator.reset, self._limits.load, "reset")

    async def prove(self) -> None:
        """Run something on it, or at least ask it. Raises DeviceError where it does not work."""
        if not self._recent:
            await self.read()
            return
        last = self._recent[next(reversed(self._recent))]
        began = time.perf_counter()
        try:
            loaded = await self._load(last)
            inputs = batching.zeros(loaded.model.inputs)
            await self._threads.control(lambda: loaded.model.infer(inputs), self._limit(loaded), "run a probe", patient=True)
        except DeviceError:
            self.loaded.pop(last.key, None)
            if last.key in self._recent:
                self._recent.move_to_end(last.key, last=False)  # the next attempt is made with another
            raise
        except ModelError as error:  # zeros are no input for every model; the device answered
            log.info("the probe of %s: %s", self.name, error)
        log.info("%s answered a probe within %.0f ms", self.name, (time.perf_counter() - began) * 1000)

    async def close(self) -> None:
        """Let go of all of it; it can be used again."""
        for task in list(self.loading.values()):
            task.cancel()
        self.loaded.clear()
        await self._threads.renew(self.accelerator.close, CLOSE)
        self.failed.clear()
        self.set(Health.absent, "the engine stopped")


def _infer(model: AcceleratorModel, requests: Sequence[Tensors]) -> tuple[list[list[Any]], float]:
    """In the device's thread: one run for all, and each one's outputs."""
    inputs = batching.join(requests)
    began = time.perf_counter()
    outputs = model.infer(inputs)
    seconds = time.perf_counter() - began
    return [batching.alone(outputs)] if len(requests) == 1 else batching.split(outputs, len(requests)), seconds
