"""Updates on the command line, in metrics and alerts: what is told, and what is not made up."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from appliance import cli, paths
from appliance.core.actions import ActionInfo
from appliance.core.alerts import updates
from appliance.core.clock import SystemClock
from appliance.core.lifecycle.update.model import Checked, OutcomeKind, Release, SlotProof, UpdateStatus
from appliance.core.metrics import update_samples
from appliance.core.model import Health, Phase, ServiceStatus
from appliance.core.state import LiveState, Section
from appliance.screens import lifecycle_system as system
from appliance.verbs import update as verbs
from appliance.verbs.context import Context
from tests.update import statuses

EACH = {name.lower(): value for name, value in vars(statuses).items() if isinstance(value, UpdateStatus)}


def plain(value: Any) -> Any:
    """As it comes out of the control socket."""
    return msgspec.json.decode(msgspec.json.encode(value))


def text(name: str, value: Any) -> str:
    """What the command line prints."""
    return "\n".join(str(block) for block in verbs.FORMS[name](plain(value), 100))


def lines(status: UpdateStatus, **changes: Any) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in system.lines(status, None, **changes))


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("runs", ["1.2.0 (arm64) from slot B, which is claimed", "slot A      1.1.0; former: there is a way back to it",
                  "slot B      1.2.0, runs; claimed: every start boots it", "1.3.0 is there, 431.0 MiB, of 2 d ago",
                  "1.2.0 was found healthy and kept, 9 d ago"]),
        ("waits", ["1.3.0 in slot A: the next start tries it; prime-spark update reboot",
                   "slot A      1.3.0; pending: the next start tries it"]),
        ("trial", ["1.3.0 (arm64) from slot A, on trial: slot B is claimed",
                   "trial of 1.3.0: 41 s steady of 60, 0 services hold it", "8 min 20 s left, then slot B is started again"]),
        ("held", ["0 s steady of 60, 6 services hold it", "kafka: no broker answers", "next: see the network",
                  "and 2 services more", "1 min 2 s left"]),
        ("fell", ["1.3.0 was left again for 1.2.0, 3 d ago", "slot A was not kept: kafka: no broker answers",
                  "next: take another.", "slot A      1.3.0; not to be booted; kafka: no broker answers"]),
        ("elsewhere", ["1.2.0; this machine was not started from our image", "apt install"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_status_tells_slots_trial_and_outcome(status: str, told: list[str]) -> None:
    found = text("update.status", EACH[status])
    for each in told:
        assert each in found
    assert ("slot A" in found) is (status != "elsewhere")


def test_each_outcome_and_each_answer_of_a_source_has_words() -> None:
    last = statuses.RUNS.last
    assert last is not None
    for kind in OutcomeKind:
        found = lines(replace(statuses.RUNS, last=replace(last, kind=kind, next_step="do this")))
        assert "1.2.0" in found
        assert ("next: do this" in found) is (
            kind not in {OutcomeKind.installed, OutcomeKind.committed, OutcomeKind.rolled_back}
        )
    bare = replace(statuses.RUNS, newest=None)
    assert "nothing is newer, looked 1 h ago" in lines(bare)
    assert "not looked yet; prime-spark update check" in lines(replace(bare, checked=None))
    assert "not known: it is gone next: plug it in" in lines(replace(bare, check_problem="it is gone", check_step="plug it in"))
    assert "no source is configured" in lines(replace(bare, source=""))
    assert "now         fetching 42%" in lines(replace(bare, doing="fetching", progress=0.42))
    assert "repaired    grubenv" in lines(replace(bare, repaired="grubenv"))
    assert "no slot is claimed" in lines(replace(bare, committed=None))


def test_the_service_says_why_there_are_none() -> None:
    service = ServiceStatus("update", "Updates", Phase.stopped, Health.absent, "rauc is not installed", "flash our image.")
    found = ["".join(piece for piece, _ in line) for line in system.lines(statuses.ELSEWHERE, service)]
    assert found == ["runs        1.2.0; rauc is not installed", "next        flash our image."]
    assert system.slots(replace(statuses.RUNS, booted=None)) == []


def test_what_a_source_has_is_a_table() -> None:
    older = Release("1.1.0", "arm64", "/mnt/nas/releases/b.raucb")
    found = Checked("1.3.0 is newer than 1.2.0, which runs here.", statuses.NEWER, (statuses.NEWER, older))
    blocks = verbs.FORMS["update.check"](plain(found), 100)
    assert str(blocks[0]) == found.said
    assert getattr(blocks[1], "row_count", 0) == 2
    assert "prime-spark update install" in str(blocks[-1])
    assert len(verbs.FORMS["update.check"](plain(Checked("Nothing there.")), 100)) == 1


def test_slots_that_were_read_again_are_told() -> None:
    proofs = [SlotProof("A", "boot", True, "as written"), SlotProof("A", "system", False, "other bytes"),
              SlotProof("B", "boot", None, "nothing to compare it with")]  # fmt: skip
    found = text("update.verify", {"job_id": "7", "result": proofs})
    assert [line.split()[3] for line in found.splitlines()] == ["good", "DAMAGED", "not"]
    assert "prime-spark job show 7" in text("update.verify", {"job_id": "7", "result": None})
    assert text("update.rollback", {"done": "slot A is tried", "restart": ""}) == "slot A is tried"


class Socket:
    """Remembers what a running appliance is asked (a Client)."""

    local = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def actions(self) -> list[ActionInfo]:
        from appliance.core.catalog.update import update_actions
        from appliance.core.lifecycle.update.service import UpdateService

        def none() -> Any:
            raise NotImplementedError

        state = LiveState(SystemClock())
        return [each.describe() for each in update_actions(UpdateService(none, state, "1"), state)]

    def may(self, _: ActionInfo) -> bool:
        return True

    def invoke(self, name: str, args: dict[str, Any], *, confirm: bool = False) -> Any:
        self.asked.append((name, args))
        return None

    def close(self) -> None:
        """It has nothing to let go of."""


@pytest.mark.parametrize("word", ["here.raucb", "1.3.0", ""])
def test_a_bundle_is_named_from_where_its_reader_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    (tmp_path / "here.raucb").touch()
    monkeypatch.chdir(tmp_path)
    client, out = Socket(), io.StringIO()
    context = Context(client, paths.find({"PRIME_SPARK_HOME": str(tmp_path)}), {}, out, 100, colour=False)
    assert cli.run(["update", "install", *([word] if word else []), "--yes"], context, out) == 0, out.getvalue()
    expected = str(tmp_path / word) if word.endswith("raucb") else word
    assert client.asked[0][0] == "update.install"
    assert client.asked[0][1].get("what", "") == expected


def test_numbers_are_those_that_are_known() -> None:
    assert list(update_samples(None)) == list(update_samples(statuses.ELSEWHERE)) == []
    for name, status in EACH.items():
        found = {(each.name, each.labels): each.value for each in update_samples(status)}
        assert len(found) == len(list(update_samples(status))), name
    held = {each.name: each.value for each in update_samples(statuses.HELD) if each.value}
    assert held["edge_update_trial_held"] == 6
    assert held["edge_update_trial_left_seconds"] == 62
    assert {each.labels[0][1] for each in update_samples(statuses.HELD) if each.name == "edge_update_trial" and each.value} == {
        "running"
    }
    assert "edge_update_trial_left_seconds" not in {each.name for each in update_samples(statuses.RUNS)}
    last = [each for each in update_samples(statuses.FELL) if each.name == "edge_update_last_timestamp_seconds"]
    assert last[0].labels == (("outcome", "fell_back"), ("version", "1.3.0"))


def test_alerts_tell_of_an_update_that_was_not_kept_and_of_one_that_waits() -> None:
    state = LiveState(SystemClock())
    for status, kept, days in (
        (statuses.ELSEWHERE, None, None), (statuses.RUNS, 0.0, 2.0), (statuses.FELL, 1.0, 0.0),
        (replace(statuses.RUNS, last=None, newest=replace(statuses.NEWER, published=None)), 0.0, None),
        (replace(statuses.RUNS, source=""), 0.0, None),
    ):  # fmt: skip
        state.put(Section.update, status)
        assert updates.kept(state)[0].value == kept
        found = updates.waiting(state)[0].value
        assert found == (None if days is None else pytest.approx(days, abs=0.1))
    state.put(Section.update, statuses.FELL)
    assert "1.3.0 was not kept: slot A was not kept" in updates.kept(state)[0].message
