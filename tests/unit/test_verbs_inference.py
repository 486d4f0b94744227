"""Inference's figures as text."""

from __future__ import annotations

import msgspec

from appliance.core.inference.status import DeviceStatus, EngineStatus, Fallback, InferenceStatus
from appliance.core.model import Health
from appliance.verbs import inference, render

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
