"""The inference service with the real model: bounded, honest about failures, and unharmed by bad pictures."""

from __future__ import annotations

import asyncio
import io
import random
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from appliance.core.actions import Invocation
from appliance.core.analytics.duck import DuckStore
from appliance.core.catalog.inference import Limit, Pictures, Preview, inference_actions
from appliance.core.clock import SystemClock
from appliance.core.events import InferenceCompleted
from appliance.core.inference import image
from appliance.core.inference import manifest as manifests
from appliance.core.inference import preview as preview_module
from appliance.core.inference.build import Ground, build
from appliance.core.inference.image import DecodedPicture
from appliance.core.inference.letterbox import letterbox
from appliance.core.inference.recent import Recent
from appliance.core.inference.status import InferenceStatus
from appliance.core.inference.tasks.boxes import suppress
from appliance.core.inference.tasks.yolov3 import decode
from appliance.core.jobs import Jobs
from appliance.core.model import Actor, Health, InferenceResult, Role, Severity
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.errors import AbsentError, DiskFullError, ImageError, ModelError, NotFoundError, QueueFullError
from appliance.hw.onnx import OnnxAccelerator
from appliance.settings import Settings
from tests.support import ManualClock, capability

MODELS = Path(__file__).resolve().parents[2] / ".models"
MODEL = "yolov3-tiny-coco"


class Bench:
    """A service that keeps its results in a list."""

    def __init__(self, *directories: Path, model: str = "") -> None:
        self.kept: list[InferenceResult] = []
        self.full = False
        self.state = LiveState(ManualClock())
        self.home = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.home.name) / "state.sqlite")
        wanted = {"threads": 1, "model": model, "max_file_mib": 2, "max_megapixels": 1, "queue": 16}
        ground = Ground(
            settings=Settings.model_validate({"inference": wanted}), accelerators=[OnnxAccelerator(1)],
            models=Path(self.home.name) / "models", remote=None, store=self.store, state=self.state, clock=SystemClock(),
            note=self._note, on_result=self._keep,
        )  # fmt: skip
        self.service = build(ground)
        self.service.parts.registry.setup.shelf.places[:] = list(directories)

    async def start(self) -> None:
        self.store.open()
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()
        self.store.close()

    async def _note(self, event: str, severity: Severity, facts: dict[str, Any]) -> None:
        assert event

    async def _keep(self, result: InferenceResult) -> None:
        if self.full:
            raise DiskFullError("No room.", "make some.")
        self.kept.append(result)

    @property
    def stats(self) -> InferenceStatus:
        self.service.show()
        found = self.state.get(Section.inference).value
        assert isinstance(found, InferenceStatus)
        return found


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A running service on a copy of the model, which a test may spoil."""
    capability((MODELS / MODEL / "manifest.toml").exists(), "the model (make setup)")
    (tmp_path / MODEL).mkdir()
    for file in (MODELS / MODEL).iterdir():
        (tmp_path / MODEL / file.name).symlink_to(file)
    bench = Bench(tmp_path)
    await bench.start()
    yield bench
    await bench.stop()


def photograph(name: str = "bus.jpg") -> Path:
    capability((MODELS / "samples" / name).exists(), "the photographs (make setup)")
    return MODELS / "samples" / name


def png(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "PNG")
    return stream.getvalue()


async def test_a_photograph_is_kept_before_it_is_told(bench: Bench) -> None:
    result = await bench.service.infer_file(photograph())
    assert bench.kept == [result]
    assert [box.label for box in result.boxes] == ["person"] * 4
    assert result.total_time_ms >= result.inference_time_ms > 0
    assert (bench.stats.total, bench.stats.errors, bench.stats.error_rate) == (1, 0, 0.0)
    assert bench.stats.p50_ms == bench.stats.p95_ms == result.total_time_ms


@pytest.mark.parametrize("threshold", [0.05, 0.3])
def test_the_boxes_that_stay_are_those_that_opencv_keeps(threshold: float) -> None:
    """Held against another implementation, on the model's raw boxes of every sample picture."""
    capability((MODELS / MODEL / "manifest.toml").exists(), "the model (make setup)")
    wanted = manifests.load(MODELS / MODEL)
    model, seen = OnnxAccelerator(1).load(str(manifests.verify(wanted, MODELS / MODEL))), 0
    overlap, size = wanted.decode.overlap, (wanted.input.width, wanted.input.height)
    for path in [photograph(), *(MODELS / "samples").glob("*.png")]:
        tensor, _ = letterbox(image.decode(path.read_bytes(), path.name, 10**8).rgb, *size, wanted.input.scale)
        boxes, scores, classes = decode(model.infer({wanted.input.name: tensor}), wanted.decode.layers, size, threshold)
        sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        rows = (sides.tolist(), scores.tolist(), classes.tolist())
        kept = cv2.dnn.NMSBoxesBatched(*rows, threshold, overlap) if len(scores) else []
        order = np.argsort(-scores, kind="stable")
        stay = order[suppress(boxes[order], classes[order], overlap, len(order))].tolist()
        assert sorted(stay) == sorted(int(index) for index in kept), path.name
        seen += len(scores) - len(kept)
    assert seen, "no double boxes to suppress"
    model.close()


async def test_a_manifest_may_set_the_overlap(bench: Bench, tmp_path: Path) -> None:
    manifest = tmp_path / MODEL / "manifest.toml"
    text = "\n".join(line for line in manifest.read_text().split("\n") if not line.startswith("overlap"))
    manifest.unlink()
    for overlap, people in ((0.45, 4), (0.2, 3)):
        manifest.write_text(text.replace("[decode]", f"[decode]\noverlap = {overlap}"))
        await bench.service.stop()
        bench.service.parts.cache.clear()
        await bench.service.start()
        result = await bench.service.infer_file(photograph())
        assert [box.label for box in result.boxes].count("person") == people
    manifest.write_text(text.replace("[decode]", "[decode]\noverlap = 45"))
    with pytest.raises(ModelError, match="overlap"):
        manifests.load(tmp_path / MODEL)


async def test_a_result_that_cannot_be_kept_is_not_told(bench: Bench) -> None:
    bench.full = True
    with pytest.raises(DiskFullError):
        await bench.service.infer(png(), "x.png")
    assert (bench.stats.total, bench.stats.p50_ms) == (0, None)
    bench.full = False
    await bench.service.infer(png(), "x.png")
    assert bench.stats.total == 1


async def test_bad_pictures_are_no_failures_of_the_model(bench: Bench, tmp_path: Path) -> None:
    for data, told in ((b"", "is empty"), (b"words " * 99, "not a picture"), (png(size=(2000, 1000)), "2000 x 1000")):
        with pytest.raises(ImageError, match=told):
            await bench.service.infer(data, "x.png")
    (tmp_path / "big.png").write_bytes(b"x" * (2 * 2**20 + 1))
    with pytest.raises(ImageError, match="the limit is 2 MiB"):
        await bench.service.infer_file(tmp_path / "big.png")
    assert (bench.stats.errors, bench.stats.error_rate, bench.stats.refused) == (0, None, 4)
    assert (await bench.service.health()).details["refused"] == 4
    assert (await bench.service.health()).health is Health.healthy
    assert bench.kept == []


async def test_too_many_at_once_are_refused_and_the_others_are_done(bench: Bench) -> None:
    waiting = bench.service.parts.limits.waiting
    done = await asyncio.gather(
        *(bench.service.infer(png(size=(64, 48 + index)), f"{index}.png") for index in range(waiting + 6)),
        return_exceptions=True,
    )
    refused = [each for each in done if isinstance(each, QueueFullError)]
    assert len(refused) == 6
    assert "wait already" in str(refused[0])
    assert {result.source for result in bench.kept} == {f"{index}.png" for index in range(waiting)}
    assert bench.stats.refused == 6
    await bench.service.infer(png(), "after.png")


async def test_a_spoilt_model_is_unhealthy_until_it_is_mended(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / MODEL / f"{MODEL}.onnx"
    file.unlink()
    file.write_bytes(b"spoilt")
    with pytest.raises(ModelError, match="SHA-256"):
        await bench.service.infer(png(), "x.png")
    report = await bench.service.health()
    assert report.health is Health.unhealthy
    assert report.next_step
    assert (bench.stats.errors, bench.stats.error_rate) == (1, 1.0)
    shutil.copyfile(MODELS / MODEL / f"{MODEL}.onnx", file)
    await bench.service.infer(png(), "x.png")
    assert (await bench.service.health()).health is Health.healthy
    assert bench.stats.error_rate == 0.5


async def test_no_model_is_absent_and_a_wrong_name_is_told(tmp_path: Path) -> None:
    empty = Bench(tmp_path)
    await empty.start()
    report = await empty.service.health()
    assert (report.health, "model add" in report.next_step) == (Health.absent, True)
    with pytest.raises(AbsentError, match="No model"):
        await empty.service.infer(png(), "x.png")
    await empty.stop()
    with pytest.raises(AbsentError, match="does not run"):
        await empty.service.infer(png(), "x.png")
    capability((MODELS / MODEL / "manifest.toml").exists(), "the model (make setup)")
    wrong = Bench(MODELS, model="other")
    await wrong.start()
    with pytest.raises(ModelError, match=MODEL):
        await wrong.service.infer(png(), "x.png")
    assert (await wrong.service.health()).health is Health.unhealthy
    await wrong.stop()


async def test_a_broken_manifest_is_listed_with_its_fault(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "zzz").mkdir()
    (tmp_path / "zzz" / "manifest.toml").write_text("name = 1")
    await bench.service.parts.registry.scan()
    good, bad = bench.stats.models
    assert (good.name, good.active, good.error) == (MODEL, True, "")
    assert (bad.active, "not a model manifest" in bad.error) == (False, True)


async def test_a_broken_model_disables_no_other(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "aaa").mkdir()
    (tmp_path / "aaa" / "manifest.toml").write_text("x=")
    for wanted in (MODEL, ""):
        other = Bench(tmp_path, model=wanted)
        await other.start()
        assert (await other.service.infer(png(), "x.png")).model == MODEL
        await other.stop()
    other = Bench(tmp_path, model="other")
    await other.start()
    with pytest.raises(ModelError, match=r"'other'; there are: yolov3-tiny-coco; .*aaa.* is not a model manifest"):
        await other.service.infer(png(), "x.png")
    await other.stop()
    shutil.rmtree(tmp_path / MODEL)
    other = Bench(tmp_path)
    await other.start()
    with pytest.raises(ModelError, match=r"No model can be used; there are: none; .*aaa"):
        await other.service.infer(png(), "x.png")
    await other.stop()


async def test_the_preview_draws_on_no_other_picture_of_the_same_size(bench: Bench, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    picture.write_bytes(png())
    result = await bench.service.infer_file(picture)
    assert (await bench.service.preview(result, 20, 8, "half-blocks"))["rows"]
    told = InferenceCompleted.of(result).to_result()
    assert told == result
    Image.new("RGB", (64, 48), (0, 0, 255)).save(picture)
    for mode in ("half-blocks", "console", "kitty", "sixel"):
        with pytest.raises(ImageError, match="another picture"):
            await bench.service.preview(told, 20, 8, mode)
    picture.unlink()
    with pytest.raises(ImageError, match="not there"):
        await bench.service.preview(told, 20, 8, "console")


async def test_a_preview_of_a_large_picture_has_its_boxes_where_they_were(bench: Bench, tmp_path: Path) -> None:
    result = await bench.service.infer_file(photograph())
    box = max(result.boxes, key=lambda box: box.score)
    cells = (await bench.service.preview(result, 60, 40, "half-blocks"))["rows"]
    row, column = int(box.y_min / result.height * len(cells)), int(box.x_min / result.width * len(cells[0]))
    caption = "".join(char for char, _, _ in cells[row][column : column + 4])
    assert caption == box.label[:4]


async def test_many_previews_are_drawn_one_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    result = await bench.service.infer_file(photograph())
    at_once, most, real = 0, 0, preview_module.decode

    def counted(*args: Any) -> DecodedPicture:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            return real(*args)
        finally:
            at_once -= 1

    monkeypatch.setattr(preview_module, "decode", counted)
    looks = [asyncio.create_task(bench.service.preview(result, 40, 12, "console")) for _ in range(8)]
    await asyncio.sleep(0)
    for look in looks[2:5]:
        look.cancel()  # whoever moved on
    done = await asyncio.gather(*looks, return_exceptions=True)
    assert most == 1
    assert sum(isinstance(each, dict) for each in done) == 5


async def test_a_preview_is_found_by_its_id_without_reading_all(bench: Bench, tmp_path: Path) -> None:
    class Counting(DuckStore):
        listed = 0

        def results(self, limit: int = 50) -> list[InferenceResult]:
            self.listed += 1
            return super().results(limit)

    duck = Counting(tmp_path / "a.duckdb", "pc")
    duck.open()
    store = Store(tmp_path / "state.sqlite")
    jobs = Jobs(store, bench.state, ManualClock())
    preview = next(
        a for a in inference_actions(bench.service, jobs, bench.state, duck, lambda: 0) if a.name == "inference.preview"
    )  # fmt: skip
    result = await bench.service.infer_file(photograph())
    duck.add_events("outbox", [(1, InferenceCompleted.of(result))])
    bench.service._recent = Recent()  # as after a restart
    call = Invocation(Actor("ada", Role.viewer, "ssh"), "inference.preview", "1")
    args = {"columns": 40, "rows": 12, "mode": "console"}
    assert (await preview.handler(call, Preview(result_id=result.result_id, **args)))["rows"]
    for unknown in ("0190a8e4-0000-7000-8000-000000000001", "no id"):
        with pytest.raises(NotFoundError):
            await preview.handler(call, Preview(result_id=unknown, **args))
    assert duck.listed == 0
    duck.close()


async def test_a_result_is_drawn_and_listed_before_the_journal_has_brought_it_to_disk(bench: Bench, tmp_path: Path) -> None:
    duck, clock = DuckStore(tmp_path / "a.duckdb", "pc"), ManualClock()
    duck.open()
    actions = {
        a.name: a
        for a in inference_actions(bench.service, Jobs(Store(tmp_path / "s"), bench.state, clock), bench.state, duck, lambda: 0)
    }
    call = Invocation(Actor("ada", Role.viewer, "ssh"), "inference.preview", "1")
    first = await bench.service.infer_file(photograph())
    wanted = Preview(result_id=first.result_id, columns=40, rows=12, mode="console")
    assert (await actions["inference.preview"].handler(call, wanted))["rows"]
    duck.add_events("outbox", [(1, InferenceCompleted.of(first))])
    second = await bench.service.infer(png(), "x.png")

    async def listed(limit: int) -> list[str]:
        found = await actions["inference.results"].handler(call, Limit(limit=limit))
        return [result.result_id for result in found]

    assert await listed(9) == [second.result_id, first.result_id]  # the first, which is in both places, once
    assert await listed(1) == [second.result_id]
    duck.close()


@pytest.mark.parametrize(
    ("names", "state", "message", "error"),
    [
        (["a.png", "words"], "completed", "1 of 2 refused", ""),
        (["words", "none"], "failed", "2 of 2 refused", "2 of 2 refused: .*words is not a picture.* Next: "),
        (["words"], "failed", "1 of 1 refused", ".*/words is not a picture.* Next: "),
        (["a.png"], "completed", "1 file", ""),
    ],
)
async def test_a_job_says_what_was_refused_and_its_end_is_an_event(
    bench: Bench, tmp_path: Path, names: list[str], state: str, message: str, error: str
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "words").write_bytes(b"words " * 99)
    store, events = Store(tmp_path / "state.sqlite"), list[dict[str, object]]()
    store.open()
    jobs = Jobs(store, bench.state, ManualClock())

    async def note(event: str, facts: dict[str, object]) -> None:
        events.append({"event": event, **facts})
        raise DiskFullError("No room.", "make some.")  # it is told in the log, and harms no job

    jobs.on_end = note
    duck = DuckStore(tmp_path / "a.duckdb", "pc")
    run = next(a for a in inference_actions(bench.service, jobs, bench.state, duck, lambda: 0) if a.name == "inference.run")
    call = Invocation(Actor("ada", Role.operator, "ssh"), "inference.run", "1")
    job = await run.handler(call, Pictures(paths=[str(tmp_path / name) for name in names]))
    done = await jobs.wait(job.job_id)
    assert (done.state.value, done.message) == (state, message)
    assert re.fullmatch(error + ".*" * bool(error), done.error), done.error
    assert [("error" in outcome, Path(outcome["path"]).name) for outcome in done.result] == [(n != "a.png", n) for n in names]
    facts = {"name": done.name, "owner": "ada", "state": state, "message": message, "error": done.error}
    assert events == [{"event": "job.ended", "job_id": job.job_id, **facts}]
    await asyncio.to_thread(store.close)


async def test_a_model_that_fails_refuses_nothing(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    file = tmp_path / MODEL / f"{MODEL}.onnx"
    file.unlink()
    file.write_bytes(b"spoilt")
    store = Store(tmp_path / "state.sqlite")
    store.open()
    jobs = Jobs(store, bench.state, ManualClock())
    duck = DuckStore(tmp_path / "a.duckdb", "pc")
    run = next(a for a in inference_actions(bench.service, jobs, bench.state, duck, lambda: 0) if a.name == "inference.run")
    call = Invocation(Actor("ada", Role.operator, "ssh"), "inference.run", "1")
    job = await run.handler(call, Pictures(paths=[str(tmp_path / name) for name in ("a.png", "none")]))
    done = await jobs.wait(job.job_id)
    assert (done.state.value, done.message) == ("failed", "1 of 2 refused, 1 of 2 failed")
    assert (bench.stats.errors, bench.stats.refused) == (1, 1)
    await asyncio.to_thread(store.close)


def seeds() -> list[bytes]:
    generator = np.random.default_rng(5)
    plain = Image.fromarray(generator.integers(0, 255, (30, 40, 3), np.uint8))
    deep = Image.fromarray(generator.integers(0, 65535, (30, 40)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = []
    for picture, form, options in (
        (plain, "JPEG", {"exif": exif}),
        (plain.convert("CMYK"), "JPEG", {}),
        (plain, "PNG", {}),
        (plain.convert("P"), "PNG", {}),
        (deep, "PNG", {}),
        (plain, "GIF", {"save_all": True, "append_images": [plain]}),
        *((plain, form, {}) for form in ("WEBP", "BMP", "TIFF", "PPM")),
    ):
        stream = io.BytesIO()
        picture.save(stream, form, **options)
        found.append(stream.getvalue())
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_damaged_pictures_are_decoded_or_refused_and_nothing_else(seed: int) -> None:
    generator, pictures, refused, taken = random.Random(seed), seeds(), 0, 0
    for _ in range(400):
        data = bytearray(generator.choice(pictures))
        for _ in range(generator.randrange(1, 6)):
            data[generator.randrange(min(len(data), generator.choice([30, 100, 10_000])))] = generator.randrange(256)
        if generator.random() < 0.3:
            data = data[: generator.randrange(len(data))]
        try:
            picture = image.decode(bytes(data), "x", 1_000_000)
        except ImageError:
            refused += 1
            continue
        taken += 1
        tall, wide, channels = picture.rgb.shape
        assert tall * wide <= 1_000_000
        assert channels == 3
    assert refused > 50
    assert taken > 50
