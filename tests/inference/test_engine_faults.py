"""What must not be lost, and what must not stay: requests, wake-ups, threads, figures, devices that are not what they were."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.clock import SystemClock
from appliance.core.inference.engine import Limits, build
from appliance.core.inference.engine.counts import Counts
from appliance.core.inference.engine.worker import Worker
from appliance.core.inference.status import EngineEvent
from appliance.core.model import Health
from appliance.errors import DeadlineError, DeviceError, DeviceStalledError, ModelError
from appliance.hw.onnx import OnnxAccelerator
from tests.inference.engine_rig import Doll, DollModel, deadline_in, engine, expected, kinds, request, version, waits
from tests.support import wait_for

QUICK: dict[str, Any] = {"poll": 0.05, "probe_first": 0.02, "probe_longest": 0.05, "absent_retry": 0.05}
ONE = {"hailo": 1, "cpu": 1}


def cpu() -> Doll:
    return Doll("ONNX Runtime", "cpu", "onnx")


class SlowLoader(Doll):
    """Loads when it is let."""

    def __init__(self) -> None:
        super().__init__("ONNX Runtime", "cpu", "onnx")
        self.loading, self.may_load = threading.Event(), threading.Event()

    def load(self, path: str) -> DollModel:
        self.loading.set()
        self.may_load.wait(20)
        return super().load(path)


async def test_a_request_runs_though_whoever_began_the_loading_went_away(tmp_path: Path) -> None:
    doll, model = SlowLoader(), version(tmp_path)
    async with engine(doll) as (made, _):
        loading = asyncio.create_task(made.load(model))
        await wait_for(doll.loading.is_set)
        asked = asyncio.create_task(made.run(request(model)))
        await waits(made, 1)
        loading.cancel()
        await asyncio.wait([loading])
        doll.may_load.set()
        assert (await asyncio.wait_for(asked, 10)).backend == "cpu"


@pytest.mark.parametrize("how", ["expires", "is cancelled", "is stopped"])
async def test_unloading_ends_when_the_last_request_goes_without_a_run(tmp_path: Path, how: str) -> None:
    doll, model = SlowLoader(), version(tmp_path)
    async with engine(doll) as (made, _):
        asked = asyncio.create_task(made.run(request(model, deadline=deadline_in(0.1) if how == "expires" else None)))
        await wait_for(doll.loading.is_set)
        unloading = asyncio.create_task(made.unload(model))
        await asyncio.sleep(0)
        if how == "is cancelled":
            asked.cancel()
        elif how == "is stopped":
            doll.may_load.set()
            await made.stop()
        await asyncio.wait([asked])
        doll.may_load.set()
        await asyncio.wait_for(unloading, 10)


async def test_a_model_that_is_unloaded_while_it_loads_does_not_stay(tmp_path: Path) -> None:
    doll, model = SlowLoader(), version(tmp_path)
    async with engine(doll) as (made, _):
        loading = asyncio.create_task(made.load(model))
        await wait_for(doll.loading.is_set)
        unloading = asyncio.create_task(made.unload(model))
        await asyncio.sleep(0)
        doll.may_load.set()
        await asyncio.gather(loading, unloading)
        assert made.status().devices[0].loaded == ()
        assert len(doll.closed) == 1


async def test_a_run_of_the_time_before_does_not_fail_the_device_that_came_back(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    async with engine(hailo, OnnxAccelerator(1), limits=Limits(stall={"hailo": 0.5, "cpu": 60}, **QUICK)) as (made, events):
        await made.load(model)
        hailo.gate.clear()
        late = asyncio.create_task(made.run(request(model, 1)))
        await wait_for(lambda: hailo.ran == [[1.0]])
        hailo.gate, old = threading.Event(), hailo.gate
        hailo.gate.set()
        hailo.fails_on = 9.0
        assert (await made.run(request(model, 9))).backend == "cpu"
        hailo.fails_on = None
        await wait_for(lambda: "returned" in kinds(events))
        assert (await late).backend == "cpu"
        old.set()
        assert [kind for kind in kinds(events) if kind in {"stalled", "failed"}] == ["failed"]
        assert made.status().devices[0].health is Health.healthy


async def test_a_device_whose_threads_all_hang_is_ill_and_others_answer(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    limits = Limits(stall={"hailo": 0.1, "cpu": 60}, slots=ONE, **QUICK)
    gates = []
    async with engine(hailo, OnnxAccelerator(1), limits=limits) as (made, events):
        for hung in range(4):
            await made.run(request(model))
            hailo.gate.clear()
            assert (await made.run(request(model, 7))).backend == "cpu"
            gates.append(hailo.gate)
            hailo.gate = threading.Event()
            hailo.gate.set()
            if hung < 3:
                await wait_for(lambda: kinds(events).count("returned") == hung + 1)  # noqa: B023
        await wait_for(lambda: made.status().devices[0].reason == "all its threads hang")
        assert (await asyncio.wait_for(made.run(request(model, 5)), 10)).backend == "cpu"
        status = made.status().devices[0]
        assert (status.health, status.reason) == (Health.unhealthy, "all its threads hang")
        assert "restart" in status.next_step
        gates.pop().set()  # one comes back after all
        await wait_for(lambda: made.status().devices[0].health is Health.healthy)
        assert (await made.run(request(model, 5))).backend == "hailo"
        await made.stop()
        await made.start()
        assert made.status().devices[0].health is Health.healthy
        for gate in gates:
            gate.set()
        assert (await made.run(request(model, 5))).backend == "hailo"


async def test_a_device_that_is_gone_is_seen_though_nobody_asks(tmp_path: Path) -> None:
    hailo = Doll()
    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        await made.load(version(tmp_path, hef_file=True))
        hailo.here = False
        await wait_for(lambda: "lost" in kinds(events))
        status = made.status().devices[0]
        assert (status.health, status.loaded, status.busy) == (Health.absent, (), None)


async def test_a_device_that_says_nothing_any_more_has_failed(tmp_path: Path) -> None:
    hailo = Doll()

    def silent() -> Any:
        raise DeviceError("The driver's call failed.", "see dmesg.")

    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        await made.load(version(tmp_path, hef_file=True))
        hailo.reading = silent  # type: ignore[method-assign]
        await wait_for(lambda: kinds(events)[:2] == ["failed", "returned"])
        assert hailo.resets >= 1
        assert events[0].reason == "The driver's call failed."


async def test_a_device_that_cannot_load_does_not_return(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    hailo.load_error = DeviceError("Another program holds the device.")
    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        assert (await made.run(request(model))).backend == "cpu"
        await wait_for(lambda: "Attempts to bring it back: 3" in made.status().devices[0].reason)
        assert "returned" not in kinds(events)
        hailo.load_error = None
        await wait_for(lambda: "returned" in kinds(events))


async def test_a_model_that_the_device_cannot_load_gives_way_to_one_that_it_can(tmp_path: Path) -> None:
    hailo, good, bad = Doll(), version(tmp_path, hef_file=True), version(tmp_path, "bad", hef_file=True)
    plain = hailo.load

    def load(path: str) -> DollModel:
        if "bad" in path:
            raise DeviceError("libhailort failed with error: 8 (HAILO_INTERNAL_FAILURE)")
        return plain(path)

    hailo.load = load  # type: ignore[method-assign]
    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        assert (await made.run(request(good))).backend == "hailo"
        for times in (1, 2, 3):
            assert (await made.run(request(bad))).backend == "cpu"
            await wait_for(lambda: kinds(events).count("returned") == times)  # noqa: B023
            assert (await made.run(request(good))).backend == "hailo"
        assert (await made.run(request(bad))).backend == "cpu"
        assert made.status().devices[0].health is Health.healthy, "the bad one is not tried again at once"
        assert kinds(events).count("load-failed") == 1


@pytest.mark.parametrize("error", [DeviceError("It fails on this."), ModelError("Its pipeline was shut down.")])
async def test_a_model_that_fails_again_and_again_is_kept_from_the_device(tmp_path: Path, error: ModelError) -> None:
    hailo, good, bad = Doll(), version(tmp_path, hef_file=True), version(tmp_path, "bad", hef_file=True)

    class Picky(DollModel):
        def infer(self, inputs: Any) -> Any:
            if inputs["x"][0, 0] == 9:
                raise error
            return super().infer(inputs)

    hailo.load = lambda path: Picky(hailo, path)  # type: ignore[method-assign]
    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        await made.run(request(good))
        for _ in range(8):
            assert (await made.run(request(bad, 9))).backend == "cpu"
            await wait_for(lambda: made.status().devices[0].health is Health.healthy)
        assert made.status().devices[0].failed == 3
        assert made.status().devices[0].resets == (3 if isinstance(error, DeviceError) else 0)
        assert kinds(events).count("load-failed") == 1
        assert (await made.run(request(good))).backend == "hailo"
        assert (await made.run(request(bad, 1))).backend == "cpu", "it has its pause"


async def test_one_bad_input_does_not_end_batching(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)

    class Picky(DollModel):
        def infer(self, inputs: Any) -> Any:
            if 9 in inputs["x"][:, 0]:
                raise ModelError("It does not like this one.")
            return super().infer(inputs)

    hailo.load = lambda path: Picky(hailo, path)  # type: ignore[method-assign]
    async with engine(hailo, limits=Limits(slots=ONE, **QUICK)) as (made, _):
        await made.load(model)
        pace = made._devices[0].loaded[model.key].pace
        pace.learn(1, 0.01)
        pace.learn(2, 0.011)

        async def together(*values: float) -> list[Any]:
            hailo.gate.clear()
            ran = len(hailo.ran)
            first = asyncio.create_task(made.run(request(model, 50)))
            await wait_for(lambda: len(hailo.ran) > ran)
            tasks = [asyncio.create_task(made.run(request(model, value))) for value in values]
            await waits(made, len(values))
            hailo.gate.set()
            await first
            return await asyncio.gather(*tasks, return_exceptions=True)

        results = await together(9, 1)
        assert isinstance(results[0], ModelError)
        np.testing.assert_allclose(results[1].outputs[0], expected(np.full((1, 4), 1, np.float32)))
        assert max(each.batch for each in await together(1, 2)) == 2
        for _ in range(3):  # the batch axis is to blame
            await together(9, 9)
        assert [each.batch for each in await together(1, 2)] == [1, 1]


async def test_what_waits_is_reckoned_with(tmp_path: Path) -> None:
    hailo, stand_in, model = Doll(), cpu(), version(tmp_path, hef_file=True)
    hailo.batch = stand_in.batch = 1
    async with engine(hailo, stand_in, limits=Limits(slots=ONE, **QUICK)) as (made, _):
        await made.load(model)
        for device in made._devices:
            device.loaded[model.key].pace.learn(1, 0.2)
        hailo.gate.clear()
        stand_in.gate.clear()
        tasks = [asyncio.create_task(made.run(request(model, value))) for value in range(12)]
        await wait_for(lambda: hailo.ran and stand_in.ran)
        assert hailo.ran == [[0.0]]
        assert stand_in.ran[0][0] in {2.0, 3.0}, "the first that waits too long behind the others, not the first"
        hailo.gate.set()
        stand_in.gate.set()
        answers = await asyncio.gather(*tasks)
        for value, answer in enumerate(answers):
            np.testing.assert_allclose(answer.outputs[0], expected(np.full((1, 4), value, np.float32)), rtol=1e-5)
        assert "hailo is busy" in next(answer.reason for answer in answers if answer.backend == "cpu")
        assert made.status().fallbacks == 0


async def test_who_is_told_and_who_is_asked_may_fail(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)

    def fails(*_: EngineEvent) -> None:
        raise RuntimeError("not now")

    made = build((hailo, OnnxAccelerator(1)), SystemClock(), Limits(**QUICK), power=fails, on_event=fails)  # type: ignore[arg-type]
    await made.start()
    try:
        assert (await made.run(request(model))).backend == "hailo"
        hailo.error = DeviceError("It is gone.")
        assert (await asyncio.wait_for(made.run(request(model)), 10)).backend == "cpu"
    finally:
        await made.stop()


async def test_the_probe_brings_no_model_back_that_was_unloaded(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        await made.run(request(model))
        await made.unload(model)
        made._device_failed(made._devices[0], DeviceError("It failed."))
        await wait_for(lambda: "returned" in kinds(events))
        assert made.status().devices[0].loaded == ()


async def test_nothing_is_said_of_how_busy_a_device_was_that_is_gone(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        hailo.gate.clear()
        asked = asyncio.create_task(made.run(request(model)))
        await wait_for(lambda: made.status().devices[0].busy)
        hailo.error, hailo.here = DeviceError("It is gone."), False
        hailo.gate.set()
        await asked
        await wait_for(lambda: "lost" in kinds(events))
        assert made.status().devices[0].busy is None


def test_answers_a_second_are_of_the_seconds_that_are_counted() -> None:
    counts = Counts()
    for tick in range(6095):
        counts.served(1, tick / 100)
    assert counts.per_second(60.95) == pytest.approx(100, rel=0.01)
    assert counts.per_second(100) == 0
    fresh = Counts()
    fresh.served(1, 5.5)
    assert fresh.per_second(5.6) == 1


async def test_time_runs_from_the_begin_and_not_while_the_device_is_deaf_for_a_reason() -> None:
    worker, gate = Worker("test"), threading.Event()
    first = asyncio.create_task(worker.run(lambda: gate.wait(20), 30.0))
    second = asyncio.create_task(worker.run(lambda: "done", 0.05))
    await asyncio.wait([second], timeout=0.3)
    assert not second.done(), "it was not begun: no time has passed for it"
    gate.set()
    assert (await first, await second) == (True, "done")
    gate.clear()
    deaf = True
    looks: list[bool] = []

    def hears_again() -> bool:
        looks.append(len(looks) < 2)
        return looks[-1]

    heard = asyncio.create_task(worker.run(lambda: gate.wait(20), 0.5, hears_again))
    await wait_for(lambda: looks == [True, True, False])
    gate.set()
    assert await heard, "it has its whole time from when it could be heard again"
    gate.clear()
    third = asyncio.create_task(worker.run(lambda: gate.wait(20), 0.05, lambda: deaf))
    await asyncio.wait([third], timeout=0.3)
    assert not third.done()
    behind = asyncio.create_task(worker.run(lambda: "never", 0.05))
    deaf = False
    for task in (third, behind):
        with pytest.raises(TimeoutError):
            await task
    gate.set()
    worker.end()


async def test_a_deadline_holds_while_the_device_hangs(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True, onnx_file=False)
    hailo.error = DeviceStalledError("It does not answer.")
    async with engine(hailo) as (made, _):
        hailo.gate.clear()
        with pytest.raises(DeadlineError):
            await made.run(request(model, deadline=deadline_in(0.1)))
        hailo.gate.set()
        assert made.status().expired == 1
