"""The engine with the Hailo's driver (on the stand-in for its package) and the CPU behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.core.inference.engine import Limits
from appliance.core.inference.manifest import Manifest, ModelFile
from appliance.core.inference.model import ModelVersion, Priority, Request
from appliance.core.model import Health
from appliance.hw.onnx import OnnxAccelerator
from tests.inference.engine_rig import engine, kinds
from tests.inference.hailo_rig import SHAPE, Bench, halves, picture
from tests.support import wait_for

LIMITS = Limits(stall={"hailo": 15.0, "cpu": 60.0}, poll=0.2, probe_first=0.05, probe_longest=0.2, absent_retry=0.2)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "bench")
    yield made
    made.end()


def both(directory: Path) -> ModelVersion:
    """The same model as HEF and as ONNX file: half of the input, and the mean of each colour."""
    directory.mkdir(parents=True, exist_ok=True)
    halves(directory / "halves.hef")
    height, width, colours = SHAPE
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "half"], ["y"]),
            helper.make_node("ReduceMean", ["x"], ["z"], axes=[2, 3], keepdims=0),
        ],
        "halves",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", colours, height, width])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", colours, height, width]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", colours]),
        ],
        [numpy_helper.from_array(np.array([0.5], np.float32), "half")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9), str(directory / "halves.onnx")
    )
    files = [ModelFile("halves.hef", "", "hef"), ModelFile("halves.onnx", "", "onnx")]
    return ModelVersion(Manifest("halves", "1", "embedding", "MIT", [], files), directory)


def ask(model: ModelVersion, seed: int = 0, priority: Priority = Priority.normal) -> Request:
    return Request(model, {"x": picture(seed).transpose(0, 3, 1, 2).astype(np.float32)}, priority)


def check(answer, seed: int = 0) -> None:
    x = picture(seed).astype(np.float32)
    half = answer.outputs[0] if answer.backend == "hailo" else answer.outputs[0].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(half, x / 2)
    np.testing.assert_allclose(answer.outputs[1], x.mean(axis=(1, 2)), atol=0.51)  # the Hailo's is quantised in steps of 1


async def test_one_request_fits_the_hef_and_the_onnx_file(bench: Bench, tmp_path: Path) -> None:
    model = both(tmp_path / "model")
    async with engine(bench.driver(), OnnxAccelerator(1), limits=LIMITS) as (made, _):
        answer = await made.run(ask(model))
        assert (answer.backend, answer.device, answer.reason) == ("hailo", "Hailo", "Hailo is first")
        check(answer)
    async with engine(OnnxAccelerator(1), limits=LIMITS) as (made, _):
        answer = await made.run(ask(model))
        assert answer.backend == "cpu"
        check(answer)


async def test_frames_share_batches_on_the_hailo(bench: Bench, tmp_path: Path) -> None:
    model = both(tmp_path / "model")
    async with engine(bench.driver(), limits=LIMITS) as (made, _):
        await made.load(model)
        for _ in range(3):
            answers = await asyncio.gather(*(made.run(ask(model, seed, Priority.low)) for seed in range(40)))
            for seed, answer in enumerate(answers):
                check(answer, seed)
        assert made.status().batches < made.status().batched == 120


@pytest.mark.parametrize("how", ["infer", "infer-deaf"])
async def test_a_hang_costs_no_request_and_the_hailo_comes_back(bench: Bench, tmp_path: Path, how: str) -> None:
    model = both(tmp_path / "model")
    async with engine(bench.driver(stall_seconds=1.5), OnnxAccelerator(1), limits=LIMITS) as (made, events):
        await made.load(model)
        check(await made.run(ask(model)))
        bench.say(hang=how)
        answers = await asyncio.gather(*(made.run(ask(model, seed)) for seed in range(12)))
        for seed, answer in enumerate(answers):
            check(answer, seed)
        assert {(answer.backend, answer.fell_back) for answer in answers} == {("cpu", True)}
        assert "did not answer" in answers[0].reason or "timeout" in answers[0].reason
        assert kinds(events)[0] == "stalled"
        status = made.status()
        assert (status.devices[0].stalls, status.fallbacks) == (1, 12)
        await wait_for(lambda: "returned" in kinds(events), timeout=30)
        assert "chip_reset" in bench.calls()
        answer = await made.run(ask(model, 5))
        assert (answer.backend, answer.fell_back) == ("hailo", False)
        check(answer, 5)


async def test_a_device_that_does_not_return_is_shown_and_tried_again(bench: Bench, tmp_path: Path) -> None:
    model = both(tmp_path / "model")
    async with engine(bench.driver(stall_seconds=1.0), OnnxAccelerator(1), limits=LIMITS) as (made, events):
        await made.load(model)
        bench.say(hang="infer", reset_fails=True)
        assert (await made.run(ask(model))).backend == "cpu"
        await wait_for(lambda: "Attempts to bring it back: 2" in made.status().devices[0].reason, timeout=40)
        assert made.status().devices[0].health is Health.unhealthy
        assert (await made.run(ask(model))).backend == "cpu"
        bench.say(hang=None, reset_fails=False)
        await wait_for(lambda: "returned" in kinds(events), timeout=30)
        assert (await made.run(ask(model))).backend == "hailo"


async def test_a_device_lost_in_a_batch_loses_no_request(bench: Bench, tmp_path: Path) -> None:
    model = both(tmp_path / "model")
    bench.say(lost_after=5)
    async with engine(bench.driver(), OnnxAccelerator(1), limits=LIMITS) as (made, events):
        await made.load(model)
        answers = await asyncio.gather(*(made.run(ask(model, seed)) for seed in range(20)))
        for seed, answer in enumerate(answers):
            check(answer, seed)
        assert {answer.backend for answer in answers} >= {"cpu"}
        assert "failed" in kinds(events)
        bench.node.unlink()
        await wait_for(lambda: "lost" in kinds(events) or "returned" in kinds(events), timeout=30)


async def test_without_the_card_the_cpu_works_and_the_screen_says_why(bench: Bench, tmp_path: Path) -> None:
    bench.node.unlink()
    async with engine(bench.driver(), OnnxAccelerator(1), limits=LIMITS) as (made, _):
        answer = await made.run(ask(both(tmp_path / "model")))
        assert (answer.backend, answer.fell_back) == ("cpu", False), "it was never there: nothing fell back from it"
        assert "no /dev/hailo" in answer.reason
        assert made.status().devices[0].health is Health.absent
        assert "hailo-all" in made.status().devices[0].next_step
