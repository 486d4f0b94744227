"""The Models page: what it tells of versions, and that its keys do what they ask about first, on real models."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.inference.status import Drift, InferenceStatus, Served, SplitRow, VersionRow
from appliance.core.model import Actor, JobState, JobStatus, Role
from appliance.core.state import Section
from appliance.screens import models_view as view
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.models import Models
from appliance.screens.models_acts import named
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line
from tests.inference.registry_rig import write_model
from tests.screens.conftest import Bench, Seen, running
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def row(**more: Any) -> VersionRow:
    return VersionRow(**{"name": "colours", "version": "2", "stage": "Production", "task": "detection", **more})


def split(**more: Any) -> SplitRow:
    values: dict[str, Any] = {
        "name": "colours", "active": "1", "candidate": "2", "mode": "shadow", "percent": 10.0, "since": time.time() - 65,
    }  # fmt: skip
    return SplitRow(**{**values, **more})


def cells_of(told: VersionRow, *splits: SplitRow) -> str:
    status = InferenceStatus(model="", backend="", total=0, errors=0, p50_ms=None, p95_ms=None, models=(told,), splits=splits)
    (shown,) = view.version_rows(status, CONSOLE)
    return " | ".join(cell if isinstance(cell, str) else cell[0] for cell in shown.cells)


def test_a_row_says_who_serves() -> None:
    assert "● active" in cells_of(row(active=True))
    assert "previous" in cells_of(row(previous=True))
    assert "shadow 10%" in cells_of(row(), split())
    assert "● active" in cells_of(row(version="1", active=True), split())


def test_what_was_not_served_is_no_zero() -> None:
    assert cells_of(row()).count("–") >= 4
    told = cells_of(row(served=Served(requests=4, errors=1, error_rate=0.25, p50_ms=31.0, p95_ms=40.0)))
    assert "4 | 25% | 31 | 40" in told


def test_a_version_that_cannot_be_used_says_why_and_what_to_do() -> None:
    broken = row(error="model.onnx has another SHA-256.", next_step="add it again.")
    assert "✗ colours" in cells_of(broken)
    assert "another SHA-256" in cells_of(broken)
    told = text_of(view.version_lines(broken, None, CONSOLE))
    assert told.index("another SHA-256") < told.index("add it again.") < told.index("self-test")


def drift(**more: Any) -> Drift:
    return Drift(**{"state": "watching", "baseline": 200, "window": 150, "needed": 200, "limit": 0.25, **more})


def test_drift_is_gathered_watched_and_told() -> None:
    assert "new 20/200" in cells_of(row(drift=drift(state="gathering", baseline=20)))
    assert "watch 7/200" in cells_of(row(drift=drift(window=7)))
    assert "● 0.03" in cells_of(row(drift=drift(labels=0.03, scores=0.01)))
    drifted = drift(state="drifted", labels=0.4, most="person 80 % → 20 %")
    assert "▲ drifted 0.40" in cells_of(row(drift=drifted))
    told = text_of(view.drift_lines(drifted, CONSOLE))
    for text in ("labels 0.40, scores –", "of 0.25", "most: person"):
        assert text in told
    assert "baseline 20 of 200" in text_of(view.drift_lines(drift(state="gathering", baseline=20), CONSOLE))


def test_a_split_compares_both_sides() -> None:
    served = Served(requests=40, errors=2, error_rate=0.05, p50_ms=20.0, p95_ms=30.0)
    shadow = text_of(view.split_lines(split(of_active=served, compared=12, agreement=0.75, skipped=3), CONSOLE))
    for text in ("10 % to 2, since 1 min", "40 requests, 2 errors (5 %), p50 20, p95 30 ms", "75 % of 12 compared, 3 skipped"):
        assert text in shadow
    canary = split(mode="canary", of_candidate=served, wanted=80, until=time.time() + 60, verdict="nothing speaks against it")
    told = text_of(view.split_lines(canary, CONSOLE))
    for text in ("40 of 80", "nothing speaks against it", "██████░░░░░░"):
        assert text in told


def bench_job(**more: Any) -> JobStatus:
    return JobStatus(
        **{"job_id": "j", "name": "bench colours@1", "owner": "ada", "state": JobState.running, "created": 1.0, **more}
    )


def test_a_benchmark_shows_its_progress_then_its_figures_or_why_not() -> None:
    told = text_of(view.bench_lines([bench_job(progress=0.5, message="50 of 100")], CONSOLE))
    for text in ("colours@1", "● running", "████████████░░░░░░░░░░░░", "50 % 50 of 100"):
        assert text in told
    figures = {
        "per_second": 31.5, "parallel": 2, "requests": 100, "devices": {"cpu0": 100}, "input": "a blank input",
        "total_p50_ms": 30.0, "total_p95_ms": 40.0, "total_p99_ms": 50.0, "device_p50_ms": 29.0, "device_p95_ms": 39.0,
    }  # fmt: skip
    told = text_of(view.bench_lines([bench_job(state=JobState.completed, result=figures, ended=2.0)], CONSOLE))
    for text in ("31.5/s with 2 at a time", "30 / 40 / 50 ms", "29 / 39 / – ms", "100: cpu0 100", "a blank input"):
        assert text in told
    assert "no device" in text_of(view.bench_lines([bench_job(state=JobState.failed, error="no device")], CONSOLE))
    assert "none lately" in text_of(view.bench_lines([bench_job(name="infer a.jpg")], CONSOLE))


def test_refused_offers_are_seen() -> None:
    offer = {
        "offer": "m@3:00", "model": "m", "version": "3", "state": "refused", "note": "another SHA-256", "time": 1.0,
        "changed": 2.0,
    }  # fmt: skip
    (shown,) = view.offer_rows([offer], CONSOLE)
    assert shown.cells[2:] == (("✗ refused", "bad"), ("another SHA-256", "text"))
    two = view.offer_rows([offer, {**offer, "offer": "m@3:ff", "state": "rolled back"}], CONSOLE)
    assert len({each.key for each in two}) == 2  # the cursor tells offers of one version apart
    assert {named(each.key) for each in two} == {"m@3"}
    state = next(column for column in view.OFFERS if column.title == "state")
    assert len(two[1].cells[2][0]) <= state.width


def test_one_is_not_many_and_nothing_since_then_is_not_never() -> None:
    told = text_of(view.version_lines(row(labels=1, served=Served(requests=1, errors=1, error_rate=1.0)), split(), CONSOLE))
    for text in ("1 label\n", "1 request, 1 error (", "nothing since then"):
        assert text in told
    assert "nothing in this run" not in told


def test_lines_keep_to_the_console() -> None:
    lines = view.version_lines(row(drift=drift(labels=0.3)), split(mode="canary", wanted=10), CONSOLE)
    assert unsafe(text_of(lines).replace("\n", "")) == set()


async def activate(bench: Bench, version: str) -> None:
    ada = Actor("ada", Role.admin, "console")
    await bench.appliance.dispatcher.invoke("model.activate", {"name": "colours", "version": version}, ada)


@pytest.fixture
async def colours(home: Path) -> AsyncIterator[Bench]:
    """An appliance with two versions of a small real model, the first one active."""
    async with running(home) as bench:
        for version in ("1", "2"):
            await bench.invoke("model.add", origin=str(write_model(home / f"new-{version}", version)))
        await activate(bench, "1")
        yield bench


def page(seen: Seen) -> Models:
    found = seen.app.page
    assert isinstance(found, Models)
    return found


async def go_to(seen: Seen, version: str) -> None:
    """Open the page with the cursor on a version of the small model."""
    await seen.press("gd", "colours")
    grid = page(seen).query_one("#versions", Grid)
    await wait_for(lambda: f"colours@{version}" in [each.key for each in grid.rows])
    grid.move_to([each.key for each in grid.rows].index(f"colours@{version}"))
    await seen.shows(f"colours@{version}")


def active(bench: Bench) -> str:
    models = bench.appliance.state.get(Section.inference).value.models
    return next((each.version for each in models if each.name == "colours" and each.active), "")


async def test_versions_are_switched_split_rolled_back_and_removed(colours: Bench) -> None:
    """The whole life of a version by its keys, each change after a question."""
    seen = colours.open(PLAIN)
    await go_to(seen, "2")
    await seen.press("v", "colours@2 is proven")
    await seen.press("e", "go to its active version; s divides")
    await seen.press("i", "no model was offered")
    await seen.press("\t", "Version")
    await seen.press("s", "shadow")
    await seen.fill("mode", "shadow")
    await seen.fill("percent", "25")
    await seen.shows("shadow 25%")
    await seen.press("e", "yes, end the split")
    await seen.press("y", "the split of colours has ended")
    await seen.press("a", "yes, activate")
    await seen.press("\x1b", "not confirmed")
    assert active(colours) == "1"
    await seen.press("a", "yes, activate")
    await seen.press("y", "colours@2 serves")
    await wait_for(lambda: active(colours) == "2")
    await seen.press("r", "version 1 serves again")
    await seen.press("y", "colours is rolled back")
    await wait_for(lambda: active(colours) == "1")
    await seen.press("d", "gone from the disk")
    await seen.press("y", "colours@2 is removed")
    await wait_for(lambda: "colours@2" not in [each.key for each in page(seen).query_one("#versions", Grid).rows])
    await seen.end()


async def test_the_active_version_is_not_removed(colours: Bench) -> None:
    """The answer says why and what to do."""
    seen = colours.open()
    await go_to(seen, "1")
    await seen.press("d", "gone from the disk")
    seen.session.feed(b"y")
    await seen.shows("✗")
    assert active(colours) == "1"
    await seen.end()


async def test_a_benchmark_is_followed_on_the_page(colours: Bench) -> None:
    seen = colours.open(PLAIN)
    await go_to(seen, "1")
    await seen.press("b", "How many requests")
    await seen.fill("requests", "20")
    await seen.fill("parallel", "2")
    await seen.shows("● completed")
    await seen.shows("with 2 at a time")
    await seen.end()


async def test_a_long_benchmark_is_cancelled(colours: Bench) -> None:
    seen = colours.open(PLAIN)
    await go_to(seen, "1")
    await seen.press("b", "How many requests")
    await seen.fill("requests", "100000")
    await seen.fill("parallel", "1")
    await seen.shows("of 100000")
    await seen.press("c", "cancelled")
    jobs = colours.appliance.state.get(Section.jobs).value
    assert [job.state for job in jobs if job.name.startswith("bench ")] == [JobState.cancelled]
    await seen.end()


async def test_a_version_is_added_by_its_path(colours: Bench, tmp_path: Path) -> None:
    """A good one is on the list; a bad one is refused in the form, with the reason."""
    good = write_model(tmp_path / "three", "3")
    bad = write_model(tmp_path / "four", "4")
    (bad / "model.onnx").write_bytes(b"another file")
    seen = colours.open()
    await go_to(seen, "1")
    await seen.press("n", "origin")
    await seen.fill("origin", str(bad))
    await seen.fill("sha256", "")
    await seen.shows("model.onnx")
    assert page(seen).app.screen is not page(seen)
    await seen.press("\x1b", "Models")
    await seen.press("n", "origin")
    await seen.fill("origin", str(good))
    await seen.fill("sha256", "")
    await seen.shows("colours@3 is here, Staging")
    await seen.end()


async def test_a_viewer_looks_and_changes_nothing(colours: Bench) -> None:
    seen = colours.open(role=Role.viewer)
    await go_to(seen, "2")
    await seen.press("a", "needs the role operator")
    assert active(colours) == "1"
    await seen.press("\r", "licence")
    await seen.end()


async def test_a_wide_terminal_shows_all_panels(colours: Bench) -> None:
    seen = colours.open(size=(160, 48))
    await go_to(seen, "1")
    for text in ("Version", "Benchmarks", "Offers", "no model was offered"):
        await seen.shows(text)
    await seen.end()
