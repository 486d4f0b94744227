"""ONNX Runtime's driver: files that are damaged, inputs that do not fit, batches, resets, and the way that is measured."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from appliance.core.inference.model import DeviceReading, TensorSpec
from appliance.core.model import Health
from appliance.errors import DeviceError, ModelError
from appliance.hw import onnx_tuning
from appliance.hw.onnx import OnnxAccelerator
from appliance.hw.onnx_tuning import Way
from tests.inference.engine_rig import SIDE, expected, write_onnx
from tests.support import wait_for_sync


def cpu(**wanted: object) -> OnnxAccelerator:
    return OnnxAccelerator(1, **wanted)  # type: ignore[arg-type]


def rows(count: int) -> np.ndarray:
    return np.arange(count * SIDE, dtype=np.float32).reshape(count, SIDE)


def test_a_free_batch_axis_takes_a_batch_in_one_run(tmp_path: Path) -> None:
    model = cpu().load(str(write_onnx(tmp_path / "m.onnx")))
    assert (model.inputs, model.batches) == ((TensorSpec("x", (None, SIDE), "float32"),), True)
    np.testing.assert_allclose(model.infer({"x": rows(5)})[0], expected(rows(5)), rtol=1e-5)


def test_a_fixed_batch_axis_is_run_one_by_one(tmp_path: Path) -> None:
    model = cpu().load(str(write_onnx(tmp_path / "m.onnx", batch=1)))
    assert not model.batches
    np.testing.assert_allclose(model.infer({"x": rows(5)})[0], expected(rows(5)), rtol=1e-5)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((1, SIDE + 1), np.float32), r"has shape 1×5, the model takes any×4"),
        (np.zeros((1, SIDE)), "has type float64, the model takes float32"),
        (np.zeros((SIDE,), np.float32), r"has shape 4, the model takes any×4"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_words(tmp_path: Path, value: np.ndarray, words: str) -> None:
    model = cpu().load(str(write_onnx(tmp_path / "m.onnx")))
    with pytest.raises(ModelError, match=words) as caught:
        model.infer({"x": value})
    assert "it takes x (any×4, float32)" in caught.value.next_step


def test_missing_and_unknown_inputs_are_named(tmp_path: Path) -> None:
    model = cpu().load(str(write_onnx(tmp_path / "m.onnx")))
    with pytest.raises(ModelError, match="input x is missing"):
        model.infer({})
    with pytest.raises(ModelError, match="no input y"):
        model.infer({"x": rows(1), "y": rows(1)})


def test_a_cut_off_file(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", side=64)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError, match="cut off") as caught:
        cpu().load(str(path))
    assert "fetch the model again" in caught.value.next_step


@pytest.mark.parametrize(("data", "words"), [(b"", "empty"), (b"no model at all, but some text", "cut off, or no ONNX")])
def test_what_is_no_model(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=words):
        cpu().load(str(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="No such file"):
        cpu().load(str(tmp_path / "none.onnx"))


def test_external_data_that_is_missing_or_short(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", side=64, external="weights.data")
    weights = tmp_path / "weights.data"
    assert cpu().load(str(path)).inputs[0].shape == (None, 64)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(ModelError, match="shorter than it must be"):
        cpu().load(str(path))
    weights.unlink()
    with pytest.raises(ModelError, match=r"weights is not beside it \(weights\.data\)") as caught:
        cpu().load(str(path))
    assert "put the external data file beside it" in caught.value.next_step


@pytest.mark.parametrize(
    ("wanted", "words"),
    [({"opset": 99}, r"opset 99, this ONNX Runtime knows them up to \d+"), ({"ir": 99}, "format version 99")],
)
def test_a_newer_opset_or_format(tmp_path: Path, wanted: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        cpu().load(str(write_onnx(tmp_path / "m.onnx", **wanted)))


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Frobnicate", ["x"], ["y"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="the operator Frobnicate"):
        cpu().load(str(tmp_path / "m.onnx"))


def test_scalars_and_whole_numbers_are_taken(tmp_path: Path) -> None:
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3]),
        helper.make_tensor_value_info("rate", TensorProto.INT64, []),
    ]
    nodes = [helper.make_node("Cast", ["rate"], ["r"], to=TensorProto.FLOAT), helper.make_node("Mul", ["x", "r"], ["y"])]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(tmp_path / "m.onnx"))
    model = cpu().load(str(tmp_path / "m.onnx"))
    assert model.inputs[1] == TensorSpec("rate", (), "int64")
    assert not model.batches
    (y,) = model.infer({"x": np.ones((1, 3), np.float32), "rate": np.array(16, np.int64)})
    np.testing.assert_array_equal(y, np.full((1, 3), 16))


def endless(path: Path) -> Path:
    """A model that multiplies large matrices for minutes."""
    side = 512
    body = helper.make_graph(
        [helper.make_node("MatMul", ["a", "a"], ["b"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [side, side]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [side, side]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["times", "yes", "x"], ["y"], body=body)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [side, side])],
        [
            helper.make_tensor("times", TensorProto.INT64, [], [1_000_000]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def test_a_reset_ends_what_runs_and_the_model_stays_usable(tmp_path: Path) -> None:
    accelerator = cpu()
    model, other = accelerator.load(str(endless(tmp_path / "m.onnx"))), accelerator.load(str(write_onnx(tmp_path / "o.onnx")))
    raised: list[Exception] = []

    def run() -> None:
        try:
            model.infer({"x": np.zeros((512, 512), np.float32)})
        except ModelError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for_sync(lambda: accelerator._usage._now)
    accelerator.reset()
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(raised[0], DeviceError)
    np.testing.assert_allclose(other.infer({"x": rows(1)})[0], expected(rows(1)), rtol=1e-5)


def test_a_closed_model_says_so(tmp_path: Path) -> None:
    model = cpu().load(str(write_onnx(tmp_path / "m.onnx")))
    model.close()
    with pytest.raises(DeviceError, match="closed"):
        model.infer({"x": rows(1)})


def test_the_reading_has_the_machines_temperature_and_no_invented_figures(tmp_path: Path) -> None:
    assert cpu().reading().temperature_c is None
    accelerator = cpu(host=lambda: DeviceReading(temperature_c=61.0, throttled=True))
    reading = accelerator.reading()
    assert (reading.temperature_c, reading.throttled, reading.power_w) == (61.0, True, None)
    assert accelerator.detect().health is Health.healthy
    model = accelerator.load(str(write_onnx(tmp_path / "m.onnx", side=256)))

    def busy() -> bool:
        for _ in range(50):
            model.infer({"x": np.zeros((64, 256), np.float32)})
        return (accelerator.reading().utilisation or 0.0) > 0

    wait_for_sync(busy)


class Timed:
    """A model whose runs take as long as its way says, on a clock of its own."""

    inputs = (TensorSpec("x", (None, 2), "float32"),)

    def __init__(self, clock: list[float], seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self.closed = False

    def infer(self, inputs: object) -> None:
        self._clock[0] += self._seconds

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("costs", "providers", "wanted"),
    [
        ({}, [], Way(threads=4)),
        ({"XnnpackExecutionProvider": 0.5}, ["XnnpackExecutionProvider"], Way("XnnpackExecutionProvider", 4)),
        ({"XnnpackExecutionProvider": 2.0}, ["XnnpackExecutionProvider"], Way(threads=4)),
        ({"XnnpackExecutionProvider": 0.5}, [], Way(threads=4)),
        ({2: 0.6, 1: 0.97}, [], Way(threads=2)),
        ({False: 0.8}, [], Way(threads=4, arena=False)),
        ({"binding": 0.8}, [], Way(threads=4, binding=True)),
    ],
)
def test_the_quickest_way_is_taken(monkeypatch: pytest.MonkeyPatch, costs: dict, providers: list[str], wanted: Way) -> None:
    clock, made = [0.0], []
    monkeypatch.setattr(onnx_tuning.time, "perf_counter", lambda: clock[0])

    def build(way: Way) -> Timed:
        cost = costs.get(way.provider, 1.0) * (costs.get("binding", 1.0) if way.binding else 1.0)
        for part in (way.threads, way.arena):
            cost *= next((value for key, value in costs.items() if key is part), 1.0)
        made.append(Timed(clock, cost))
        return made[-1]

    way, reason = onnx_tuning.choose(build, threads=4, providers=providers, seconds=60)
    assert way == wanted
    assert reason.startswith("measured")
    assert all(model.closed for model in made)


def test_a_way_that_fails_is_left_out() -> None:
    def build(way: Way) -> Timed:
        if way.threads == 1:
            raise ModelError("not so")
        return Timed([0.0], 1.0)

    assert onnx_tuning.choose(build, threads=2, providers=["XnnpackExecutionProvider"], seconds=60)[0].threads == 2


def test_free_sides_are_not_measured_and_a_measured_way_is_kept(tmp_path: Path) -> None:
    accelerator = cpu(tune_seconds=5.0)
    path = str(write_onnx(tmp_path / "m.onnx"))
    model = accelerator.load(path)
    assert model.reason.startswith("measured")
    assert accelerator.way(path) is accelerator.way(path)  # measured once
    np.testing.assert_allclose(model.infer({"x": rows(2)})[0], expected(rows(2)), rtol=1e-5)
    assert onnx_tuning.sample((TensorSpec("x", (None, 3, None, None), "float32"),)) is None


def test_what_was_measured_is_kept_for_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, kept = str(write_onnx(tmp_path / "m.onnx")), tmp_path / "state" / "ways.json"
    measured = cpu(tune_seconds=5.0, ways=kept).way(path)
    monkeypatch.setattr(onnx_tuning, "choose", lambda *args, **kwargs: (Way(threads=7), "measured again"))
    assert cpu(tune_seconds=5.0, ways=kept).way(path) == measured
    kept.write_text("{ no JSON")
    assert cpu(tune_seconds=5.0, ways=kept).way(path) == (Way(threads=7), "measured again")
    write_onnx(tmp_path / "m.onnx", side=8)  # another file: what was measured is not for it
    assert cpu(tune_seconds=5.0, ways=kept).way(path)[0] == Way(threads=7)


@pytest.mark.parametrize("way", [Way(threads=1, arena=False), Way(threads=1, binding=True)])
def test_every_way_gives_the_same_numbers(tmp_path: Path, way: Way) -> None:
    model = cpu()._build(str(write_onnx(tmp_path / "m.onnx")), way)
    np.testing.assert_allclose(model.infer({"x": rows(3)[:, ::-1]})[0], expected(rows(3)[:, ::-1]), rtol=1e-5)


def test_a_slow_model_is_not_measured_for_longer_than_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, made = [0.0], []
    for name in ("perf_counter", "monotonic"):
        monkeypatch.setattr(onnx_tuning.time, name, lambda: clock[0])

    def build(way: Way, plain: float, other: float) -> Timed:
        made.append(Timed(clock, plain if way.threads == 4 else other))
        return made[-1]

    way, reason = onnx_tuning.choose(lambda way: build(way, 2.0, 1.0), threads=4, providers=[], seconds=3.0)
    assert (way, reason, clock[0]) == (Way(threads=4), "not measured: one run takes 2.0 s", 2.0)
    clock[0] = 0.0
    _, reason = onnx_tuning.choose(lambda way: build(way, 0.5, 10.0), threads=4, providers=[], seconds=3.0)
    assert reason == "measured: time was up"
    assert clock[0] == 0.5 + 2 * (0.5 + 10), "one run of the slower way, and one that counts"
    assert all(model.closed for model in made)


def test_a_model_that_fails_on_made_up_inputs_is_not_measured() -> None:
    class Picky:
        inputs = (TensorSpec("x", (1, 2), "float32"),)

        def infer(self, _: object) -> None:
            raise ModelError("An index is out of range.")

        def close(self) -> None:
            pass

    way, reason = onnx_tuning.choose(lambda _: Picky(), threads=2, providers=[], seconds=5)
    assert way == Way(threads=2)
    assert "An index is out of range" in reason
