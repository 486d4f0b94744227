"""Inference's figures as text."""

from __future__ import annotations

import io

import msgspec

from appliance.core.inference.model import Class, DeviceReading, Keypoint, Pose, Segment
from appliance.core.inference.status import DeviceStatus, EngineStatus, Fallback, InferenceStatus, VersionRow
from appliance.core.model import Box, Health, InferenceResult
from appliance.screens import inference_found
from appliance.verbs import infer, inference, render
from appliance.verbs.context import Context

HAILO = DeviceStatus(name="Hailo", backend="hailo", health=Health.absent, reason="no card.", next_step="fit it.")
CPU = DeviceStatus(name="CPU", backend="cpu", health=Health.healthy, reason="2 threads", busy=0.4, loaded=("yolo@1",))
FELL = Fallback(time=1.0, model="yolo@1", wanted="Hailo", used="CPU", reason="it stalled", count=3)


def said(status: InferenceStatus) -> str:
    text = render.formed(inference.FORMS, "inference.stats", msgspec.to_builtins(status), 100, colour=False)
    assert text is not None
    return text


def test_devices_and_times_are_tables_and_bars() -> None:
    engine = EngineStatus(devices=(HAILO, CPU), waiting={"low": 2}, last_fallbacks=(FELL,))
    times = ((10.0, 0), (20.0, 4), (500.0, 1), (None, 2))
    text = said(InferenceStatus(
        model="yolo", backend="cpu", total=7, errors=0, p50_ms=12.0, p95_ms=400.0, histogram=times, engine=engine,
        models_limit=2**30, done_by={"cpu": 7},
    ))  # fmt: skip
    assert "Hailo: no card. Next: fit it." in text
    assert "waiting: low 2" in text
    assert "0 B of 1.0 GiB" in text
    bars = {line.partition("ms")[0].strip(): line.count("#") for line in text.splitlines() if "#" in line}
    assert bars == {"to 20": 40, "to 500": 10, "over 500": 20}
    assert [line.split() for line in text.splitlines()][-1][1:] == ["yolo@1", "Hailo", "CPU", "3", "it", "stalled"]


def test_nothing_measured_is_a_dash_and_no_bar() -> None:
    text = said(InferenceStatus(model="", backend="", total=0, errors=0, p50_ms=None, p95_ms=None))
    assert text.startswith("no model on –: 0 results (none yet, cached 0)")
    assert "p50 –" in text
    assert "#" not in text


def test_a_result_of_any_task_says_what_was_found() -> None:
    common = {
        "time": 1.0, "source": "/a\x1b/b.png", "model": "m", "model_version": "1", "backend": "cpu", "width": 4, "height": 3,
        "boxes": (), "inference_time_ms": 8.0, "total_time_ms": 20.0,
    }  # fmt: skip
    results = [
        InferenceResult(result_id="1", task="classification", classes=(Class("espresso", 0.95),), **common),
        InferenceResult(result_id="2", task="audio", segments=(Segment("speech", 0.9, 0.2, 0.7),), **common),
        InferenceResult(result_id="3", task="detection", cached=True, **common),
    ]
    text = render.formed(inference.FORMS, "inference.results", msgspec.to_builtins(results), 140, colour=False) or ""
    first, second, third = text.splitlines()[1:]
    assert "espresso 95 %" in first
    assert "speech 0.20–0.70 s" in second
    assert ("nothing found" in third, "cache" in third, "nothing found" in first) == (True, True, False)
    assert "8.0" not in third  # remembered: nothing was measured
    assert "\x1b" not in text


def test_what_a_device_says_of_itself_goes_before_what_was_measured() -> None:
    device = DeviceStatus(
        name="Hailo", backend="hailo", health=Health.healthy, reason="", busy=0.9, reading=DeviceReading(utilisation=0.25)
    )
    engine = EngineStatus(devices=(device,))
    text = said(InferenceStatus(model="m", backend="hailo", total=0, errors=0, p50_ms=None, p95_ms=None, engine=engine))
    assert "25%" in text
    assert "90%" not in text


def test_at_a_glance_there_are_no_tables_of_every_version() -> None:
    """The overview's section says what the page's first lines say."""
    told = InferenceStatus(
        model="yolo", backend="cpu", total=0, errors=0, p50_ms=None, p95_ms=None, engine=EngineStatus(devices=(HAILO, CPU)),
        models=(VersionRow(name="yolo", version="1", stage="Production", licence="A long licence."),),
    )  # fmt: skip
    sections = ("host", "services", "alerts", "devices", "queues", "sessions")
    value = {name: {"age": None, "value": None} for name in sections}
    value["inference"] = {"age": 1.0, "value": msgspec.to_builtins(told)}
    text = render.status(value, 100, colour=False, forms={"inference": inference.glance})
    assert "yolo on cpu: 0 results" in text
    assert "Hailo: no card. Next: fit it." in text
    assert "licence" not in text
    assert len(text.splitlines()) < 40


def test_a_name_of_a_file_writes_nothing_to_the_terminal() -> None:
    out = io.StringIO()
    context = Context(client=None, paths=None, environ={}, out=out, width=80, colour=False)  # type: ignore[arg-type]
    result = InferenceResult("r", 1.0, "/a", "m", "1", "embedding", "cpu", 0, 0, (), 1.0, 2.0)
    for outcome in (
        {"path": "/a\x1b[2Jb.png", "result": msgspec.to_builtins(result)},
        {"path": "/a\x1b[2Jb.png", "error": "it is none."},
        {"path": "/c", "error": "/c\x1b[2J is none."},
    ):
        infer._say_outcome(context, outcome, draw=False)
    assert out.getvalue().count("[2J") == 3
    assert "\x1b" not in out.getvalue()


def test_points_are_counted_as_on_the_page() -> None:
    points = tuple(Keypoint("eye", 1.0, 1.0, score) for score in (0.9, 0.4, 0.1))
    poses, boxes = (Pose(points),), (Box("face", 0.9, 0, 0, 1, 1),)
    result = InferenceResult("r", 1.0, "/a", "m", "1", "pose", "cpu", 9, 9, boxes, 1.0, 2.0, poses=poses)
    assert "2 of 3 points" in infer.found_lines(msgspec.to_builtins(result))[0]
    assert inference_found.found(result) == "face; 2 points"
    assert infer.SEEN == inference_found.SURE
