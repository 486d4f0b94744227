"""Versions: added whole or not at all, proven before they serve, switched without a request lost."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from appliance.core.findings import Box
from appliance.core.inference.model import Findings
from appliance.core.inference.registry.canary import judge
from appliance.core.inference.registry.drift import DriftWatch, index
from appliance.core.inference.registry.records import Split
from appliance.core.inference.registry.served import agree
from appliance.core.inference.registry.watching import Comparison
from appliance.core.model import Health
from appliance.errors import (
    AbsentError,
    ApplianceError,
    ConflictError,
    DiskFullError,
    ImageError,
    ModelError,
    NotFoundError,
    StoreError,
)  # fmt: skip
from appliance.settings import ModelSettings
from tests.inference.registry_rig import Rig, picture, running, write_model
from tests.support import wait_for


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(Rig(tmp_path / "home")) as found:
        yield found


def left(rig: Rig) -> list[str]:
    """What lies in the appliance's directory of models."""
    return sorted(str(path.relative_to(rig.models)) for path in rig.models.rglob("*") if path.is_file())


async def test_a_version_is_added_as_staging_and_serves_once_it_is_activated(rig: Rig) -> None:
    await rig.add("1")
    assert (rig.row("1").stage, rig.row("1").active) == ("Staging", False)
    assert "1 expected findings" in rig.row("1").tested
    with pytest.raises(ModelError, match="No version of colours is active"):
        await rig.service.infer(picture(), "a.png", model="colours")
    assert (await rig.service.infer(picture(), "a.png", model="colours@1")).boxes[0].label == "red"  # by name, to try it
    await rig.parts.deciding.activate("colours", "1")
    result = await rig.service.infer(picture("blue"), "a.png")
    assert (result.model_version, [box.label for box in result.boxes]) == ("1", ["blue"])
    assert (rig.row("1").stage, rig.row("1").active) == ("Production", True)
    assert [name for name, _, _ in rig.events] == ["model.added", "model.activated"]


async def test_the_old_version_can_be_had_back_in_one_step_also_after_a_restart(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home")) as rig:
        await rig.serve("1")
        await rig.serve("2", flip=True, expects="blue")
        assert (await rig.service.infer(picture(), "a.png")).boxes[0].label == "blue"
        assert (rig.row("1").stage, rig.row("1").previous) == ("Archived", True)
    async with running(Rig(tmp_path / "home")) as rig:
        assert (rig.row("2").active, rig.row("1").previous) == (True, True)
        await rig.parts.deciding.rollback("colours")
        assert (await rig.service.infer(picture(), "a.png")).boxes[0].label == "red"
        assert (rig.row("1").active, rig.row("2").previous) == (True, True)
        await rig.parts.deciding.rollback("colours")
        assert rig.row("2").active
    async with running(Rig(tmp_path / "other")) as rig:
        with pytest.raises(NotFoundError, match="no model colours"):
            await rig.parts.deciding.rollback("colours")


BAD = {
    "another hash": ({}, "SHA-256"),
    "a wrong label count": ({"labels": ("red", "blue", "green")}, "labels"),
    "another shape": ({"change": {"input": {"name": "images", "width": 48, "height": 48}}}, "model"),
    "another input": ({"change": {"input": {"name": "pictures", "width": 32, "height": 32}}}, "pictures|images"),
    "a failing self-test": ({"expects": "blue"}, "self-test"),
    "an opset that nobody knows": ({"opset": 99}, "opset|not usable|cannot be loaded"),
    "no such task": ({"change": {"task": "fortune-telling"}}, "manifest"),
    "a head of another task": ({"change": {"decode": {"head": "vector"}}}, "head"),
    "a name with a path in it": ({"change": {"name": "../colours"}}, "manifest"),
    "a file outside": ({"change": {"files": [{"path": "../secret", "sha256": "0" * 64, "kind": "onnx"}]}}, "outside"),
    "no file": ({"change": {"files": []}}, "no file"),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_is_wrong_is_refused_and_nothing_of_it_stays(rig: Rig, what: str) -> None:
    await rig.serve("1")
    wanted, told = BAD[what]
    bad = write_model(rig.home / "bad", "2", **wanted)
    if what == "another hash":
        (bad / "test.png").write_bytes(picture("red", 65))
    with pytest.raises(ModelError, match=told) as raised:
        await rig.parts.intake.add(str(bad))
    assert raised.value.next_step
    assert left(rig) == ["colours/1/manifest.toml", "colours/1/model.onnx", "colours/1/test.png"]
    assert (await rig.service.infer(picture(), "a.png")).model_version == "1"
    good = write_model(rig.home / "good", "2")  # what failed under this name does not stand in its way
    await rig.parts.intake.add(str(good))
    await rig.parts.deciding.activate("colours", "2")
    assert (await rig.service.infer(picture("blue"), "a.png")).model_version == "2"


async def test_an_onnx_file_that_is_cut_off_or_lacks_its_data_is_refused(rig: Rig) -> None:
    cut = write_model(rig.home / "cut", "1")
    body = (cut / "model.onnx").read_bytes()
    (cut / "model.onnx").write_bytes(body[: len(body) // 2])
    text = (
        (cut / "manifest.toml")
        .read_text()
        .replace(hashlib.sha256(body).hexdigest(), hashlib.sha256(body[: len(body) // 2]).hexdigest())
    )
    (cut / "manifest.toml").write_text(text)
    lacking = write_model(rig.home / "lacking", "2", external=True)
    (lacking / "manifest.toml").write_text((lacking / "manifest.toml").read_text().replace("weights.bin", "test.png"))
    for directory in (cut, lacking):
        with pytest.raises(ModelError):
            await rig.parts.intake.add(str(directory))
    assert left(rig) == []
    await rig.add("3", external=True)  # with its data it is good
    await rig.parts.deciding.activate("colours", "3")


async def test_a_version_that_was_spoilt_on_the_disk_is_not_activated_and_the_old_one_goes_on(rig: Rig) -> None:
    await rig.serve("1")
    await rig.add("2")
    path = rig.models / "colours" / "2" / "model.onnx"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ModelError, match="SHA-256"):
        await rig.parts.deciding.activate("colours", "2")
    assert rig.told("model.refused")[0]["version"] == "2"
    assert (await rig.service.infer(picture(), "a.png")).model_version == "1"
    with pytest.raises(NotFoundError, match="there are: 1, 2"):
        await rig.parts.deciding.activate("colours", "3")


async def test_a_switch_that_does_not_reach_the_disk_changes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.serve("1")
    await rig.add("2")

    async def full(*_: object, **__: object) -> None:
        raise DiskFullError("No room.", "make some.")

    monkeypatch.setattr(rig.parts.registry.setup.records, "write", full)
    with pytest.raises(StoreError):
        await rig.parts.deciding.activate("colours", "2")
    assert rig.row("1").active
    assert (await rig.service.infer(picture(), "a.png")).model_version == "1"


async def test_requests_go_on_while_versions_are_switched_and_the_old_one_is_freed(rig: Rig) -> None:
    await rig.serve("1")
    await rig.add("2")
    done: list[str] = []
    over = False

    async def asks(start: int) -> None:
        number = start
        while not over:
            number += 1
            done.append((await rig.service.infer(picture(shade=number, size=33 + number % 200), "a.png")).model_version)

    askers = [asyncio.create_task(asks(1000 * each)) for each in range(4)]
    for version in ("2", "1", "2"):
        count = len(done)
        await wait_for(lambda count=count: len(done) > count + 8)
        await rig.parts.deciding.activate("colours", version)
    count = len(done)
    await wait_for(lambda: len(done) > count + 12)
    over = True
    await asyncio.gather(*askers)  # none of them failed
    assert set(done) == {"1", "2"}
    assert done[-1] == "2"
    await wait_for(lambda: rig.service.status().engine.devices[0].loaded == ("colours@2",))


async def test_two_adds_of_one_version_at_once_give_one(rig: Rig) -> None:
    first, second = (write_model(rig.home / name, "1") for name in ("a", "b"))
    done = await asyncio.gather(*(rig.parts.intake.add(str(each)) for each in (first, second)), return_exceptions=True)
    errors = [each for each in done if isinstance(each, Exception)]
    assert [type(each) for each in errors] == [ConflictError]
    await rig.parts.deciding.activate("colours", "1")
    assert len(rig.service.status().models) == 1


async def test_what_serves_is_not_removed_and_what_does_not_is(rig: Rig) -> None:
    await rig.serve("1")
    await rig.serve("2")
    for change in (rig.parts.deciding.remove, rig.parts.deciding.archive):
        with pytest.raises(ConflictError, match="serves") as raised:
            await change("colours", "2")
        assert "model activate" in raised.value.next_step
    assert await rig.parts.deciding.remove("colours", "1") > 0
    assert {path.split("/")[1] for path in left(rig)} == {"2"}
    assert not rig.row("2").previous
    with pytest.raises(ConflictError, match="no version to go back to"):
        await rig.parts.deciding.rollback("colours")
    given = write_model(rig.given / "other", "7", name="other")
    await rig.parts.registry.scan()
    await rig.add("7b", name="other")
    await rig.parts.deciding.activate("other", "7b")
    with pytest.raises(ConflictError, match="set-up"):
        await rig.parts.deciding.remove("other", "7")
    assert given.exists()


async def test_what_a_set_up_put_there_serves_without_a_decision(rig: Rig) -> None:
    write_model(rig.given / "colours", "3.0")
    await rig.parts.registry.scan()
    assert (await rig.service.infer(picture(), "a.png")).model_version == "3.0"
    await rig.serve("4")
    assert (await rig.service.infer(picture("blue"), "a.png")).model_version == "4"
    await rig.parts.deciding.rollback("colours")
    assert rig.row("3.0").active
    write_model(rig.given / "colours", "3.1")  # the next set-up brings another version to its place
    await rig.parts.registry.scan()
    assert (await rig.service.infer(picture(size=50), "a.png")).model_version == "3.1"


async def test_archived_versions_make_room_and_that_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home", models={"disk_max_mib": 1})
    filling = b"x" * 300_000
    async with running(rig):
        for version in ("1", "2", "3", "4"):
            new = write_model(rig.home / f"new-{version}", version)
            (new / "weights.bin").write_bytes(filling + version.encode())
            digest = hashlib.sha256((new / "weights.bin").read_bytes()).hexdigest()
            text = (new / "manifest.toml").read_text()
            text = text.replace(
                'kind = "onnx"', f'kind = "onnx"\n\n[[files]]\npath = "weights.bin"\nsha256 = "{digest}"\nkind = "data"', 1
            )
            (new / "manifest.toml").write_text(text)
            rig.clock.ahead += 10  # type: ignore[attr-defined]
            await rig.parts.intake.add(str(new))
            await rig.parts.deciding.activate("colours", version)
        assert [row.version for row in rig.service.status().models] == ["2", "3", "4"]
        assert rig.service.status().dropped_models == ("colours@1 removed to make room",)
        assert rig.told("model.removed")[0]["why"] == "to make room"
        assert rig.service.status().models_bytes <= 2**20
        for version in ("2", "3"):  # one serves, one is the way back, and the third is no longer archived
            record = rig.parts.registry.names["colours"]
            await rig.parts.registry.put(msgspec.structs.replace(record, stages={**record.stages, version: "Staging"}))
        with pytest.raises(DiskFullError, match="no room") as raised:
            await rig.parts.intake._make_room(400_000)
        assert "model remove" in raised.value.next_step


async def test_what_a_life_before_left_half_done_goes(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    for place in (".staging/abc", ".removed/def/version"):
        (rig.models / place).mkdir(parents=True)
        (rig.models / place / "model.onnx").write_bytes(b"half")
    async with running(rig):
        assert left(rig) == []
        assert rig.service.status().models == ()


async def test_a_shadow_runs_beside_and_is_compared_on_the_same_inputs(rig: Rig) -> None:
    await rig.serve("1")
    await rig.add("2", flip=True, expects="blue")
    await rig.parts.deciding.split("colours", "2", "shadow", 100.0)
    for number in range(6):
        result = await rig.service.infer(picture("red" if number % 2 else "blue", 40 + number), "a.png")
        assert result.model_version == "1"
        await wait_for(lambda number=number: rig.service.status().splits[0].compared == number + 1)
    row = rig.service.status().splits[0]
    assert (row.mode, row.agreement, row.of_candidate.requests, row.of_candidate.errors) == ("shadow", 0.0, 6, 0)
    assert row.of_candidate.p95_ms is not None
    assert len(rig.results) == 6  # the shadow's are nobody's answer
    with pytest.raises(ConflictError, match="share of the requests"):
        await rig.parts.deciding.remove("colours", "2")
    await rig.parts.deciding.end_split("colours")
    assert rig.service.status().splits == ()


async def test_a_split_divides_the_requests_and_its_failures_harm_nobody(rig: Rig) -> None:
    await rig.serve("1")
    await rig.add("2", breaks_on_blue=True)
    await rig.parts.deciding.split("colours", "2", "ab", 50.0)
    versions = []
    for number in range(60):
        result = await rig.service.infer(picture("blue" if number % 2 else "red", 40 + number), "a.png")
        assert result.boxes[0].label == ("blue" if number % 2 else "red")
        versions.append(result.model_version)
    assert {"1", "2"} == set(versions)
    row = rig.service.status().splits[0]
    assert row.of_candidate.errors > 0
    assert row.of_active.errors == 0
    assert row.of_active.requests + row.of_candidate.requests == 60 + row.of_candidate.errors
    assert rig.service.status().errors == 0
    assert (await rig.service.health()).health is Health.healthy


async def test_a_version_that_fails_too_often_is_told_once_and_when_it_is_well_again(rig: Rig) -> None:
    await rig.serve("1", breaks_on_blue=True)
    for number in range(30):
        with pytest.raises(ModelError):
            await rig.service.infer(picture("blue", 40 + number), "a.png")
    await wait_for(lambda: rig.told("model.errors"))
    for number in range(100):
        await rig.service.infer(picture("red", 40 + number), "a.png")
    await wait_for(lambda: rig.told("model.errors-ended"))
    assert len(rig.told("model.errors")) == 1
    assert rig.row("1").served.errors == 30


async def test_drift_is_told_and_its_baseline_survives_a_restart(tmp_path: Path) -> None:
    wanted = {"models": {"drift_requests": 20}}
    async with running(Rig(tmp_path / "home", **wanted)) as rig:
        await rig.serve("1")
        for number in range(20):
            await rig.service.infer(picture("red", 40 + number), "a.png")
        await wait_for(lambda: rig.parts.registry.facts["colours@1"].baseline is not None)
    async with running(Rig(tmp_path / "home", **wanted)) as rig:
        assert rig.row("1").drift.state == "watching"
        for number in range(24):
            await rig.service.infer(picture("blue", 40 + number), "a.png")
        await wait_for(lambda: rig.told("model.drift"))
        facts = rig.told("model.drift")[0]
        assert facts["labels"] > 0.25
        assert facts["most"] in {"red: 100% at first, 0% now", "blue: 0% at first, 100% now"}
        assert rig.row("1").drift.state == "drifted"
        for number in range(24):
            await rig.service.infer(picture("red", 80 + number), "a.png")
        await wait_for(lambda: rig.told("model.drift-ended"))
        assert rig.row("1").drift.state == "watching"


def test_the_stability_index_is_the_one_of_the_books() -> None:
    """Two equal distributions have 0; for large counts the half that is added does not matter: Σ (a − e) ln(a / e)."""
    import math

    assert index({"a": 5, "b": 5}, {"a": 50, "b": 50}) == pytest.approx(0.0)
    expected = (0.6 - 0.5) * math.log(0.6 / 0.5) + (0.4 - 0.5) * math.log(0.4 / 0.5)
    assert index({"a": 500_000, "b": 500_000}, {"a": 600_000, "b": 400_000}) == pytest.approx(expected, rel=1e-3)
    watch = DriftWatch(10, 0.25)
    for number in range(500):
        watch.add(Findings(boxes=(Box(f"label {number}", 0.5, 0, 0, 1, 1),)))
    assert len(watch.baseline.labels) + len(watch._labels) <= 102  # type: ignore[union-attr]


def test_a_canary_is_judged_by_errors_times_and_enough_requests() -> None:
    settings = ModelSettings(canary_requests=50)
    split = Split(candidate="2", mode="canary", percent=10.0, since=0.0, until=1.0, wanted=50)

    def seen(new: tuple[int, int, float], old: tuple[int, int, float]) -> Comparison:
        found = Comparison()
        for figures, (requests, errors, each_ms) in ((found.candidate, new), (found.active, old)):
            for number in range(requests):
                figures.add(each_ms, good=number >= errors)
        return found

    good = judge(split, seen((50, 0, 10), (450, 0, 10)), 10, settings)
    assert (good.good, "p95 10 ms beside 10 ms" in good.reason) == (True, True)
    cases = {
        None: seen((49, 0, 10), (450, 0, 10)),
        "slower": seen((50, 0, 16), (450, 0, 10)),
        "failed": seen((50, 2, 10), (450, 0, 10)),
        "all of its 3 requests": seen((3, 3, 10), (9, 0, 10)),
    }
    for told, each in cases.items():
        verdict = judge(split, each, 10, settings)
        assert verdict.good is (None if told is None else False)
        assert told is None or told in verdict.reason
    assert judge(split, seen((50, 5, 10), (450, 45, 10)), 10, settings).good is True  # the old one fails as often
    assert judge(split, seen((9, 0, 10), (81, 0, 10)), 0, settings).good is False  # too few to judge by
    assert judge(split, seen((10, 0, 10), (90, 0, 10)), 0, settings).good is True


def test_findings_agree_by_place_and_label_whatever_their_order() -> None:
    one = Findings(boxes=(Box("bus", 0.9, 0, 0, 10, 10), Box("cat", 0.5, 20, 20, 30, 30)))
    assert agree(one, Findings(boxes=(Box("cat", 0.7, 21, 21, 31, 31), Box("bus", 0.6, 0, 1, 10, 11))))
    assert not agree(one, Findings(boxes=one.boxes[:1]))
    assert not agree(one, Findings(boxes=(one.boxes[0], Box("cat", 0.5, 40, 40, 50, 50))))
    assert agree(Findings(embedding=(1.0, 0.0)), Findings(embedding=(0.98, 0.199)))
    assert not agree(Findings(embedding=(1.0, 0.0)), Findings(embedding=(0.0, 1.0)))


async def test_a_bad_input_is_no_failure_of_a_version(rig: Rig) -> None:
    await rig.serve("1")
    with pytest.raises(ImageError):
        await rig.service.infer(b"words " * 99, "a.png")
    assert rig.row("1").served.requests == 0
    with pytest.raises(AbsentError, match="pose"):
        await rig.service.infer(picture(), "a.png", task="pose")
    with pytest.raises(ApplianceError, match="nobody"):
        await rig.service.infer(picture(), "a.png", model="nobody")
