"""Tasks of pictures against references that are written out value by value."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest

from appliance.core.inference import manifest as manifests
from appliance.core.inference.image import DecodedPicture
from appliance.core.inference.letterbox import fit_picture
from appliance.core.inference.manifest import Input, Manifest
from appliance.core.inference.model import Findings, Prepared, Sound
from appliance.core.inference.tasks import HEADS, task_for
from appliance.core.inference.tasks.masks import pixels, run_lengths
from appliance.errors import ImageError, ModelError
from tests.inference import references


def manifest(task: str, decode: Any, labels: int = 3, side: tuple[int, int] = (96, 64), **more: Any) -> Manifest:
    names = [f"label {index}" for index in range(labels)]
    wanted = more.pop("wanted", None) or Input("images", *side)
    return Manifest("model", "1", task, "MIT", names, [], input=wanted, decode=decode, **more)


def picture(wide: int = 200, tall: int = 150, seed: int = 1) -> DecodedPicture:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (tall // 10 + 1, wide // 10 + 1, 3), np.uint8)
    return DecodedPicture(cv2.resize(coarse, (wide, tall), interpolation=cv2.INTER_CUBIC), "x", wide, tall)


def finish(told: Manifest, outputs: list[Any], threshold: float = 0.3, names: tuple[str, ...] = (), kind: str = "onnx",
           shown: DecodedPicture | None = None) -> tuple[Findings, Prepared]:  # fmt: skip
    task = task_for(told, kind)
    prepared = task.prepare(shown or picture())
    return task.finish([outputs], names, prepared, threshold), prepared


def in_picture(rows: list[tuple[float, ...]], prepared: Prepared, wide: int = 200, tall: int = 150) -> list[tuple[float, ...]]:
    """Reference rows of the input (corners first) in the picture, cut."""
    fit = prepared.context.fit
    moved = [
        ((a - fit.left) / fit.scale, (b - fit.top) / fit.down, (c - fit.left) / fit.scale, (d - fit.top) / fit.down, *rest)
        for a, b, c, d, *rest in rows
    ]
    return [row for row in references.cut(moved, wide, tall) if row[2] > row[0] and row[3] > row[1]]


def assert_boxes(found: Findings, rows: list[tuple[float, ...]]) -> None:
    assert len(found.boxes) == len(rows) > 0
    for box, row in zip(found.boxes, rows, strict=True):
        assert box.label == f"label {int(row[5])}"
        np.testing.assert_allclose((box.x_min, box.y_min, box.x_max, box.y_max), row[:4], atol=0.06)
        assert box.score == pytest.approx(row[4], abs=2e-4)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (96, 64), (31, 500), (1, 1), (97, 64)])
def test_the_letterbox_is_ultralytics_own(size: tuple[int, int]) -> None:
    rgb = picture(*size).rgb
    tensor, fit = fit_picture(rgb, Input("images", 96, 64))
    expected, scale, left, top = references.padded(rgb, (96, 64), 114)
    assert expected.shape[:2] == (64, 96)
    np.testing.assert_allclose(tensor[0].transpose(1, 2, 0) * 255, expected, atol=1e-3)
    assert (fit.scale, fit.left, fit.top) == (scale, left, top)


@pytest.mark.parametrize("size", [(640, 480), (481, 640), (96, 96), (31, 500), (97, 64), (3, 2)])
def test_the_letterbox_of_darknet(size: tuple[int, int]) -> None:
    rgb = picture(*size).rgb
    tensor, fit = fit_picture(rgb, Input("images", 96, 96, grey=127, resample="corners"))
    expected, across, down = references.darknet_letterbox(rgb, 96)
    assert np.abs(tensor - expected).max() * 255 < 4.5, "sampled at 32nds of a pixel, and rounded"
    assert np.abs(tensor - expected).mean() * 255 < 0.6
    assert (fit.scale, fit.down) == (across / size[0], down / size[1])
    assert (fit.left, fit.top) == ((96 - across) / 2, (96 - down) / 2)
    assert fit_picture(rgb[:1, :1], Input("images", 96, 96, resample="corners"))[0].shape == (1, 3, 96, 96)


@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_every_input_is_the_formula_of_its_manifest(fit: Any, layout: Any, dtype: Any) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    wanted = Input("images", 96, 64, layout, "BGR", dtype, 255.0, mean, std, fit, grey=10, resample="antialias")
    plain, _ = fit_picture(
        picture().rgb, Input("images", 96, 64, "NHWC", dtype="uint8", fit=fit, grey=10, resample="antialias")
    )
    tensor, _ = fit_picture(picture().rgb, wanted)
    assert (tensor.dtype.name, tensor.flags.c_contiguous) == (dtype, True)
    rows = tensor[0].transpose(1, 2, 0) if layout == "NCHW" else tensor[0]
    expected = plain[0][..., ::-1]
    if dtype != "uint8":
        expected = (expected / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(rows, expected, atol=1e-5 if dtype == "float32" else 4e-3)


@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
def test_a_spot_is_where_the_fit_says(fit: Any) -> None:
    rgb = np.zeros((300, 500, 3), np.uint8)
    rgb[140:150, 260:270] = 255
    tensor, told = fit_picture(rgb, Input("images", 224, 160, fit=fit, grey=0, resample="antialias", crop_share=0.8))
    y, x = (np.average(np.arange(side) + 0.5, weights=tensor[0, 0].sum(axis)) for side, axis in ((160, 1), (224, 0)))
    assert (x - told.left) / told.scale == pytest.approx(265, abs=0.7)
    assert (y - told.top) / told.down == pytest.approx(145, abs=0.7)


def test_findings_are_in_pixels_of_the_whole_picture_though_a_reduced_one_was_looked_at() -> None:
    told = manifest("detection", manifests.Yolov8(), labels=1)
    table = np.array([[[48.0], [32], [24], [16], [0.9]]], np.float32)
    whole, _ = finish(told, [table], shown=DecodedPicture(np.zeros((150, 200, 3), np.uint8), "x", 200, 150))
    reduced, _ = finish(told, [table], shown=DecodedPicture(np.zeros((75, 100, 3), np.uint8), "x", 200, 150))
    assert whole.boxes[0].x_max - whole.boxes[0].x_min == pytest.approx(24 / (64 / 150), abs=0.1)
    assert reduced == whole


def test_yolov3_as_darknet_reads_it() -> None:
    anchors = [[(10.0, 14.0), (23.0, 27.0)], [(8.0, 8.0)]]
    rng = np.random.default_rng(5)
    maps = [rng.normal(-0.5, 2, (1, 2 * 8, 2, 2)).astype(np.float32), rng.normal(-0.5, 2, (1, 8, 4, 4)).astype(np.float32)]
    told = manifest("detection", manifests.Yolov3(anchors), side=(64, 64))
    found, _ = finish(told, maps, 0.3)
    rows = references.darknet_boxes(maps, anchors, 64, (64, 48), (200, 150), 0.3)
    assert_boxes(
        found,
        [
            row
            for row in references.cut(references.without_doubles(rows, 0.45), 200, 150)
            if row[2] > row[0] and row[3] > row[1]
        ],
    )


def joined(labels: int, extra: int, places: int = 300, seed: int = 7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (2, places))
    return np.concatenate(
        [low + 15, rng.uniform(5, 40, (2, places)), rng.uniform(0, 1, (labels, places)) ** 4, rng.normal(0, 1, (extra, places))]
    )[None].astype(np.float32)


@pytest.mark.parametrize("turned", [False, True])
def test_anchor_free_boxes(turned: bool) -> None:
    table = joined(3, 0, 150)
    found, prepared = finish(manifest("detection", manifests.Yolov8()), [table.transpose(0, 2, 1) if turned else table], 0.5)
    rows = references.without_doubles(references.yolov8_rows(table[0], 3, 0.5), 0.7)
    assert_boxes(found, in_picture(rows, prepared))


def test_poses_have_their_points_at_their_boxes() -> None:
    table = joined(1, 6, 40)
    head = manifests.Yolov8(keypoints=("nose", "tail"))
    found, prepared = finish(manifest("pose", head, labels=1), [table], 0.5)
    rows = in_picture(references.without_doubles(references.yolov8_rows(table[0], 1, 0.5), 0.7), prepared)
    assert_boxes(found, rows)
    fit = prepared.context.fit
    for pose, row in zip(found.poses, rows, strict=True):
        assert [point.name for point in pose.keypoints] == ["nose", "tail"]
        for point, (x, y, score) in zip(pose.keypoints, np.array(row[6:12]).reshape(2, 3), strict=True):
            assert (point.x, point.y) == pytest.approx(((x - fit.left) / fit.scale, (y - fit.top) / fit.down), abs=1e-3)
            assert point.score == pytest.approx(score, abs=1e-4)


def test_instances_are_the_prototypes_within_their_boxes() -> None:
    table, rng = joined(2, 4, 30), np.random.default_rng(3)
    prototypes = rng.normal(0, 1, (1, 4, 16, 24)).astype(np.float32)
    told = manifest("segmentation", manifests.Yolov8(masks=4), labels=2)
    found, prepared = finish(told, [table, prototypes], 0.5)
    fit = prepared.context.fit
    rows = in_picture(references.without_doubles(references.yolov8_rows(table[0], 2, 0.5), 0.7), prepared)
    assert_boxes(found, rows)
    wrong = 0
    for mask, row in zip(found.masks, rows, strict=True):
        plane = np.tensordot(np.array(row[6:10], np.float32), prototypes[0], 1)
        expected = np.zeros((150, 200), bool)
        for y in range(150):
            for x in range(200):
                if row[0] <= x + 0.5 < row[2] and row[1] <= y + 0.5 < row[3]:
                    at = ((x + 0.5) * fit.scale + fit.left) / 4, ((y + 0.5) * fit.down + fit.top) / 4
                    expected[y, x] = references.bilinear(plane, *at) > 0
        assert expected.any()
        wrong += int((pixels(mask) != expected).sum())
    assert wrong <= 5, "only values next to zero may round to the other side"


@pytest.mark.parametrize("form", ["joined", "split", "channels last"])
def test_raw_maps_with_distributions(form: str) -> None:
    rng, strides = np.random.default_rng(11), (16, 32)
    maps = [rng.normal(0, 1.5, (1, 4 * 8 + 2 + 3, 64 // s, 96 // s)).astype(np.float32) for s in strides]
    told = manifest("pose", manifests.Yolov8(raw=True, bins=8, strides=strides, keypoints=("nose",)), labels=2)
    outputs = maps
    if form != "joined":
        outputs = [part for each in maps for part in np.split(each, [32, 34], axis=1)][::-1]
    if form == "channels last":
        outputs = [each.transpose(0, 2, 3, 1) for each in outputs]
    found, prepared = finish(told, outputs, 0.7)
    table = references.raw_to_table(maps, strides, 8, 2, 1)
    rows = references.without_doubles(references.yolov8_rows(table, 2, 0.7), 0.7)
    assert_boxes(found, in_picture(rows, prepared))
    fit = prepared.context.fit
    nose, expected = found.poses[0].keypoints[0], in_picture(rows, prepared)[0][6:]
    assert (nose.x, nose.y) == pytest.approx(
        ((expected[0] - fit.left) / fit.scale, (expected[1] - fit.top) / fit.down), abs=1e-2
    )
    assert nose.score == pytest.approx(expected[2], abs=1e-4)


def by_class() -> list[np.ndarray]:
    return [
        np.array([[0.1, 0.2, 0.5, 0.6, 0.8], [0.1, 0.1, 0.2, 0.2, 0.2]], np.float32), np.empty((0, 5), np.float32),
        np.array([[0.0, 0.5, 1.0, 1.0, 0.9]], np.float32),
    ]  # fmt: skip


def padded_by_class(last: bool) -> np.ndarray:
    table = np.zeros((1, 3, 4, 5), np.float32)
    for index, rows in enumerate(by_class()):
        table[0, index, : len(rows)] = rows
    return table if last else table.transpose(0, 1, 3, 2)


@pytest.mark.parametrize("output", [by_class(), [by_class()], padded_by_class(True), padded_by_class(False)])
def test_hailos_boxes_by_class(output: Any) -> None:
    told = manifest("detection", manifests.Yolov8(), hef_decode=manifests.HailoNms())
    found, prepared = finish(told, [output], 0.3, kind="hef")
    rows = [(48.0, 0.0, 96.0, 64.0, 0.9, 2), (0.2 * 96, 0.1 * 64, 0.6 * 96, 0.5 * 64, 0.8, 0)]
    assert_boxes(found, in_picture(rows, prepared))
    tensor = prepared.batches[0]["images"]
    assert (tensor.shape, tensor.dtype) == ((1, 64, 96, 3), np.uint8)


def test_hailo_finds_nothing() -> None:
    told = manifest("detection", manifests.HailoNms())
    assert finish(told, [[np.empty((0, 5), np.float32)] * 3])[0] == Findings()
    assert finish(told, [[[], [], []]])[0] == Findings()


@pytest.mark.parametrize("named", [False, True])
def test_centerfaces_maps(named: bool) -> None:
    rng = np.random.default_rng(2)
    heat = (rng.uniform(0, 1, (1, 1, 16, 24)) ** 12).astype(np.float32)
    outputs = [heat, rng.uniform(0, 2, (1, 2, 16, 24)), rng.uniform(0, 1, (1, 2, 16, 24)), rng.uniform(0, 1, (1, 10, 16, 24))]
    names = ("lms", "off", "size", "heat") if named else ()
    points = ("a", "b", "c", "d", "e")
    head = manifests.Heatmaps(maps=("heat", "size", "off", "lms") if named else (), keypoints=points)
    found, prepared = finish(manifest("pose", head, labels=1), outputs[::-1] if named else outputs, 0.4, names)
    rows = references.without_doubles(references.centerface_rows(outputs, (64, 96), 0.4), 0.3)
    fit = prepared.context.fit
    assert_boxes(found, in_picture(rows, prepared))
    kept = in_picture(rows, prepared)
    for pose, row in zip(found.poses, kept, strict=True):
        expected = [((x - fit.left) / fit.scale, (y - fit.top) / fit.down) for x, y in np.array(row[6:]).reshape(5, 2)]
        np.testing.assert_allclose([(point.x, point.y) for point in pose.keypoints], expected, atol=0.06)
    assert finish(manifest("pose", head, labels=1), outputs[::-1] if named else outputs, 1.0, names)[0] == Findings()


def test_one_body_of_plain_points() -> None:
    table = np.array([[10, 20, 5, 4, 6], [50, 40, 5, 2, 9], [0, 0, 0, 0, 0]], np.float32)
    told = manifest("pose", manifests.Points(("nose", "hand")), labels=1)
    found, prepared = finish(told, [np.zeros((1, 1), np.float32), table.reshape(1, -1)])
    fit = prepared.context.fit
    nose, hand = found.poses[0].keypoints
    assert (nose.x, nose.y) == pytest.approx(((10 - fit.left) / fit.scale, 20 / fit.scale), abs=0.06)
    assert (nose.score, hand.score) == pytest.approx((references.logistic(4), references.logistic(2)), abs=1e-4)
    box = found.boxes[0]
    assert (box.x_min, box.y_max) == (max(nose.x, 0), hand.y)
    assert finish(told, [-table.reshape(1, -1)])[0] == Findings()


def test_the_best_labels_of_a_picture() -> None:
    values = np.array([[1.0, 3.0, 2.0]], np.float32)
    powers = np.exp(values[0]) / np.exp(values[0]).sum()
    found, _ = finish(manifest("classification", manifests.Softmax(top=2)), [values], 0.0)
    assert [each.label for each in found.classes] == ["label 1", "label 2"]
    assert [each.score for each in found.classes] == pytest.approx([powers[1], powers[2]], abs=1e-4)
    found, _ = finish(manifest("classification", manifests.Softmax("sigmoid")), [values[..., None, None]], 0.9)
    assert [(each.label, each.score) for each in found.classes] == [
        ("label 1", pytest.approx(references.logistic(3), abs=1e-4))
    ]


@pytest.mark.parametrize("last", [False, True])
def test_every_pixel_has_the_most_probable_label(last: bool) -> None:
    rng = np.random.default_rng(4)
    values = cv2.resize(rng.normal(0, 1, (4, 6, 3)).astype(np.float32), (24, 16)).transpose(2, 0, 1)[None]
    told = manifest("segmentation", manifests.Semantic())
    found, prepared = finish(told, [values.transpose(0, 2, 3, 1) if last else values])
    fit, wrong = prepared.context.fit, 0
    masks = {mask.label: pixels(mask) for mask in found.masks}
    for y in range(0, 150, 3):
        for x in range(0, 200, 3):
            at = ((x + 0.5) * fit.scale + fit.left) / 4, ((y + 0.5) * fit.down + fit.top) / 4
            best = max(range(3), key=lambda label: references.bilinear(values[0, label], *at))
            wrong += not masks[f"label {best}"][y, x]
    assert wrong == 0
    assert sum(mask.sum() for mask in masks.values()) == 150 * 200


def test_a_map_of_one_label_has_a_threshold() -> None:
    values = np.zeros((1, 16, 24), np.float32)
    values[:, 4:12, 6:18] = 0.8
    told = manifest("segmentation", manifests.Semantic(), labels=1)
    (mask,) = finish(told, [values], 0.5)[0].masks
    share = pixels(mask).mean()
    assert share == pytest.approx(8 * 4 / 64 * (12 * 4 / (64 / 150 * 200)), abs=0.02)
    assert finish(told, [values], 0.9)[0].masks == ()


def test_run_lengths_are_cocos() -> None:
    rng = np.random.default_rng(9)
    for _ in range(200):
        tall, wide = rng.integers(1, 9, 2)
        left, top = int(rng.integers(0, wide)), int(rng.integers(0, tall))
        part = rng.uniform(0, 1, (int(rng.integers(0, tall - top + 1)), int(rng.integers(0, wide - left + 1)))) < 0.6
        whole = np.zeros((tall, wide), bool)
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part
        assert list(run_lengths(part, left, top, int(wide), int(tall))) == references.runs(whole)


def test_an_embedding_has_the_length_one() -> None:
    values = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
    found, _ = finish(manifest("embedding", manifests.Vector(), labels=0), [values])
    np.testing.assert_allclose(found.embedding, np.arange(6) / np.linalg.norm(np.arange(6)), atol=1e-7)


HEADS_AND_OUTPUTS: list[tuple[str, Any, list[Any]]] = [
    ("detection", manifests.Yolov3([[(1.0, 2.0)]]), [np.zeros((1, 8, 2, 2))]),
    ("detection", manifests.Yolov8(), [np.zeros((1, 7, 5))]),
    ("segmentation", manifests.Yolov8(masks=2), [np.full((1, 9, 5), 0.5), np.zeros((1, 2, 4, 4))]),
    ("detection", manifests.Yolov8(raw=True, strides=(32,)), [np.zeros((1, 67, 2, 3))]),
    ("detection", manifests.HailoNms(), [[np.zeros((1, 5))] * 3]),
    ("pose", manifests.Heatmaps(), [np.zeros((1, 3, 16, 24)), np.zeros((1, 2, 16, 24)), np.zeros((1, 2, 16, 24))]),
    ("pose", manifests.Points(("nose",)), [np.zeros((1, 5))]),
    ("classification", manifests.Softmax(), [np.zeros((1, 3))]),
    ("segmentation", manifests.Semantic(), [np.zeros((1, 3, 4, 4))]),
    ("embedding", manifests.Vector(), [np.ones((1, 4))]),
]


@pytest.mark.parametrize(("task", "head", "outputs"), HEADS_AND_OUTPUTS)
def test_outputs_that_are_no_numbers_are_the_models_fault(task: str, head: Any, outputs: list[Any]) -> None:
    told = manifest(task, head)
    finish(told, outputs)
    for bad in (np.nan, np.inf):
        spoilt = [[each.copy() for each in output] if isinstance(output, list) else output.copy() for output in outputs]
        (spoilt[0][-1] if isinstance(spoilt[0], list) else spoilt[0]).reshape(-1)[-1] = bad
        with pytest.raises(ModelError, match="no numbers"):
            finish(told, spoilt)


@pytest.mark.parametrize(("task", "head", "outputs"), HEADS_AND_OUTPUTS[:-1])
def test_outputs_of_other_shapes_are_told_with_what_is_asked_for(task: str, head: Any, outputs: list[Any]) -> None:
    told = manifest(task, head)
    other = (
        manifest(task, head, labels=7)
        if not isinstance(head, manifests.Points)
        else manifest(task, manifests.Points(("a", "b")))
    )
    with pytest.raises(ModelError, match="ask") as caught:
        finish(other, outputs)
    assert caught.value.next_step
    ragged = [[np.zeros((2, 5)), np.zeros((0, 5)), np.zeros((1, 4))]]
    for wrong in (ragged, [], [np.zeros((2, 2), np.float32)], [np.zeros((), np.float32)], [np.array(["a", "b", "c"])]):
        with pytest.raises(ModelError):
            finish(told, wrong)


def test_a_head_that_does_not_fit_its_task_is_refused() -> None:
    heads = {type(head).__struct_config__.tag: head for _, head, _ in HEADS_AND_OUTPUTS} | {"activity": manifests.Stateful()}
    for task, fitting in HEADS.items():
        for tag, head in heads.items():
            if tag not in fitting:
                with pytest.raises(ModelError) as caught:
                    task_for(manifest(task, head))
                assert ", ".join(fitting) in caught.value.next_step
    bare = Manifest("model", "1", "detection", "MIT", ["a"], [], decode=manifests.Yolov8())
    with pytest.raises(ModelError, match=r"no \[input\]"):
        task_for(bare)
    with pytest.raises(ModelError, match="not one of pictures"):
        task_for(manifest("audio", manifests.Stateful()))


def test_naming_the_tasks_loads_nothing_heavy() -> None:
    names = "tasks", "image", "letterbox", "sound", "manifest", "model"
    code = f"import sys\nfrom appliance.core.inference import {', '.join(names)}\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert {"numpy", "PIL", "cv2", "simplejpeg", "soxr", "av", "onnxruntime"} & set(loaded) == set()
    assert "appliance.core.inference.tasks" in loaded


def test_what_is_no_picture_is_refused() -> None:
    task = task_for(manifest("detection", manifests.Yolov8()))
    for sample in (None, Sound(np.zeros(5, np.float32), 8000, "x"), DecodedPicture(np.zeros((4, 4), np.uint8), "x", 4, 4)):
        with pytest.raises(ImageError, match="none"):
            task.prepare(sample)
