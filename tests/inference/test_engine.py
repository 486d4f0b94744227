"""The engine with real models on the CPU, and with accelerators that misbehave."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from appliance.core.inference.engine import Limits
from appliance.core.inference.engine.batching import Pace
from appliance.core.inference.model import Answer, DeviceReading, Priority
from appliance.core.model import Health
from appliance.errors import (
    AbsentError,
    DeadlineError,
    DeviceError,
    DeviceStalledError,
    ModelError,
    QueueFullError,
)
from appliance.hw.onnx import OnnxAccelerator
from tests.inference.engine_rig import SIDE, Doll, deadline_in, engine, expected, kinds, request, version, waits
from tests.support import wait_for


def cpu() -> Doll:
    return Doll("ONNX Runtime", "cpu", "onnx")


def same(answer: Answer, value: float) -> None:
    np.testing.assert_allclose(answer.outputs[0], expected(np.full((1, SIDE), value, np.float32)), rtol=1e-5)


async def test_the_answer_is_the_models(tmp_path: Path) -> None:
    async with engine(OnnxAccelerator(1)) as (made, _):
        answer = await made.run(request(version(tmp_path), 2.0))
        same(answer, 2.0)
        assert (answer.output_names, answer.backend, answer.device) == (("y",), "cpu", "ONNX Runtime")
        assert (answer.batch, answer.fell_back, answer.reason) == (1, False, "it is the only device")
        assert answer.inference_ms > 0


async def test_requests_that_wait_share_a_run_and_get_their_own_answers(tmp_path: Path) -> None:
    doll, model = Doll(), version(tmp_path, hef_file=True)
    async with engine(doll, limits=Limits(slots={"hailo": 1})) as (made, _):
        for value in (0.0, 0.1):  # the second shows that two are taken at once when two wait
            await made.run(request(model, value))
        answers: list = []
        for _ in range(3):
            doll.gate.clear()
            first = asyncio.create_task(made.run(request(model, 50)))
            await wait_for(lambda: doll.ran[-1] == [50.0])
            rest = [asyncio.create_task(made.run(request(model, value))) for value in range(8)]
            await waits(made, 8)
            doll.gate.set()
            answers = await asyncio.gather(*rest)
            await first
        assert max(answer.batch for answer in answers) > 1
        for value, answer in enumerate(answers):
            same(answer, value)
        status = made.status()
        assert status.batched == sum(map(len, doll.ran))
        assert status.batches == len(doll.ran) < status.batched


async def test_a_model_with_a_fixed_batch_is_run_one_by_one(tmp_path: Path) -> None:
    model = version(tmp_path, batch=1)
    async with engine(OnnxAccelerator(1)) as (made, _):
        answers = await asyncio.gather(*(made.run(request(model, value)) for value in range(6)))
        assert {answer.batch for answer in answers} == {1}
        for value, answer in enumerate(answers):
            same(answer, value)


async def test_the_more_urgent_goes_first(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    doll.batch = 1
    async with engine(doll) as (made, _):
        await made.run(request(model))
        doll.gate.clear()
        tasks = [asyncio.create_task(made.run(request(model, 0, Priority.low)))]
        await wait_for(lambda: len(doll.ran) == 2)
        for value, priority in ((1, Priority.low), (2, Priority.normal), (3, Priority.critical), (4, Priority.high)):
            tasks.append(asyncio.create_task(made.run(request(model, value, priority))))
        await waits(made, 4)
        doll.gate.set()
        await asyncio.gather(*tasks)
        assert [run[0] for run in doll.ran[2:]] == [3, 4, 2, 1]


async def test_the_oldest_frame_is_dropped_and_others_are_refused(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    doll.batch = 1
    async with engine(doll, limits=Limits(waiting=2)) as (made, _):
        await made.run(request(model))
        doll.gate.clear()
        running = asyncio.create_task(made.run(request(model)))
        await wait_for(lambda: len(doll.ran) == 2)
        frames = [asyncio.create_task(made.run(request(model, value, Priority.low))) for value in range(3)]
        with pytest.raises(QueueFullError, match="dropped for a newer one"):
            await frames[0]
        asked = [asyncio.create_task(made.run(request(model, value))) for value in range(2)]
        await waits(made, 4)
        with pytest.raises(QueueFullError, match="2 requests of priority normal wait already"):
            await made.run(request(model))
        assert made.status().dropped_by == {"critical": 0, "high": 0, "normal": 1, "low": 1}
        assert made.status().dropped == 2
        doll.gate.set()
        await asyncio.gather(running, *asked, *frames[1:])


async def test_a_fast_source_does_not_starve_a_slow_one(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    doll.batch = 1
    async with engine(doll, limits=Limits(waiting=3)) as (made, _):
        await made.run(request(model))
        doll.gate.clear()
        running = asyncio.create_task(made.run(request(model)))
        await wait_for(lambda: len(doll.ran) == 2)

        def frame(source: str, value: float) -> asyncio.Task:
            return asyncio.create_task(made.run(replace(request(model, value, Priority.low), source=source)))

        slow = frame("slow", 1)
        fast = [frame("fast", value) for value in range(10, 16)]
        dropped = await asyncio.gather(*fast[:4], return_exceptions=True)
        assert all(isinstance(each, QueueFullError) for each in dropped)
        doll.gate.set()
        same(await slow, 1)
        await asyncio.gather(running, *fast[4:])


async def test_sources_take_turns(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    doll.batch = 1
    async with engine(doll) as (made, _):
        await made.run(request(model))
        doll.gate.clear()
        tasks = [asyncio.create_task(made.run(request(model)))]
        await wait_for(lambda: len(doll.ran) == 2)
        for source, values in (("a", (1, 2, 3)), ("b", (11, 12)), ("c", (21,))):
            for value in values:
                frame = replace(request(model, value, Priority.low), source=source)
                tasks.append(asyncio.create_task(made.run(frame)))
        await waits(made, 6)
        doll.gate.set()
        await asyncio.gather(*tasks)
        assert [run[0] for run in doll.ran[2:]] == [1, 11, 21, 2, 12, 3]


def test_a_batch_grows_while_that_pays_and_nobody_waits_too_long() -> None:
    pace = Pace(8, hold=0.05)
    assert [pace.size(8), pace.size(1)] == [1, 1]  # nothing is known
    pace.learn(1, 0.004)
    assert pace.size(8) == 2  # one step beyond what is known
    pace.learn(2, 0.006)
    pace.learn(4, 0.010)
    assert pace.size(8) == 8
    pace.learn(8, 0.040)
    assert pace.size(8) == 4  # eight take as long as four each
    heavy = Pace(8, hold=0.05)
    heavy.learn(1, 0.03)
    assert heavy.size(8) == 1  # two would take 60 ms
    pace.forbid()
    assert pace.size(8) == 1


async def test_bytes_are_bounded_and_the_less_urgent_make_room(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    one = SIDE * 4
    async with engine(doll, limits=Limits(waiting_bytes=3 * one)) as (made, _):
        await made.run(request(model))
        doll.gate.clear()
        running = asyncio.create_task(made.run(request(model)))
        await wait_for(lambda: len(doll.ran) == 2)
        frames = [asyncio.create_task(made.run(request(model, value, Priority.low))) for value in range(3)]
        await waits(made, 3)
        assert made.status().waiting_bytes == 3 * one
        urgent = asyncio.create_task(made.run(request(model, 9, Priority.high)))
        with pytest.raises(QueueFullError, match="dropped for one of priority high"):
            await frames[0]
        assert made.status().waiting_bytes == 3 * one
        doll.gate.set()
        await asyncio.gather(running, urgent, *frames[1:])
        assert made.status().waiting_bytes == 0


async def test_a_thousand_at_once_get_an_answer_or_an_error(tmp_path: Path) -> None:
    model = version(tmp_path)
    async with engine(OnnxAccelerator(1), limits=Limits(waiting=100)) as (made, _):
        results = await asyncio.gather(
            *(made.run(request(model, value, Priority(value % 4))) for value in range(1000)), return_exceptions=True
        )
        refused = [each for each in results if isinstance(each, QueueFullError)]
        answered = [each for each in results if not isinstance(each, Exception)]
        assert len(answered) >= 400
        assert len(answered) + len(refused) == 1000
        for value, each in enumerate(results):
            if not isinstance(each, Exception):
                same(each, value)
        status = made.status()
        assert status.dropped == len(refused)
        assert sum(status.waiting.values()) == 0
        assert status.running == 0
        assert sum(count for _, count in status.histogram) == len(answered)


async def test_a_cancelled_callers_request_does_not_run(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    doll.batch = 1
    async with engine(doll) as (made, _):
        await made.run(request(model))
        doll.gate.clear()
        running = asyncio.create_task(made.run(request(model)))
        await wait_for(lambda: len(doll.ran) == 2)
        gone, stays = (asyncio.create_task(made.run(request(model, value))) for value in (7, 8))
        await waits(made, 2)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        doll.gate.set()
        await asyncio.gather(running, stays)
        assert [7.0] not in doll.ran
        assert [8.0] in doll.ran
        assert made.status().cancelled == 1


async def test_a_deadline_ends_the_waiting(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    doll.batch = 1
    async with engine(doll) as (made, _):
        await made.run(request(model))
        doll.gate.clear()
        running = asyncio.create_task(made.run(request(model)))
        await wait_for(lambda: len(doll.ran) == 2)
        with pytest.raises(DeadlineError):
            await made.run(request(model, 7, deadline=deadline_in(0.05)))
        with pytest.raises(DeadlineError):
            await made.run(request(model, 7, deadline=deadline_in(-1)))
        doll.gate.set()
        await running
        assert [7.0] not in doll.ran
        assert made.status().expired == 2


async def test_a_stalled_device_is_replaced_by_the_cpu_reset_and_comes_back(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        assert (await made.run(request(model))).reason == "hailo is first"
        hailo.error = DeviceStalledError("It does not answer.", "it is reset.")
        answers = await asyncio.gather(*(made.run(request(model, value)) for value in range(5)))
        assert {(answer.backend, answer.fell_back) for answer in answers} == {("cpu", True)}
        assert "does not answer" in answers[0].reason
        same(answers[4], 4)
        status = made.status()
        assert status.devices[0].health is Health.unhealthy
        assert status.devices[0].stalls == 1
        assert status.fallbacks == 5
        assert sum(each.count for each in status.last_fallbacks) == 5
        assert {each.wanted for each in status.last_fallbacks} == {"hailo"}
        assert kinds(events)[0] == "stalled"
        assert "fallback" in kinds(events)
        hailo.error = None
        await wait_for(lambda: "returned" in kinds(events))
        answer = await made.run(request(model))
        assert (answer.backend, answer.fell_back) == ("hailo", False)
        assert made.status().devices[0].resets == hailo.resets >= 1


async def test_a_device_that_relapses_waits_longer_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    pauses: list[int] = []
    monkeypatch.setattr(
        "appliance.core.inference.engine.watchdog.backoff", lambda failures, *_: pauses.append(failures) or 0.001
    )
    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        hailo.fails_on = 9.0
        for relapse in range(3):
            assert (await made.run(request(model))).backend == "hailo"
            assert (await made.run(request(model, 9))).backend == "cpu"
            await wait_for(lambda: kinds(events).count("returned") == relapse + 1)  # noqa: B023
        assert pauses == [1, 2, 3]


async def test_a_hung_thread_is_left_behind_and_the_request_answered_elsewhere(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    quick = Limits(stall={"hailo": 0.1, "cpu": 60}, poll=5, probe_first=0.02, probe_longest=0.05)
    async with engine(hailo, OnnxAccelerator(1), limits=quick) as (made, events):
        await made.run(request(model))
        hailo.gate.clear()
        answer = await made.run(request(model, 3))
        assert (answer.backend, answer.fell_back) == ("cpu", True)
        assert kinds(events)[0] == "stalled"
        hailo.gate.set()
        await wait_for(lambda: "returned" in kinds(events))
        assert (await made.run(request(model))).backend == "hailo"


async def test_a_device_that_disappears_is_absent_and_found_again(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        await made.run(request(model))
        hailo.error, hailo.reset = DeviceError("The device is gone."), lambda: None  # type: ignore[method-assign]
        hailo.here = False
        assert (await made.run(request(model))).backend == "cpu"
        await wait_for(lambda: "lost" in kinds(events))
        assert made.status().devices[0].health is Health.absent
        assert (made.status().devices[0].reason, made.status().devices[0].next_step) == ("no card", "fit one")
        hailo.error, hailo.here = None, True
        await wait_for(lambda: "found" in kinds(events))
        assert (await made.run(request(model))).backend == "hailo"


async def test_a_model_that_fails_on_the_device_runs_on_its_stand_in(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    hailo.error = ModelError("The HEF does not like it.")
    async with engine(hailo, OnnxAccelerator(1)) as (made, _):
        answer = await made.run(request(model))
        assert (answer.backend, answer.fell_back) == ("cpu", True)
        assert made.status().devices[0].health is Health.healthy  # the model is to blame, not the device


async def test_a_model_that_fails_everywhere_says_why(tmp_path: Path) -> None:
    hailo, stand_in, model = Doll(), cpu(), version(tmp_path, hef_file=True)
    hailo.error, stand_in.error = ModelError("The HEF fails."), ModelError("The file fails.")
    async with engine(hailo, stand_in) as (made, _):
        with pytest.raises(
            ModelError, match=r"line@1 ran on no device: hailo: The HEF fails\.; ONNX Runtime: The file fails\."
        ):
            await made.run(request(model))


async def test_one_bad_request_does_not_fail_those_that_share_its_run(tmp_path: Path) -> None:
    doll, model = Doll(), version(tmp_path, hef_file=True, onnx_file=False)

    async with engine(doll, limits=Limits(slots={"hailo": 1})) as (made, _):
        await made.run(request(model))
        loaded = made._devices[0].loaded[model.key]
        plain = loaded.model.infer

        def infer(inputs: dict) -> list:
            if 13.0 in inputs["x"][:, 0]:
                raise ModelError("13 is no input.")
            return plain(inputs)

        loaded.model.infer = infer
        doll.gate.clear()
        first = asyncio.create_task(made.run(request(model)))
        await wait_for(lambda: len(doll.ran) == 2)
        tasks = [asyncio.create_task(made.run(request(model, value))) for value in (12, 13)]
        await waits(made, 2)
        doll.gate.set()
        good, bad = await asyncio.gather(*tasks, return_exceptions=True)
        await first
        same(good, 12)
        assert isinstance(bad, ModelError)
        assert "13 is no input" in bad.message


async def test_without_a_hef_the_cpu_is_no_fallback(tmp_path: Path) -> None:
    async with engine(Doll(), OnnxAccelerator(1)) as (made, _):
        answer = await made.run(request(version(tmp_path)))
        assert (answer.backend, answer.reason, answer.fell_back) == ("cpu", "hailo: no HEF of this model", False)


async def test_a_model_that_no_device_runs_is_refused(tmp_path: Path) -> None:
    async with engine(OnnxAccelerator(1)) as (made, _):
        with pytest.raises(AbsentError, match="no ONNX file of this model"):
            await made.run(request(version(tmp_path, hef_file=True, onnx_file=False)))


async def test_a_hef_alone_says_that_its_device_is_absent(tmp_path: Path) -> None:
    hailo = Doll()
    hailo.here = False
    async with engine(hailo, OnnxAccelerator(1)) as (made, _):
        with pytest.raises(AbsentError, match="hailo: no card"):
            await made.run(request(version(tmp_path, hef_file=True, onnx_file=False)))


async def test_a_hot_device_is_spared_until_it_is_cool(tmp_path: Path) -> None:
    hailo, model = Doll(), version(tmp_path, hef_file=True)
    async with engine(hailo, OnnxAccelerator(1)) as (made, events):
        await made.run(request(model))
        hailo.told = DeviceReading(temperature_c=92)
        await wait_for(lambda: "hot" in kinds(events))
        answer = await made.run(request(model))
        assert (answer.backend, answer.reason, answer.fell_back) == ("cpu", "hailo: it is hot (92 °C)", True)
        hailo.told = DeviceReading(temperature_c=80)  # cooler, but not cool: it does not go to and fro
        await wait_for(lambda: made.status().devices[0].reading == DeviceReading(temperature_c=80))
        assert (await made.run(request(model))).backend == "cpu"
        hailo.told = DeviceReading(temperature_c=70)
        await wait_for(lambda: "cool" in kinds(events))
        assert (await made.run(request(model))).backend == "hailo"


async def test_a_devices_alarms_become_events(tmp_path: Path) -> None:
    hailo = Doll()
    async with engine(hailo) as (made, events):
        await made.run(request(version(tmp_path, hef_file=True)))
        hailo.told = DeviceReading(notices=("overcurrent alarm: zone RED",))
        await wait_for(lambda: "notice" in kinds(events))
        assert events[0].reason == "overcurrent alarm: zone RED"


@pytest.mark.parametrize(("power", "other"), [("performance", True), ("power-saving", False)])
async def test_a_busy_device_gives_work_away_but_not_when_power_is_saved(tmp_path: Path, power: str, other: bool) -> None:
    hailo, stand_in, model = Doll(), cpu(), version(tmp_path / power, hef_file=True)
    async with engine(hailo, stand_in, power=power, limits=Limits(slots={"hailo": 1})) as (made, _):
        await made.load(model)
        for device in made._devices:
            device.loaded[model.key].pace.learn(1, 1.0 if device.backend == "hailo" else 0.1)
        hailo.gate.clear()
        first = asyncio.create_task(made.run(request(model)))
        await wait_for(lambda: hailo.ran != [])
        second = asyncio.create_task(made.run(request(model, 5)))
        if other:
            answer = await second
            assert answer.backend == "cpu"
            assert "hailo is busy" in answer.reason
            assert not answer.fell_back
        else:
            await waits(made, 1)
        hailo.gate.set()
        assert (await first).backend == "hailo"
        assert (await second).backend == ("cpu" if other else "hailo")


async def test_models_are_loaded_once_and_freed(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    async with engine(doll) as (made, _):
        await asyncio.gather(made.load(model), made.load(model), made.run(request(model)))
        assert doll.loads == 1
        assert made.status().devices[0].loaded == ("line@1",)
        await made.unload(model)
        assert doll.closed == [str(tmp_path / "line.onnx")]
        assert made.status().devices[0].loaded == ()
        await made.run(request(model))
        assert doll.loads == 2


async def test_unloading_waits_for_the_requests(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    async with engine(doll) as (made, _):
        await made.load(model)
        doll.gate.clear()
        running = asyncio.create_task(made.run(request(model)))
        await wait_for(lambda: doll.ran != [])
        freeing = asyncio.create_task(made.unload(model))
        await asyncio.sleep(0)
        assert doll.closed == []
        doll.gate.set()
        assert (await running).backend == "cpu"
        await freeing
        assert len(doll.closed) == 1


async def test_the_least_recently_used_model_goes(tmp_path: Path) -> None:
    doll = cpu()
    models = [version(tmp_path / str(index), f"line{index}") for index in range(3)]
    async with engine(doll, limits=Limits(models=2)) as (made, _):
        for model in (models[0], models[1], models[0], models[2]):
            await made.run(request(model))
        assert made.status().devices[0].loaded == ("line0@1", "line2@1")
        assert doll.closed == [str(tmp_path / "1" / "line1.onnx")]


async def test_a_file_that_cannot_be_loaded_is_not_tried_for_every_request(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    doll.load_error = ModelError("It is cut off.", "fetch it again.")
    async with engine(doll) as (made, events):
        for _ in range(3):
            with pytest.raises(ModelError, match="It is cut off"):
                await made.run(request(model))
        assert kinds(events) == ["load-failed"]
        with pytest.raises(ModelError, match="It is cut off"):
            await made.load(model)


async def test_stopping_fails_what_waits(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    doll.batch = 1
    async with engine(doll) as (made, _):
        await made.run(request(model))
        doll.gate.clear()
        tasks = [asyncio.create_task(made.run(request(model, value))) for value in range(3)]
        await waits(made, 2)
        stopping = asyncio.create_task(made.stop())
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await stopping
        assert all(isinstance(each, AbsentError) for each in results)
        with pytest.raises(AbsentError, match="does not run"):
            await made.run(request(model))


async def test_it_can_be_started_again(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    doll.batch = 1
    async with engine(doll) as (made, _):
        await made.run(request(model))
        doll.gate.clear()
        cut_off = asyncio.create_task(made.run(request(model)))
        await wait_for(lambda: len(doll.ran) == 2)
        await made.stop()
        with pytest.raises(AbsentError):
            await cut_off
        assert made.status().running == 0
        doll.gate.set()
        await made.start()
        answers = await asyncio.gather(*(made.run(request(model, value)) for value in range(5)))
        for value, answer in enumerate(answers):
            same(answer, value)
        assert doll.loads == 2


async def test_the_status_tells_of_devices_models_and_times(tmp_path: Path) -> None:
    doll, model = cpu(), version(tmp_path)
    doll.told = DeviceReading(temperature_c=51.5, throttled=False)
    async with engine(doll) as (made, _):
        before = made.status()
        assert (before.p50_ms, before.per_second, before.devices[0].latency_ms) == (None, None, None)
        await made.run(request(model))
        await wait_for(lambda: made.status().devices[0].reading is not None and made.status().devices[0].busy is not None)
        status = made.status()
        assert status.devices[0].reading == doll.told
        assert status.devices[0].done == 1
        assert status.p50_ms is not None
        assert status.per_second is not None
        assert [(load.model, load.device, load.requests) for load in status.loads] == [("line@1", "ONNX Runtime", 1)]
