"""Pictures as the world has them: damaged, huge, moving, turned, printed, deep; each is read right or refused with a reason."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from appliance.core.inference import image
from appliance.core.inference.manifest import Input, Manifest, Yolov8
from appliance.core.inference.model import Task
from appliance.core.inference.tasks import task_for
from appliance.errors import ImageError

LIMIT = 50_000_000
ORIENTATION = 0x0112


def scene(size: tuple[int, int] = (97, 61)) -> Image.Image:
    coarse = np.random.default_rng(1).integers(0, 255, (7, 11, 3), np.uint8)
    return Image.fromarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    target = io.BytesIO()
    picture.save(target, form, **options)
    return target.getvalue()


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


@pytest.fixture(scope="module")
def task() -> Task:
    return task_for(Manifest("m", "1", "detection", "MIT", ["x"], [], input=Input("images", 64, 64), decode=Yolov8()))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("options", [{"quality": 30}, {"quality": 95}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_the_quick_way_gives_pillows_pixels(subsampling: str, options: dict[str, object]) -> None:
    data = encoded(scene((641, 479)), "JPEG", subsampling=subsampling, **options)
    np.testing.assert_array_equal(image.decode(data, "x", LIMIT).rgb, pillow(data))


def test_a_grey_jpeg_and_one_that_is_stored_as_rgb() -> None:
    for data in (encoded(scene().convert("L"), "JPEG"), encoded(scene(), "JPEG", keep_rgb=True)):
        np.testing.assert_array_equal(image.decode(data, "x", LIMIT).rgb, pillow(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_is_set_upright(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(scene(), form, exif=exif)
    told = image.decode(data, "x", LIMIT)
    np.testing.assert_array_equal(told.rgb, pillow(data))
    assert told.rgb.flags.c_contiguous
    assert (told.width, told.height) == (told.rgb.shape[1], told.rgb.shape[0]) == ((61, 97) if orientation > 4 else (97, 61))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40])
def test_a_damaged_or_unknown_orientation_changes_nothing(exif: bytes) -> None:
    plain = encoded(scene(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    told = image.decode(plain[:2] + segment + plain[2:], "x", LIMIT)
    np.testing.assert_array_equal(told.rgb, pillow(plain))
    odd = Image.Exif()
    odd[ORIENTATION] = 77
    np.testing.assert_array_equal(image.decode(encoded(scene(), "JPEG", exif=odd), "x", LIMIT).rgb, pillow(plain))


def test_cmyk_is_read_as_pillow_reads_it() -> None:
    data = encoded(scene().convert("CMYK"), "JPEG")
    np.testing.assert_array_equal(image.decode(data, "x", LIMIT).rgb, pillow(data))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_a_moving_picture_the_first_frame_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    options = {"lossless": True} if form == "WEBP" else {}
    rgb = image.decode(encoded(frames[0], form, save_all=True, append_images=frames[1:], **options), "x", LIMIT).rgb
    assert np.abs(rgb.astype(int) - (200, 0, 0)).max() <= 2


def deep_png() -> bytes:
    """16 bits for each of red, green and blue, from dark to light."""
    rows = b"".join(
        b"\0" + b"".join(struct.pack(">HHH", x * 1000, 65535 - x * 1000, 40000) for x in range(64)) for _ in range(8)
    )

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 64, 8, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_become_eight() -> None:
    rgb = image.decode(deep_png(), "x", LIMIT).rgb
    expected = np.stack([np.arange(64) * 1000 / 257, (65535 - np.arange(64) * 1000) / 257, np.full(64, 40000 / 257)], 1)
    assert np.abs(rgb[3] - expected).max() <= 1.5
    for form in ("PNG", "TIFF"):
        grey = Image.fromarray((np.arange(64 * 8, dtype=np.uint16) * 128).reshape(8, 64))
        rgb = image.decode(encoded(grey, form), "x", LIMIT).rgb
        np.testing.assert_array_equal(rgb[..., 0], (np.arange(512) * 128 >> 8).reshape(8, 64))


def attempt(data: bytes) -> tuple[image.DecodedPicture | None, str]:
    """The picture, or the words of the refusal; any other exception is a fault."""
    try:
        return image.decode(data, "holiday", LIMIT), ""
    except ImageError as error:
        return None, str(error)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_cut_off_anywhere_it_is_refused_or_read_but_never_worse(form: str, task: Task) -> None:
    whole = encoded(scene(), form)
    refused = 0
    for share in np.linspace(0, 0.97, 30):
        read, refusal = attempt(whole[: int(len(whole) * share)])
        if read is not None:
            assert task.prepare(read).batches[0]["images"].shape == (1, 3, 64, 64)
        else:
            refused += 1
            assert "holiday" in refusal
    assert refused >= 25


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damaged_bytes_are_refused_or_read_but_never_worse(form: str, task: Task) -> None:
    whole, rng = encoded(scene(), form), np.random.default_rng(3)
    for _ in range(60):
        spoilt = bytearray(whole)
        for place in rng.integers(0, len(whole), 8):
            spoilt[place] = int(rng.integers(0, 256))
        read, refusal = attempt(bytes(spoilt))
        assert "holiday" in refusal if read is None else np.isfinite(task.prepare(read).batches[0]["images"]).all()


def huge_jpeg(wide: int, tall: int) -> bytes:
    """A small JPEG whose header says that it is a huge one."""
    data = bytearray(encoded(scene(), "JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", tall, wide)
    return bytes(data)


@pytest.mark.parametrize(("wide", "tall"), [(60_000, 60_000), (9_000, 9_000)])
def test_a_bomb_is_refused_before_memory_is_taken(wide: int, tall: int) -> None:
    data = huge_jpeg(wide, tall)
    tracemalloc.start()
    with pytest.raises(ImageError, match="megapixels"):
        image.decode(data, "bomb.jpg", LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0" + b"\0" * 500, b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\0" * 9000]
)
def test_what_only_begins_like_a_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        image.decode(data, "x.jpg", LIMIT)
    assert caught.value.next_step


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (2, 3)])
def test_the_smallest_pictures_have_their_place(size: tuple[int, int], task: Task) -> None:
    for form in ("JPEG", "PNG"):
        prepared = task.prepare(image.decode(encoded(scene((97, 61)).resize(size), form), "x", LIMIT))
        tensor = prepared.batches[0]["images"]
        table = np.array([[32.0], [32], [64], [64], [0.9]], np.float32)[None]
        (box,) = task.finish([[table]], ("output0",), prepared, 0.5).boxes
        assert (box.x_min, box.y_min, box.x_max, box.y_max) == (0, 0, *size)
        assert tensor.min() >= 0
        assert tensor.max() <= 1


def test_many_threads_decode_at_once_and_get_their_own_pictures() -> None:
    pictures = [encoded(scene((200 + index, 100 + index)), "JPEG") for index in range(12)]
    expected = [pillow(data) for data in pictures]
    with ThreadPoolExecutor(6) as pool:
        for index, told in enumerate(pool.map(lambda data: image.decode(data, "x", LIMIT), pictures * 5)):
            np.testing.assert_array_equal(told.rgb, expected[index % 12])
