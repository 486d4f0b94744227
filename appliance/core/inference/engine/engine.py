"""The engine: takes requests, starts batches, deals with what fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from appliance.core.inference.engine import batching
from appliance.core.inference.engine.choosing import Chooser, Line
from appliance.core.inference.engine.counts import Counts
from appliance.core.inference.engine.device import EngineDevice
from appliance.core.inference.engine.held import Loaded, Run
from appliance.core.inference.engine.limits import Limits
from appliance.core.inference.engine.queue import Item, Queues, fail
from appliance.core.inference.engine.scheduler import Choice
from appliance.core.inference.engine.watchdog import Watchdog
from appliance.core.inference.model import Answer, ModelVersion, Priority, Request
from appliance.core.inference.status import EngineEvent, EngineStatus, Fallback
from appliance.core.ports import Accelerator, Clock
from appliance.errors import AbsentError, DeadlineError, DeviceError, DeviceStalledError, ModelError, QueueFullError

log = logging.getLogger(__name__)

T = TypeVar("T")
REFUSED = 3
"""Batches of a model in a row that fail, after which its requests run one by one."""


class DeviceEngine:
    """Runs requests on devices (implements model.Engine); see the package's docstring, and `build` for the arguments.

    Used on one event loop. Blocking work is done in the devices' threads.
    """

    def __init__(
        self,
        accelerators: Sequence[Accelerator],
        clock: Clock,
        limits: Limits,
        *,
        power: Callable[[], str | None],
        on_event: Callable[[EngineEvent], None],
    ) -> None:
        self._clock, self._limits, self._tell = clock, limits, on_event
        self._counts = Counts()
        self._queues = Queues(limits.waiting, limits.waiting_bytes, self._dropped)
        self._devices = [EngineDevice(each, limits, clock) for each in accelerators]
        self._by_name = {device.name: device for device in self._devices}
        self._chooser = Chooser(self._devices, power)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._running: dict[str, int] = {}
        """Requests in batches, by model."""
        self._left = asyncio.Event()
        """A request is not here any more, however it ended."""
        self._open = False

    # --- life

    async def start(self) -> None:
        """Look for the devices and begin to watch them; opens and loads nothing."""
        self._open = True
        for device in self._devices:
            await device.detect()
            watchdog = Watchdog(
                device,
                self._limits,
                self._clock,
                on_change=self._dispatch,
                on_event=self._event,
                on_failure=self._device_failed,
            )
            self._spawn(watchdog.run(), f"watch {device.name}")

    async def stop(self) -> None:
        """Refuse new requests, fail those that wait, let go of the devices. It can be started again."""
        self._open = False
        for item in list(self._queues):
            self._queues.remove(item)
            fail(item, _stopped())
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for device in self._devices:
            await device.close()

    def _spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s ended", task.get_name(), exc_info=error)

    # --- the port

    async def run(self, request: Request) -> Answer:
        """See model.Engine."""
        self._possible(request.model)
        now = self._clock.monotonic()
        if request.deadline is not None and request.deadline <= now:
            self._counts.expired += 1
            raise DeadlineError("The time for an answer had passed before the request came.", "give it more time.")
        item = self._item(request, now)
        try:
            self._queues.put(item)
        except QueueFullError:
            self._counts.dropped[request.priority.name] += 1
            raise
        timer = (
            None if request.deadline is None else item.future.get_loop().call_later(request.deadline - now, self._expire, item)
        )
        self._dispatch()
        try:
            return await item.future
        except asyncio.CancelledError:
            self._counts.cancelled += self._queues.remove(item)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def load(self, version: ModelVersion) -> None:
        """Make ready on the device that would run it, and on the others that can: a fallback then need not wait."""
        self._possible(version)
        able = [each for each in self._devices if not each.lacks(version) and each.works]
        if not able:
            raise AbsentError(
                f"No device can run {version.key} now: {self._chooser.why(version)}.", "see `prime-spark doctor`."
            )
        tasks = [self._spawn(self._load(device, version), f"load {version.key}") for device in able]
        await asyncio.wait(tasks)  # they go on where the caller goes away: others may wait for the model by now
        errors = [_stopped() if task.cancelled() else task.result() for task in tasks]
        if all(errors):
            raise errors[0] or _stopped()

    async def unload(self, version: ModelVersion) -> None:
        """See model.Engine."""
        while self._running.get(version.key) or any(item.key == version.key for item in self._queues):
            self._left.clear()
            await self._left.wait()
        for device in self._devices:
            await device.unload(version.key)

    def status(self) -> EngineStatus:
        """See model.Engine."""
        counts, now = self._counts, self._clock.monotonic()
        p50, p99 = counts.times()
        return EngineStatus(
            devices=tuple(device.status() for device in self._devices),
            waiting=self._queues.depth(),
            waiting_bytes=self._queues.bytes,
            running=sum(self._running.values()),
            dropped=sum(counts.dropped.values()),
            dropped_by=dict(counts.dropped),
            expired=counts.expired,
            cancelled=counts.cancelled,
            batches=counts.batches,
            batched=counts.batched,
            fallbacks=counts.fallbacks,
            last_fallbacks=tuple(counts.last),
            histogram=counts.histogram(),
            p50_ms=p50,
            p99_ms=p99,
            per_second=counts.per_second(now),
            loads=tuple(load for device in self._devices for load in device.loads()),
        )

    # --- requests

    def _possible(self, version: ModelVersion) -> None:
        if not self._open:
            raise AbsentError("The inference engine does not run.", "see `prime-spark services` for why.")
        self._chooser.possible(version)

    def _item(self, request: Request, now: float) -> Item:
        size = sum(int(value.nbytes) for value in request.tensors.values())
        soon = self._counts.arrived(request.model.key, now) <= self._limits.max_wait
        item = Item(request, asyncio.get_running_loop().create_future(), now, size, soon)
        item.future.add_done_callback(lambda _: self._left.set())
        return item

    def _dropped(self, item: Item) -> None:
        self._counts.dropped[item.request.priority.name] += 1

    def _expire(self, item: Item) -> None:
        if not item.future.done():
            self._counts.expired += 1
            self._queues.remove(item)
            fail(item, DeadlineError("No device answered before the request's deadline.", "give it more time, or send fewer."))

    # --- dispatch

    def _dispatch(self) -> None:
        """Start what can be started. Called whenever a request came, a batch ended, or a device changed."""
        if not self._open or (any(each.works for each in self._devices) and not any(each.free for each in self._devices)):
            return
        line = Line()
        for item in list(self._queues):
            if not item.future.done() and not item.taken and not line.waits(item):
                self._try(item, line)

    def _try(self, item: Item, line: Line) -> None:
        """Start a batch with this item; where it has to wait, so have its like."""
        choice, slack = self._chooser.choose(item, line)
        if not choice.name:
            self._queues.remove(item)
            fail(item, self._chooser.hopeless(item, choice))
            return
        device = self._by_name[choice.name]
        loaded = device.loaded.get(item.key)
        if device.free and loaded is None and item.key not in device.loading:
            self._spawn(self._load(device, item.request.model), f"load {item.key}")
        items = self._batch(item, device, loaded) if device.free and loaded is not None else None
        if loaded is None or items is None:
            line.add(item, device.name, loaded.pace.each() / device.slots if loaded is not None else 0.0, slack)
            return
        for each in items:
            each.taken = True
        self._running[item.key] = self._running.get(item.key, 0) + len(items)
        run = device.begin(loaded, len(items))
        self._spawn(self._run(device, run, items, choice), f"run {item.key} on {device.name}")

    def _batch(self, first: Item, device: EngineDevice, loaded: Loaded) -> list[Item] | None:
        """The requests of the next run; None where it is worth waiting a moment for more."""
        if not loaded.batchable or first.alone:
            return self._queues.take(first, 1, lambda other: False)
        most = self._limits.max_batch.get(device.backend, 1)
        like = sum(1 for each in self._queues if each.key == first.key) if most > 1 else 1
        size = loaded.pace.size(like)
        waited = self._clock.monotonic() - first.queued
        more = loaded.pace.size(2 * like) > size
        if more and first.soon and first.request.priority >= Priority.normal and waited < self._limits.max_wait:
            self._wake_in(self._limits.max_wait - waited)
            return None
        tensors = first.request.tensors
        return self._queues.take(
            first,
            size,
            lambda other: (
                not other.alone
                and other.failed.keys() == first.failed.keys()
                and batching.alike(tensors, other.request.tensors)
            ),
        )

    def _wake_in(self, seconds: float) -> None:
        if self._wake is None:
            self._wake = asyncio.get_running_loop().call_later(seconds, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._dispatch()

    # --- batches

    async def _load(self, device: EngineDevice, version: ModelVersion) -> ModelError | None:
        """Why it could not be loaded; None where it is."""
        try:
            await device.load(version)
        except ModelError as error:
            self._load_failed(device, version, error)
            return error
        finally:
            self._dispatch()
        return None

    def _load_failed(self, device: EngineDevice, version: ModelVersion, error: ModelError) -> None:
        if isinstance(error, DeviceError):
            self._strike(device, version.key, error)
            self._device_failed(device, error)
            return
        log.error("%s cannot be loaded on %s: %s", version.key, device.name, error)
        self._event(device, "load-failed", f"{version.key}: {error.message}", error.next_step)

    async def _run(self, device: EngineDevice, run: Run, items: list[Item], choice: Choice) -> None:
        wanted = [item for item in items if not item.future.done()]
        try:
            if wanted:
                done = await device.run(run, await batching.inputs([item.request for item in wanted], device.kind))
                self._answer(device, run, wanted, done, choice)
        except DeviceError as error:
            if run.generation == device.generation:  # else it failed before, and is another one by now
                self._strike(device, items[0].key, error)
                self._device_failed(device, error)
            self._again(device, wanted, error)
        except ModelError as error:
            self._model_failed(device, run.loaded, wanted, error)
        except Exception as error:
            log.exception("a batch of %s on %s failed", items[0].key, device.name)
            for item in wanted:
                fail(item, ModelError(f"The engine failed: {type(error).__name__}: {error}", "see the log, and report it."))
        finally:
            if not self._open:
                for item in wanted:
                    fail(item, _stopped())
            await device.end(run)
            key = items[0].key
            self._running[key] -= len(items)
            if not self._running[key]:
                del self._running[key]
            self._left.set()
        self._dispatch()

    def _answer(
        self, device: EngineDevice, run: Run, items: list[Item], done: tuple[list[list[Any]], float], choice: Choice
    ) -> None:
        now, (outputs, seconds) = self._clock.monotonic(), done
        names = tuple(spec.name for spec in run.loaded.model.outputs)
        self._counts.batches += 1
        self._counts.batched += len(items)
        for item, each in zip(items, outputs, strict=True):
            for name, error in item.failed.items():
                if not isinstance(error, DeviceError):  # another could: so the input is not to blame
                    self._strike(self._by_name[name], item.key, error)
            if item.future.done():
                continue
            item.future.set_result(
                Answer(
                    each, names, device.backend, device.name, seconds * 1000, (run.began - item.queued) * 1000, len(items),
                    choice.reason, bool(choice.wanted),
                )
            )  # fmt: skip
            self._counts.served((now - item.queued) * 1000, now)
        if choice.wanted:
            self._fell_back(items[0].key, choice, device, len(items))

    def _fell_back(self, key: str, choice: Choice, device: EngineDevice, count: int) -> None:
        one = Fallback(
            time=self._clock.wall(), model=key, wanted=choice.wanted, used=device.name, reason=choice.reason, count=count
        )
        if self._counts.fell_back(one):
            log.warning("%s runs on %s: %s", key, device.name, choice.reason)
            self._event(self._by_name[choice.wanted], "fallback", f"{key} runs on {device.name}: {choice.reason}", "")

    def _model_failed(self, device: EngineDevice, loaded: Loaded, items: list[Item], error: ModelError) -> None:
        if len(items) > 1:  # one of them may be to blame, or the model's batch axis: each alone
            loaded.refused += 1
            if loaded.refused >= REFUSED:
                loaded.pace.forbid()
            for item in items:
                item.alone = True
            self._back(items)
        else:
            self._again(device, items, error)

    def _again(self, device: EngineDevice, items: list[Item], error: ModelError) -> None:
        """Back into the queue, for another device."""
        for item in items:
            item.failed[device.name] = error
        self._back(items)

    def _back(self, items: list[Item]) -> None:
        for item in items:
            item.taken = False
        self._queues.back(items)

    def _strike(self, device: EngineDevice, key: str, error: ModelError) -> None:
        """A model failed on a device; one that does so again and again is kept away from it for a while."""
        if device.strike(key, error):
            log.error("%s fails again and again on %s and is not tried there for a while: %s", key, device.name, error)
            reason = f"{key} fails there again and again and is not tried for {self._limits.broken_retry:g} s: {error.message}"
            self._event(device, "load-failed", reason, error.next_step)
            self._spawn(device.drop(key), f"drop {key}")

    def _device_failed(self, device: EngineDevice, error: ModelError) -> None:
        if device.fail(error):
            log.error("%s failed: %s", device.name, error)
            kind = "stalled" if isinstance(error, DeviceStalledError) else "failed"
            self._event(device, kind, error.message, error.next_step)
            self._dispatch()

    def _event(self, device: EngineDevice, kind: str, reason: str, next_step: str) -> None:
        try:
            self._tell(EngineEvent(self._clock.wall(), device.name, kind, reason, next_step))
        except Exception:
            log.exception("nobody was told of %s: %s", device.name, kind)


def _stopped() -> AbsentError:
    return AbsentError("The inference engine stopped.", "try again when it runs.")
