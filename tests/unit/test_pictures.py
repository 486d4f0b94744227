"""Pictures: what is refused and why, what is taken, and that the arithmetic is right."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from appliance.core.inference import image, render
from appliance.core.inference import manifest as manifests
from appliance.core.inference.letterbox import letterbox
from appliance.core.inference.tasks import boxes as tasks_boxes
from appliance.core.inference.tasks import task_for, yolov3
from appliance.core.model import Box
from appliance.errors import ImageError, ModelError
from appliance.hw.onnx import OnnxAccelerator
from appliance.screens.glyphs import unsafe
from tests.support import capability

MODELS = Path(__file__).resolve().parents[2] / ".models"
LIMIT = 50_000_000


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    generator = np.random.default_rng(7)
    return Image.fromarray(generator.integers(0, 255, (size[1], size[0], 3), np.uint8)).convert(mode)


def bomb(side: int = 20_000) -> bytes:
    """A PNG of side × side pixels in some kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((side // 8 + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: b"", "is empty"),
        (lambda: b"just some words\n" * 50, "not a picture"),
        (lambda: encoded(noise(), "JPEG")[:900], "truncated"),
        (lambda: encoded(noise(), "PNG")[:2000], "truncated"),
        (bomb, "megapixels"),
        (lambda: bomb(9_000), "9000 x 9000"),
        (lambda: b"%PDF-1.7\n" + b"x" * 400, "not a picture"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(make: Callable[[], bytes], told: str) -> None:
    with pytest.raises(ImageError, match=told) as caught:
        image.decode(make(), "holiday.png", LIMIT)
    assert "holiday.png" in caught.value.message
    assert caught.value.next_step


def test_a_huge_picture_costs_no_memory() -> None:
    data = bomb()
    tracemalloc.start()
    with pytest.raises(ImageError):
        image.decode(data, "bomb.png", LIMIT)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_a_large_picture_is_reduced_to_what_is_enough_in_little_memory(form: str) -> None:
    mode = np.uint8 if form == "JPEG" else np.uint16
    data = encoded(Image.fromarray(np.full((3000, 5000), 200 if form == "JPEG" else 51_200, mode)), form)
    image.decode(encoded(noise(), "PNG"), "warm-up", LIMIT, 100)
    tracemalloc.start()
    picture = image.decode(data, "x", LIMIT, 300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (picture.width, picture.height) == (5000, 3000)
    assert 300 <= max(picture.rgb.shape) <= 700
    assert abs(picture.rgb.shape[1] / picture.rgb.shape[0] - 5 / 3) < 0.02
    assert abs(int(picture.rgb.min()) - 200) <= 1
    assert peak < 30_000_000, "a whole copy of the picture was made"


def test_all_pixels_are_the_same_whatever_the_band() -> None:
    tall = Image.fromarray(np.random.default_rng(1).integers(0, 255, (image.BAND * 2 + 7, 9, 3), np.uint8))
    for picture in (tall, tall.convert("P"), tall.convert("LA"), tall.convert("L")):
        rgb = image.decode(encoded(picture, "PNG"), "x", LIMIT).rgb
        assert (rgb == np.asarray(image.to_rgb(picture))).all()
    halved = image.decode(encoded(tall, "PNG"), "x", LIMIT, (image.BAND * 2 + 7) // 2).rgb
    assert (halved == np.asarray(tall.reduce(2))).all()


def test_a_turned_picture_is_reduced_and_keeps_its_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = image.decode(encoded(noise(size=(640, 480)), "JPEG", exif=exif), "x", LIMIT, 100)
    assert (picture.width, picture.height) == (480, 640)
    assert picture.rgb.shape[0] > picture.rgb.shape[1] >= 60


@pytest.mark.parametrize(
    "data",
    [
        encoded(noise("CMYK"), "JPEG"), encoded(noise("P"), "PNG"), encoded(noise("RGBA"), "PNG"), encoded(noise("L"), "PNG"),
        encoded(noise("LA"), "PNG"), encoded(noise("1"), "PNG"), encoded(noise(), "WEBP"), encoded(noise(), "BMP"),
        encoded(noise(), "GIF", save_all=True, append_images=[noise("L").convert("RGB")]),
        encoded(Image.fromarray(np.full((48, 64), 40_000, np.uint16)), "PNG"),
    ],
)  # fmt: skip
def test_every_kind_of_picture_becomes_rgb(data: bytes) -> None:
    rgb = image.decode(data, "x", LIMIT).rgb
    assert rgb.shape == (48, 64, 3)
    assert rgb.dtype == np.uint8
    assert rgb.max() > 100


def test_a_turned_photograph_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert image.decode(encoded(noise(), "JPEG", exif=exif), "x", LIMIT).rgb.shape == (64, 48, 3)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 2000)
    for name, told in (("nothing", "not there"), (".", "directory"), ("big", "limit")):
        with pytest.raises(ImageError, match=told):
            image.read_file(tmp_path / name, 1000)


@given(st.integers(1, 900), st.integers(1, 900))
def test_letterbox_keeps_proportions_and_inverts(wide: int, tall: int) -> None:
    tensor, fit = letterbox(np.full((tall, wide, 3), 255, np.uint8), 416, 416, 255.0)
    assert tensor.shape == (1, 3, 416, 416)
    assert 0 <= fit.left < 416
    assert 0 <= fit.top < 416
    inner = tensor[0, 0] > 0.9
    assert abs(inner.any(axis=0).sum() - max(1, round(wide * fit.scale))) <= 1
    assert abs(inner.any(axis=1).sum() - max(1, round(tall * fit.scale))) <= 1


def slow_decode(head: np.ndarray, anchors: list[tuple[float, float]], size: int, least: float) -> list[tuple[float, ...]]:
    """The formulas of the paper, one cell at a time."""

    def s(x: float) -> float:
        return 1 / (1 + np.exp(-x))

    found = []
    rows, columns = head.shape[2:]
    for index, (width, height) in enumerate(anchors):
        cells = head[0].reshape(len(anchors), -1, rows, columns)[index]
        for y in range(rows):
            for x in range(columns):
                for label in range(cells.shape[0] - 5):
                    score = s(cells[4, y, x]) * s(cells[5 + label, y, x])
                    if score >= least:
                        cx, cy = (s(cells[0, y, x]) + x) / columns * size, (s(cells[1, y, x]) + y) / rows * size
                        w, h = np.exp(cells[2, y, x]) * width, np.exp(cells[3, y, x]) * height
                        found.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, label))
    return sorted(found)


def test_decoding_equals_the_formulas() -> None:
    generator = np.random.default_rng(3)
    maps = [generator.normal(0, 2, (1, 3 * 9, side, side)).astype(np.float32) for side in (5, 10)]
    anchors = [[(10.0, 14.0), (23.0, 27.0), (37.0, 58.0)], [(81.0, 82.0), (135.0, 169.0), (344.0, 319.0)]]
    boxes, scores, classes = yolov3.decode(maps, anchors, (320, 320), 0.4)
    ours = sorted(
        (*map(float, box), float(score), int(label)) for box, score, label in zip(boxes, scores, classes, strict=True)
    )
    reference = sorted(each for head, pairs in zip(maps, anchors, strict=True) for each in slow_decode(head, pairs, 320, 0.4))
    assert len(ours) == len(reference) > 50
    np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-3)


@given(
    st.lists(st.tuples(*[st.floats(0, 100)] * 2, *[st.floats(1, 50)] * 2, st.floats(0.01, 1), st.integers(0, 2)), max_size=30)
)
def test_suppression_keeps_no_double_and_loses_no_single(raw: list[tuple[float, float, float, float, float, int]]) -> None:
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h, _, _ in raw]).reshape(-1, 4)
    scores, classes = np.array([each[4] for each in raw]), np.array([each[5] for each in raw], int)
    order = np.argsort(-scores, kind="stable")
    kept = order[tasks_boxes.suppress(boxes[order], classes[order], 0.5, len(order))].tolist()

    def overlap(a: int, b: int) -> float:
        low, high = np.maximum(boxes[a, :2], boxes[b, :2]), np.minimum(boxes[a, 2:], boxes[b, 2:])
        shared = float(np.prod(np.maximum(high - low, 0)))
        return shared / (float(np.prod(boxes[a, 2:] - boxes[a, :2]) + np.prod(boxes[b, 2:] - boxes[b, :2])) - shared)

    for place, one in enumerate(kept):
        assert all(classes[one] != classes[other] or overlap(one, other) <= 0.5 + 1e-9 for other in kept[:place])
    for lost in set(range(len(raw))) - set(kept):
        assert any(
            classes[lost] == classes[one] and scores[one] >= scores[lost] and overlap(one, lost) > 0.5 - 1e-9 for one in kept
        )


def test_real_photographs_show_the_obvious() -> None:
    capability((MODELS / "yolov3-tiny-coco/manifest.toml").exists(), "the model (make setup)")
    capability((MODELS / "samples/bus.jpg").exists(), "the photographs (make setup)")
    directory = MODELS / "yolov3-tiny-coco"
    told = manifests.load(directory)
    task, ready = task_for(told), OnnxAccelerator(2).load(str(manifests.verify(told, directory)))
    names = tuple(spec.name for spec in ready.outputs)
    wanted = {"bus.jpg": {"person"}, "zidane.jpg": {"person"}, "coffee.png": {"cup"}, "motorcycle_left.png": {"motorbike"}}
    for name, labels in wanted.items():
        picture = image.decode((MODELS / "samples" / name).read_bytes(), name, LIMIT)
        prepared = task.prepare(picture)
        boxes = task.finish([ready.infer(prepared.batches[0])], names, prepared, 0.3).boxes
        assert labels <= {box.label for box in boxes}, name
        tall, wide = picture.rgb.shape[:2]
        assert all(0 <= box.x_min < box.x_max <= wide and 0 <= box.y_min < box.y_max <= tall for box in boxes)
    ready.close()


def test_a_model_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path) -> None:
    capability((MODELS / "yolov3-tiny-coco/manifest.toml").exists(), "the model (make setup)")
    source = MODELS / "yolov3-tiny-coco"
    copy = tmp_path / "m"
    copy.mkdir()
    (copy / "manifest.toml").write_text((source / "manifest.toml").read_text())
    told = manifests.load(copy)
    with pytest.raises(ModelError, match="cannot be read"):
        manifests.verify(told, copy)
    (copy / "yolov3-tiny-coco.onnx").write_bytes((source / "yolov3-tiny-coco.onnx").read_bytes()[:1_000_000])
    with pytest.raises(ModelError, match="SHA-256"):
        manifests.verify(told, copy)
    with pytest.raises(ModelError, match="no file of kind hef"):
        manifests.verify(told, copy, "hef")
    (copy / "manifest.toml").write_text("name = 1")
    with pytest.raises(ModelError, match="not a model manifest"):
        manifests.load(copy)


def test_drawings_fit_and_keep_to_the_console() -> None:
    rgb = image.decode(encoded(noise(size=(300, 200)), "PNG"), "x", LIMIT).rgb
    boxes = (Box("person", 0.91, 20, 30, 200, 180), Box("cup", 0.5, 250, 150, 300, 200))
    for columns, rows in ((80, 24), (1, 1), (500, 3), (7, 90)):
        for paint in (render.half_blocks, render.console):
            cells = paint(rgb, boxes, columns, rows)
            assert 1 <= len(cells) <= rows
            assert all(1 <= len(row) <= columns for row in cells)
    drawn = render.console(rgb, boxes, 60, 20)
    assert unsafe("".join(char for row in drawn for char, _, _ in row)) == set()
    assert "person 0.91" in "".join(char for row in drawn for char, _, _ in row)
    assert render.kitty(rgb, boxes, 20, 10).startswith("\x1b_Ga=T,f=100,")
    sixel = render.sixel(rgb, boxes, 20, 10)
    assert sixel.startswith("\x1bPq")
    assert sixel.endswith("\x1b\\")
