"""The Inference page: drivers, figures, results of all tasks; what was just asked for is what is seen."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from appliance.core.inference.draw import apart, with_boxes
from appliance.core.inference.model import Class, DeviceReading, Keypoint, Mask, Pose, Segment
from appliance.core.inference.render import console, half_blocks
from appliance.core.inference.status import CacheStatus, DeviceStatus, EngineStatus, Fallback, InferenceStatus
from appliance.core.model import Box, Health, InferenceResult, JobStatus, Role
from appliance.core.state import Section
from appliance.screens import inference_view as view
from appliance.screens.glyphs import CONSOLE, FULL, Caps, Colours, unsafe
from appliance.screens.inference import Inference
from appliance.screens.inference_found import fact_lines, finding_lines, found, share
from appliance.screens.picture import cell_style
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, LineView, width_of
from tests.screens.conftest import Bench, Seen
from tests.support import capability, wait_for

MODELS = Path(__file__).resolve().parents[2] / ".models"
SAMPLES = MODELS / "samples"
SPEECH = MODELS / "zoo" / "silero-vad" / "speech.wav"
PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
BOXES = (Box("person", 0.9, 1, 2, 30, 40), Box("person", 0.8, 5, 6, 70, 80), Box("bus", 0.7, 0, 0, 1200, 700))


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def result(**more: Any) -> InferenceResult:
    values: dict[str, Any] = {
        "result_id": "r1", "time": time.time(), "source": "/a/street.jpg", "model": "m", "model_version": "1",
        "task": "detection",
        "backend": "cpu", "width": 1280, "height": 720, "boxes": (), "inference_time_ms": 31.0, "total_time_ms": 42.0,
    }  # fmt: skip
    return InferenceResult(**{**values, **more})


POSE = Pose((Keypoint("nose", 4, 5, 0.9), Keypoint("left ear", 6, 7, 0.1)))
TASKS: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "detection": ({"boxes": BOXES}, "person x2, bus", ("0.90", "person", "1200")),
    "classification": (
        {"classes": (Class("tabby cat", 0.82), Class("lynx", 0.1))}, "tabby cat 82 %, lynx 10 %", ("0.82", "tabby cat"),
    ),
    "pose": ({"boxes": BOXES[:1], "poses": (POSE,)}, "person; 1 points", ("1 of 2 points are seen", "nose")),
    "segmentation": ({"masks": (Mask("road", 10, 10, (25, 50, 25)),)}, "masks: road", ("50 %", "road")),
    "audio": ({"segments": (Segment("speech", 0.97, 0.4, 1.2),)}, "speech 0.40–1.20 s", ("0.97", "0.40–1.20 s")),
    "embedding": ({"embedding": (0.5,) * 512}, "embedding of 512", ("embedding of 512", "+0.500")),
    "sensors": ({"statistics": {"mean": 21.5}}, "mean 21.5", ("mean", "21.5")),
    "nothing": ({}, "nothing found", ("nothing found",)),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_results_of_every_task_are_told(task: str) -> None:
    """In one line, and whole; on the console's characters; no line is wider than there is room."""
    more, row, whole = TASKS[task]
    told = result(**more)
    assert found(told) == row
    lines = finding_lines(told, 60, CONSOLE)
    for text in whole:
        assert text in text_of(lines)
    assert max(map(width_of, lines)) <= 60
    assert unsafe(text_of(lines).replace("\n", "")) == set()


def test_a_stretch_of_a_recording_stands_in_its_place() -> None:
    """Two halves of a recording: one bar to the left, the other to the right."""
    halves = (Segment("a", 0.9, 0, 5), Segment("b", 0.9, 5, 10))
    first, second = (
        text.rpartition("s  ")[2] for text in text_of(finding_lines(result(segments=halves), 60, CONSOLE)).split("\n")
    )
    first, second = first.lstrip(), second.lstrip()
    half = len(first) // 2
    assert (first[:half], second[half:]) == ("█" * half, "█" * (len(second) - half))
    assert "█" not in second[: half - 1] + first[half + 1 :]


def test_a_mask_without_a_size_has_no_share() -> None:
    assert share(Mask("road", 0, 0, ())) is None
    assert "–" in text_of(finding_lines(result(masks=(Mask("road", 0, 0, ()),)), 60, CONSOLE))


def test_a_result_says_why_it_ran_elsewhere() -> None:
    told = text_of(fact_lines(result(device="cpu0", reason="hailo stalled", fell_back=True, queued_ms=3.0), 60))
    for text in ("fell back: hailo stalled", "cpu0 (cpu)", "waited 3.0 ms", "model 31 ms, in all 42 ms"):
        assert text in told
    cached = text_of(fact_lines(result(cached=True), 60))
    assert "from the cache" in cached
    assert "42 ms" not in cached
    assert text_of(fact_lines(result(source="/a" * 40 + "/bus.jpg"), 20)).split("\n")[0].endswith("/bus.jpg")


def device(**more: Any) -> DeviceStatus:
    return DeviceStatus(**{"name": "hailo", "backend": "hailo", "health": Health.healthy, "reason": "", **more})


def test_a_fallback_s_reason_has_room_in_a_third_of_a_wide_terminal() -> None:
    panel = 50
    shown = [column for column in view.FALLBACKS if column.least <= panel]
    taken = sum(column.width + 1 for column in shown if column.width)
    assert panel - taken >= 25
    assert [column.title for column in shown] == ["ago", "times", "from", "reason"]


def test_the_cache_is_seen_on_a_small_terminal() -> None:
    """Eight lines of 36 cells have room for it: before what is given up, and no line above it is wrapped."""
    told = InferenceStatus(
        model="m", backend="cpu", total=5018, errors=261, p50_ms=1.0, p95_ms=2.0, refused=65, done_by={"cpu": 4796}, cached=222,
        per_second=4.3, cache=CacheStatus(hits=222, misses=673, entries=572, entry_limit=1000, bytes=300_000, byte_limit=2**24),
    )  # fmt: skip
    lines = [part for line in view.figure_lines(told, CONSOLE) for part in wrap(line, 36)]
    text = text_of(lines[:8])
    for figure in ("25 % of 895", "572 of 1000", "261, refused 65"):
        assert figure in text


def test_what_a_driver_does_not_say_is_a_dash() -> None:
    """Unknown is never 0; what it says of itself goes before what was measured of it."""
    silent, telling = (
        ["".join(cell if isinstance(cell, str) else cell[0]) for cell in row.cells]
        for row in view.driver_rows(
            EngineStatus(devices=(device(), device(name="b", busy=0.5, reading=DeviceReading(61.4, 2.53, 0.25)))), CONSOLE
        )
    )
    assert silent[2:5] == ["–", "–", "–"]
    assert silent[9] == "–"
    assert telling[2:5] == ["25 %", "61", "2.5"]


def test_an_absent_driver_has_a_reason_and_a_next_step() -> None:
    absent = device(health=Health.absent, reason="no card", next_step="fit the card.")
    told = text_of([tuple(view.trouble_pieces(EngineStatus(devices=(absent, device(name="cpu"))), CONSOLE))])
    for text in ("– hailo:", "no card", "Next: fit the card."):
        assert text in told
    assert "cpu" not in told
    hot = EngineStatus(devices=(device(reading=DeviceReading(90.0, throttled=True, notices=("over-current",))),))
    alarms = text_of([tuple(view.trouble_pieces(hot, CONSOLE))])
    assert "▲ hailo: it is throttled" in alarms
    assert "▲ hailo: over-current." in alarms


@pytest.mark.parametrize("height", [2, 5, 40])
def test_a_histogram_loses_no_answer(height: int) -> None:
    """Where there are fewer lines than ranges, neighbours stand together."""
    histogram = ((5.0, 0), (10.0, 3), (20.0, 40), (50.0, 7), (1000.0, 2), (None, 1))
    lines = view.histogram_lines(histogram, 18.0, (60, height), CONSOLE)
    assert len(lines) <= height
    assert sum(int(line[3][0]) for line in lines) == 53
    assert "over 1 s" in text_of(lines)
    assert [("p50" in text_of([line]), "to 20 ms" in text_of([line])) for line in lines].count((True, True)) == (height > 2)
    assert max(map(width_of, lines)) <= 60


def test_an_empty_histogram_says_so() -> None:
    assert "nothing measured yet" in text_of(view.histogram_lines(((5.0, 0), (None, 0)), None, (60, 5), CONSOLE))


def status(**engine: Any) -> InferenceStatus:
    return InferenceStatus(model="", backend="", total=0, errors=0, p50_ms=None, p95_ms=None, engine=EngineStatus(**engine))


def test_losses_are_seen_and_nothing_unknown_is_a_number() -> None:
    told = text_of([tuple(view.queue_pieces(EngineStatus(waiting={"low": 3}, dropped=2, expired=1), short=True))])
    for text in ("low 3", "dropped 2", "too late 1"):
        assert text in told
    assert "fallbacks" not in told
    nothing = text_of([tuple(view.work_pieces(status(), short=False))])
    for text in ("no model serves", "p50 – p95 –", "cache –"):
        assert text in nothing
    figures = text_of(view.figure_lines(status(dropped=2, dropped_by={"low": 2, "high": 0}), FULL))
    assert "dropped 2, low 2" in figures
    assert "errors        –" in figures


def test_the_cache_tells_how_full_it_is() -> None:
    cache = CacheStatus(hits=3, misses=1, entries=20, entry_limit=1000, bytes=2048, byte_limit=4096, evicted=9)
    told = text_of(view.cache_lines(cache, CONSOLE))
    for text in ("75 % of 4", "20 of 1000, 9 evicted", "2.0 KiB of 4.0 KiB"):
        assert text in told


def test_fallbacks_have_reason_count_and_age() -> None:
    each = Fallback(time=time.time() - 65, model="m@1", wanted="hailo", used="cpu", reason="hailo stalled", count=7)
    (row,) = view.fallback_rows((each,))
    cells = [cell if isinstance(cell, str) else cell[0] for cell in row.cells]
    assert cells == ["1 min", "7", "hailo", "cpu", "m@1", "hailo stalled"]


def page(seen: Seen) -> Inference:
    found = seen.app.page
    assert isinstance(found, Inference)
    return found


def given(bench: Bench, monkeypatch: pytest.MonkeyPatch, told: InferenceStatus) -> None:
    """From now on inference says this of itself, and nothing else."""
    monkeypatch.setattr(bench.appliance.domains.inference, "status", lambda: told)  # type: ignore[union-attr]
    bench.appliance.state.put(Section.inference, told)


STALLED = device(
    health=Health.unhealthy, reason="no answer in 2 s", next_step="it is being reset.", stalls=3, resets=2,
    reading=DeviceReading(71.2, 2.46, 0.31, False, "4.20.0"),
)  # fmt: skip


async def test_a_stalled_driver_and_its_fallbacks_are_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a console of 80 x 24: state, numbers, reason, next step; one panel further the fallbacks."""
    seen = bench.open(PLAIN)
    await seen.press("3", "ONNX Runtime")
    fallback = Fallback(time=time.time(), model="m@1", wanted="hailo", used="cpu", reason="hailo stalled", count=7)
    engine = EngineStatus(
        devices=(STALLED, device(name="cpu0", backend="cpu")), waiting={"critical": 0, "low": 3}, fallbacks=7,
        last_fallbacks=(fallback,), histogram=((50.0, 12), (None, 1)), dropped=4,
    )  # fmt: skip
    histogram = ((50.0, 12), (None, 1))
    given(
        bench, monkeypatch, msgspec.structs.replace(status(), engine=engine, histogram=histogram, model="colours", p50_ms=31.0)
    )
    for text in (
        "✗ unhealthy",
        "31 %",
        "71",
        "2.5",
        "no answer in 2 s",
        "Next: it is being reset.",
        "low 3",
        "dropped 4",
        "colours",
    ):
        await seen.shows(text)
    await seen.press("\t", "Throughput and cache")
    await seen.shows("over 50 ms")
    await seen.press("\t", "hailo stalled")
    await seen.press("d", "4.20.0")
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.end()


async def test_a_wide_terminal_shows_everything_at_once(bench: Bench) -> None:
    seen = bench.open(size=(160, 48))
    await seen.press("3", "Drivers")
    for text in ("Results", "Picture", "Findings", "Latency", "Throughput and cache", "Fallbacks", "Next: "):
        await seen.shows(text)
    await seen.end()


async def test_equal_values_repaint_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Showing what is shown already paints no line; and a page that is left is told nothing more."""
    seen = bench.open(size=(160, 48))
    await seen.press("3", "ONNX Runtime")
    painted: list[str] = []
    whole = LineView.repaint

    def repaint(self: LineView, row: int) -> None:
        painted.append(f"{self.id} {row}")
        whole(self, row)

    given(bench, monkeypatch, bench.appliance.domains.inference.status())  # type: ignore[union-attr]
    shown = page(seen)
    await wait_for(lambda: shown.status is not None)
    shown.show(shown.sections)
    monkeypatch.setattr(LineView, "repaint", repaint)
    shown.show(shown.sections)
    assert painted == []
    given(bench, monkeypatch, status(running=1))
    await wait_for(lambda: any(line.startswith("figures") for line in painted))
    await seen.press("1", "Host")
    await wait_for(lambda: shown._watch is None)
    assert not any(watch.sections >= shown.sections for watch in bench.appliance.state._watches)
    await seen.end()


async def test_a_new_result_is_selected_and_drawn(bench: Bench) -> None:
    """Whoever opens a picture sees that one, not the one that the cursor was on."""
    capability((SAMPLES / "zidane.jpg").is_file(), "the model with its sample pictures")
    seen = bench.open(size=(120, 30))
    await seen.press("3", "press o and name a")
    for name in ("bus.jpg", "zidane.jpg"):
        await seen.press("o", "files on this machine")
        await seen.fill("paths", str(SAMPLES / name))
        await seen.shows(f" {name} ─")
    grid = page(seen).query_one("#results", Grid)
    await wait_for(lambda: (grid.cursor, len(grid.rows)) == (0, 2))
    await seen.press("\r", "waited")
    await seen.shows("person")
    await seen.end()


async def test_a_recording_is_heard_and_shown_as_stretches(bench: Bench) -> None:
    capability(SPEECH.is_file(), "the model for voice activity")
    job: JobStatus = await bench.invoke("inference.run", paths=[str(SPEECH)], task="audio")  # type: ignore[assignment]
    await bench.invoke("job.wait", job_id=job.job_id)
    seen = bench.open(PLAIN)
    await seen.press("3", "speech.wav")
    await seen.shows("audio, silero-vad")
    await seen.shows("█")
    (heard,) = bench.appliance.state.get(Section.results).value
    await seen.shows(f"{heard.segments[0].begin:.2f}–{heard.segments[0].end:.2f} s")
    await seen.end()


async def test_a_bad_file_is_told_with_its_next_step(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    seen = bench.open()
    await seen.press("3", "press o")
    await seen.press("o", "files on this machine")
    await seen.fill("paths", str(tmp_path / "broken.jpg"))
    await seen.shows("Next:")  # wherever the path makes the line break
    await seen.end()


async def test_the_cache_is_emptied_after_a_question(bench: Bench) -> None:
    seen = bench.open()
    await seen.press("3", "ONNX Runtime")
    await seen.press("x", "yes, forget them")
    await seen.press("\x1b", "not confirmed")
    await seen.press("x", "yes, forget them")
    await seen.press("y", "the cache is empty")
    await seen.end()


async def test_a_viewer_is_offered_no_run(bench: Bench) -> None:
    seen = bench.open(role=Role.viewer)
    await seen.press("3", "ONNX Runtime")
    assert "o Open" not in seen.display
    await seen.press("o", "needs the role operator")
    await seen.end()


async def test_the_hint_is_whole_on_a_small_terminal(bench: Bench) -> None:
    seen = bench.open(size=(60, 24))
    await seen.press("3", "recording")
    await seen.shows("press o and")
    assert "…" not in seen.display.partition("Results")[2].partition("Picture")[2].split("└")[0]
    await seen.end()


def test_colours_of_cells() -> None:
    """Numbers are the console's sixteen, the rest 24 bits."""
    assert str(cell_style(9, 0)) == "bright_red on black"
    assert str(cell_style((1, 2, 3), (255, 0, 0))) == "#010203 on #ff0000"


@pytest.mark.parametrize("draw", [half_blocks, console])
def test_a_label_at_the_right_edge_is_whole(draw: object) -> None:
    rgb = np.zeros((200, 200, 3), np.uint8)
    cells = draw(rgb, [Box("traffic light", 0.8, 190, 100, 199, 150)], 40, 20)  # type: ignore[operator]
    rows = ["".join(char for char, _, _ in row) for row in cells]
    assert sum("traffic light 0.80" in row for row in rows) == 1


def test_a_drawn_label_at_the_right_edge_ends_inside_the_picture() -> None:
    """The same picture with the box further right than the label is wide has as many pixels of it."""
    rgb = np.zeros((200, 600, 3), np.uint8)

    def inked(left: float) -> int:
        image = np.asarray(with_boxes(rgb, [Box("bus", 0.8, left, 100, left + 5, 150)], 600, 200, text=True))
        return int((image[80:120] != 0).any(axis=-1).sum())

    assert abs(inked(594) - inked(100)) < 60


SIDE_BY_SIDE = [Box("person", 0.98, 45, 401, 213, 890), Box("person", 0.45, 202, 424, 334, 804)]
"""Of the bus: their captions want the same line of a small picture."""


@pytest.mark.parametrize("draw", [half_blocks, console])
def test_labels_of_neighbours_do_not_lie_over_each_other(draw: object) -> None:
    cells = draw(np.zeros((1080, 810, 3), np.uint8), SIDE_BY_SIDE, 40, 22)  # type: ignore[operator]
    text = "\n".join("".join(char for char, _, _ in row) for row in cells)
    assert "person 0.98" in text
    assert "person 0.45" in text


def test_where_all_places_are_taken_the_surest_labels_stay_whole() -> None:
    """Twenty boxes at one place: some captions are left out, and none of those that are there is cut."""
    crowd = [Box("person", 0.5 + number / 100, 100, 100, 140, 180) for number in range(20)]
    cells = half_blocks(np.zeros((200, 200, 3), np.uint8), crowd, 40, 20)
    text = "\n".join("".join(char for char, _, _ in row) for row in cells)
    found = re.findall(r"person [01]\.\d\d", text)
    assert sorted(found) == [f"person 0.{66 + number}" for number in range(4)]
    assert text.count("person") == len(found)


def test_drawn_labels_of_neighbours_do_not_lie_over_each_other() -> None:
    """The second one has as many dark pixels of letters with the first one beside it as alone."""
    rgb = np.full((1080, 810, 3), 255, np.uint8)

    def letters(*boxes: Box) -> int:
        image = np.asarray(with_boxes(rgb, boxes, 405, 540, text=True)).astype(int)
        return int((image.sum(axis=-1) < 100).sum())

    one, other = Box("person", 0.98, 45, 401, 213, 890), Box("person", 0.45, 60, 401, 230, 890)
    assert abs(letters(one, other) - letters(one) - letters(other)) < 0.1 * letters(other)


def test_a_caption_stays_inside_the_picture() -> None:
    assert apart([(0, 19, 5), (0, 19, 5)], 1, 20) == [19, 18]
    assert apart([(0, 0, 5), (0, 0, 5), (6, 0, 5)], 1, 1) == [0, None, 0]
