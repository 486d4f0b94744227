"""Answers of models and sources as text."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from appliance.core.inference.sources.model import Kind, SourceState, SourceStatus
from appliance.core.inference.status import Drift, Served, VersionRow
from appliance.screens.values import moment
from appliance.verbs import models, render, sources

FORMS = {**models.FORMS, **sources.FORMS}
NOTHING = {**models.NOTHING, **sources.NOTHING}


def text(name: str, value: Any, width: int = 100) -> str | None:
    return render.formed(FORMS, name, msgspec.to_builtins(value), width, colour=False, nothing=NOTHING)


@pytest.mark.parametrize(("name", "word"), [
    ("model.list", "model add"), ("model.splits", "active versions"), ("model.offers", "nothing was offered"),
    ("source.list", "source add"), ("source.events", "no events"), ("source.cameras", "picamera"),
])  # fmt: skip
def test_an_empty_answer_says_what_that_means(name: str, word: str) -> None:
    assert word in (text(name, []) or "")
    assert text(name, None) is None


def test_one_is_not_many() -> None:
    row = VersionRow(name="m", version="1", stage="Staging", task="pose", labels=1, served=Served(requests=1, errors=0))
    told = text("model.show", [row]) or ""
    assert "1 label," in told
    assert "1 request, 0 failed" in told


def test_the_offer_of_a_stored_version_is_the_message_s_data() -> None:
    """It is read again from the text, whatever the terminal's width."""
    offer = {
        "model": "m", "version": "2", "artifact": "s3://bucket/models/m/2.tar", "sha256": "0" * 64, "stage": "Production",
        "device_ids": [], "rollout": {"strategy": "canary", "percent": 10},
    }  # fmt: skip
    told = text("model.publish", {"address": offer["artifact"], "sha256": "0" * 64, "offer": offer}, 60) or ""
    assert json.loads(told.splitlines()[-1]) == offer
    assert "models.updates" in told


def test_a_source_that_is_tried_again_says_when() -> None:
    soon = time.time() + 5
    ill = SourceStatus(
        name="gate", kind=Kind.stream, address="rtsp://127.0.0.1/gate", enabled=True, rate=5.0, since=1.0,
        state=SourceState.retrying, reason="it does not listen.", next_step="switch it on.", next_try=soon,
    )  # fmt: skip
    assert f"Next: switch it on. Tried again at {moment(soon)}." in (text("source.list", [ill], 200) or "")


def test_a_zone_is_shown_as_it_is_set() -> None:
    zone = {"name": "door", "points": [[0.05, 0.3], [0.95, 0.3], [1.0, 1.0]], "anchor": "foot"}
    told = text("source.show", {"definition": {"name": "gate", "zones": [zone], "rules": []}, "status": None}) or ""
    assert "0.05,0.3 0.95,0.3 1,1" in told


@pytest.mark.parametrize(("drift", "told"), [
    ({"state": "gathering", "baseline": 20, "window": 0}, "gathering 20/200"),
    ({"state": "watching", "baseline": 200, "window": 0}, "watching 0/200"),
    ({"state": "watching", "baseline": 200, "window": 200, "labels": 0.1, "scores": 0.2}, "watching 0.20 of 0.25"),
])  # fmt: skip
def test_drift_counts_what_it_waits_for(drift: dict[str, Any], told: str) -> None:
    """The baseline while it is gathered, then the window that is held against it."""
    row = VersionRow(name="m", version="1", stage="Production", drift=Drift(needed=200, limit=0.25, **drift))
    assert told in (text("model.list", [row], 200) or "")
