"""What is large, odd or much stays within its bounds: pictures, masks, remembered and newest results, waiting inputs."""

from __future__ import annotations

import asyncio
import io
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from appliance.core.findings import Box, Keypoint, Mask, Pose
from appliance.core.inference import manifest as manifests
from appliance.core.inference import render, service
from appliance.core.inference.cache import MASK_RUNS, Entry, Key, ResultCache
from appliance.core.inference.image import DecodedPicture, area
from appliance.core.inference.letterbox import fit_picture
from appliance.core.inference.manifest import Input, Manifest, SoundInput
from appliance.core.inference.model import Findings, Readings, Sound
from appliance.core.inference.overlay import overlay
from appliance.core.inference.pipeline import Ran
from appliance.core.inference.recent import MOST, Recent
from appliance.core.inference.room import Room
from appliance.core.inference.tasks import task_for
from appliance.core.inference.tasks.statistics import WindowStatistics
from appliance.errors import DeadlineError, ModelError
from tests.inference.registry_rig import Rig, picture, running
from tests.inference.test_service_values import PLAIN
from tests.inference.test_tasks_pictures import finish, manifest
from tests.support import wait_for


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Bytes that may be taken meanwhile."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] - before < size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [(40_000, 30), (30, 40_000), (33_000, 90)])
@pytest.mark.parametrize("how", ["corners", "bilinear", "antialias"])
@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
def test_a_picture_of_any_length_fits(size: tuple[int, int], how: Any, fit: Any) -> None:
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    assert fit_picture(rgb, Input("i", 64, 64, resample=how, fit=fit))[0].shape == (1, 3, 64, 64)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (97, 31)])
def test_the_way_of_long_pictures_is_the_way_of_others(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = np.random.default_rng(1).integers(0, 255, (7, 11, 3), np.uint8)
    rgb = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    wanted = Input("i", 64, 48, "NHWC", dtype="uint8", resample="corners")
    usual = fit_picture(rgb, wanted)[0].astype(int)
    monkeypatch.setattr("appliance.core.inference.letterbox.LONGEST", 30)
    assert np.abs(fit_picture(rgb, wanted)[0].astype(int) - usual).max() <= 5, "OpenCV samples at 32nds of a pixel"


def test_masks_of_a_large_picture_and_many_labels_take_little_memory() -> None:
    told = manifest("segmentation", manifests.Semantic(), labels=40)
    task = task_for(told)
    prepared = task.prepare(DecodedPicture(np.zeros((1200, 1600, 3), np.uint8), "x", 1600, 1200))
    values = np.random.default_rng(0).normal(0, 1, (1, 40, 4, 6)).astype(np.float32)
    with at_most(120_000_000):  # all labels at once: 300 MB
        found = task.finish([[values]], ("y",), prepared, 0.3)
    assert len(found.masks) > 5
    assert sum(sum(mask.counts[1::2]) for mask in found.masks) == 1600 * 1200, "each pixel has one label"


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 0.2, 0.5, 0.74, 1.0])
@pytest.mark.parametrize("logits", [True, False])
def test_the_threshold_of_raw_maps_is_one_of_probabilities(threshold: float, *, logits: bool) -> None:
    maps = np.zeros((1, 17, 2, 2), np.float32)
    maps[0, :16] = np.tile(np.eye(4, dtype=np.float32)[2] * 50, 4)[:, None, None]
    places = np.array([0.05, 0.3, 0.6, 0.75], np.float32)
    maps[0, 16] = (np.log(places / (1 - places)) if logits else places).reshape(2, 2)
    told = manifest("detection", manifests.Yolov8(raw=True, bins=4, strides=(32,), logits=logits, overlap=1.0), 1, (64, 64))
    found, _ = finish(told, [maps], threshold, shown=DecodedPicture(np.zeros((64, 64, 3), np.uint8), "x", 64, 64))
    assert sorted(box.score for box in found.boxes) == pytest.approx([each for each in places if each >= threshold], abs=1e-4)


def test_a_box_of_no_width_is_none() -> None:
    table = np.array([[[40.0, 40.0], [30, 30], [0.002, 20], [20, 20], [0.9, 0.8]]], np.float32)
    found, _ = finish(manifest("detection", manifests.Yolov8(), labels=1), [table], 0.5)
    assert [box.score for box in found.boxes] == [0.8]
    outside = np.array([[-40.0, -20, 0, 9, 9], [-30, -30, 0, 9, 9]], np.float32).reshape(1, -1)
    found, _ = finish(manifest("pose", manifests.Points(("a", "b")), labels=1), [outside], 0.5)
    assert (found.boxes, len(found.poses)) == ((), 1)


def test_points_outside_of_the_picture_paint_nothing_in_it() -> None:
    rgb = np.zeros((300, 400, 3), np.uint8)
    for x, y in ((-150.0, -100.0), (-150.0, 100.0), (100.0, -90.0), (900.0, 100.0), (100.0, 900.0)):
        assert not overlay(rgb, (400, 300), (), (Pose((Keypoint("a", x, y, 0.9),)),)).any()
    assert overlay(rgb, (400, 300), (), (Pose((Keypoint("a", 0.0, 0.0, 0.9),)),)).any()


def test_the_largest_console_preview_takes_little_memory() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (400, 800, 3), np.uint8)
    with at_most(40_000_000):
        cells = render.console(rgb, (), 500, 200)
    assert (len(cells), len(cells[0])) == (125, 500)


def test_statistics_that_no_float_holds_are_left_out() -> None:
    task = WindowStatistics()
    with np.errstate(over="ignore", invalid="ignore"):
        told = task.finish([], (), task.prepare(Readings(np.arange(2.0), np.array([1e308, 1.5e308]), "x")), 0.5).statistics
    assert "mean" not in told
    assert told["max"] == 1.5e308


def ran(findings: Findings) -> Ran:
    return Ran(findings, "cpu", "ONNX Runtime", 5.0, 0.0, "", False)


def test_remembered_results_take_as_much_memory_as_is_told() -> None:
    rng = np.random.default_rng(1)
    makers: dict[str, Any] = {
        "masks": lambda: Findings(masks=(Mask("a", 4000, 3000, tuple(rng.integers(1000, 3000, 20_000).tolist())),)),
        "vectors": lambda: Findings(embedding=tuple(rng.normal(0, 1, 1280).tolist())),
        "boxes": lambda: Findings(boxes=tuple(Box("bus", *rng.normal(0, 1, 5).tolist()) for _ in range(8))),
        "nothing": Findings,
    }
    for what, make in makers.items():
        tracemalloc.start()
        cache = ResultCache(100_000, 1 << 19)
        for number in range({"masks": 30, "vectors": 90}.get(what, 600)):
            cache.put(Key(f"{number:064}", "m@1" * 9, "f" * 64, 0.3), Entry(ran(make()), 1, 1))
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert cache.status().evicted > 0, what
        assert held < 1.2 * cache.status().bytes, what


def test_a_remembered_result_comes_back_as_it_was_and_one_with_far_too_many_masks_is_none() -> None:
    cache = ResultCache(10, 1 << 20)
    full = Findings(boxes=(Box("bus", 0.1 + 0.2, 1, 2, 3, 4),), masks=(Mask("a", 2, 2, (0, 4)),), embedding=(1 / 3,))
    cache.put(Key("1", "m", "f", 0.3), Entry(ran(full), 64, 48))
    assert cache.get(Key("1", "m", "f", 0.3)) == Entry(ran(full), 64, 48)
    cache.put(Key("2", "m", "f", 0.3), Entry(ran(Findings(masks=(Mask("a", 9, 9, (0,) * (MASK_RUNS + 1)),))), 9, 9))
    assert cache.get(Key("2", "m", "f", 0.3)) is None


def test_the_newest_results_are_bounded_by_what_they_hold() -> None:
    recent = Recent()
    for _ in range(3 * MOST):
        recent.add(PLAIN)
    assert len(recent.all()) == MOST
    large = msgspec.structs.replace(PLAIN, masks=(Mask("a", 9, 9, (1,) * 100_000),))
    for number in range(9):
        recent.add(msgspec.structs.replace(large, result_id=str(number)))
    assert [each.result_id for each in recent.all()[:2]] == ["8", "7"]
    assert sum(len(mask.counts) for each in recent.all() for mask in each.masks) <= 250_000


async def test_room_is_given_to_the_most_urgent_first_and_comes_back_whatever_happens() -> None:
    room, order = Room(100), list[str]()

    async def hold(name: str, wanted: int, priority: int, gate: asyncio.Event, seconds: float = 60.0) -> None:
        async with room.take(wanted, priority, seconds):
            order.append(name)
            await gate.wait()

    gate, late = asyncio.Event(), asyncio.Event()
    late.set()
    first = asyncio.create_task(hold("first", 1000, 2, gate))  # more than there is: all of it
    await wait_for(lambda: order)
    others = [asyncio.create_task(hold(name, 60, priority, late)) for name, priority in (("low", 3), ("b", 2), ("high", 0))]
    cancelled = asyncio.create_task(hold("cancelled", 60, 0, late))
    with pytest.raises(DeadlineError):
        await hold("impatient", 1, 0, late, 0.01)
    cancelled.cancel()
    gate.set()
    await asyncio.gather(first, *others)
    assert order == ["first", "high", "b", "low"]
    assert room.left == room.size
    gate = asyncio.Event()
    holder = asyncio.create_task(hold("holder", 100, 0, gate))
    await wait_for(lambda: room.left == 0)
    waiting = asyncio.create_task(hold("gone", 50, 0, late))
    await asyncio.sleep(0)
    holder.cancel()  # its room is handed out, and the one who gets it goes in the same instant
    await asyncio.gather(holder, return_exceptions=True)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert room.left == room.size


async def test_large_pictures_wait_as_they_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (1000, 1000), (255, 0, 0)).save(stream, "PNG")
    data = stream.getvalue()
    assert (area(data), area(b"words")) == (1_000_000, 0)
    monkeypatch.setattr(service, "DECODED", 7_000_000)
    async with running(Rig(tmp_path / "home")) as rig:
        await rig.serve("1")
        pipeline, held, most = rig.parts.pipeline, 0, 0
        decode, run = pipeline.decode, pipeline.run

        async def decoding(*wanted: Any) -> Any:
            nonlocal held, most
            held, most = held + 1, max(most, held + 1)
            return await decode(*wanted)

        async def running_(*wanted: Any, **more: Any) -> Any:
            nonlocal held
            try:
                return await run(*wanted, **more)
            finally:
                held -= 1

        monkeypatch.setattr(pipeline, "decode", decoding)
        monkeypatch.setattr(pipeline, "run", running_)
        asked = [rig.service.infer(data + bytes([number]), "a.png") for number in range(12)]
        assert {result.boxes[0].label for result in await asyncio.gather(*asked)} == {"red"}
        assert most == 2, "two of 3 MB each"
        assert (await rig.service.infer(picture(), "b.png")).boxes[0].label == "red"


def test_of_very_many_segments_the_surest_are_told() -> None:
    told = Manifest("m", "1", "audio", "MIT", [f"l{number}" for number in range(90)], [],
                    sound=SoundInput("x", 100, 100, 100), decode=manifests.Softmax("none"))  # fmt: skip
    task = task_for(told)
    prepared = task.prepare(Sound(np.zeros(100 * 100, np.float32), 100, "x"))
    values = np.random.default_rng(0).uniform(0, 1, (100, 1, 90)).astype(np.float32)
    found = task.finish([[row] for row in values], ("y",), prepared, 0.5).segments
    assert len(found) == 1000
    assert min(each.score for each in found) > 0.8
    assert [each.begin for each in found] == sorted(each.begin for each in found)


@pytest.mark.parametrize(
    ("task", "head", "outputs"),
    [
        ("detection", manifests.Yolov8(), [np.array([[[48.0], [32], [24], [16], [4.2], [0.1]]])]),
        ("detection", manifests.Yolov8(raw=True, bins=4, strides=(32,), logits=False), [np.full((1, 18, 2, 2), 3.0)]),
        ("classification", manifests.Softmax("none"), [np.array([[1.0, 9.0]])]),
        ("classification", manifests.Softmax("none"), [np.array([[0.5, -3.0]])]),
        ("detection", manifests.HailoNms(), [[np.array([[0.1, 0.1, 0.5, 0.5, 2.0]]), np.empty((0, 5))]]),
        ("pose", manifests.Heatmaps(stride=32), [np.full((1, 2, 2, 2), 5.0), np.zeros((1, 2, 2, 2)), np.zeros((1, 2, 2, 2))]),
    ],
)
def test_scores_that_are_no_probabilities_are_the_models_fault(task: str, head: Any, outputs: list[Any]) -> None:
    with pytest.raises(ModelError, match="no probabilities"):
        finish(manifest(task, head, labels=2, side=(64, 64)), outputs)


def test_scores_that_rounding_put_above_one_are_one() -> None:
    table = np.array([[[48.0], [32], [24], [16], [1.0039]]])
    assert finish(manifest("detection", manifests.Yolov8(), labels=1), [table])[0].boxes[0].score == 1.0


@pytest.mark.parametrize("most", [3, 5, 7])
def test_hailos_array_is_read_as_its_library_lays_it_also_where_five_boxes_are_the_most(most: int) -> None:
    table = np.zeros((1, 3, 5, most), np.float32)
    table[0, 1, :, 0] = 0.1, 0.2, 0.5, 0.6, 0.9
    found, _ = finish(manifest("detection", manifests.HailoNms()), [table])
    assert [(box.label, box.score) for box in found.boxes] == [("label 1", 0.9)]
    with pytest.raises(ModelError, match="five values"):
        finish(manifest("detection", manifests.HailoNms()), [[np.zeros((5, 3)), np.zeros((5, 10)), np.zeros((5, 5))]])
