"""The boot choice: there is always something that boots, and what was not found healthy is not booted twice."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from appliance.core.lifecycle.update import choice as rules
from appliance.core.lifecycle.update.choice import Choice, ChoiceError
from appliance.core.lifecycle.update.choicefiles import GrubStore, PiStore
from tests.update.bootmodel import Content, Kind, Model

FRESH = Choice("A", good="A")
WAITS = Choice("A", "B", 1, good="A")
RUNS = Choice("A", "B", 0, 1, good="A")
CUTS = st.sampled_from([None, None, None, 0, 1, 2, 3])
"""Sectors after which the power goes."""


@pytest.mark.parametrize(
    ("now", "primary", "states"),
    [
        (FRESH, "A", {"A": True, "B": False}), (WAITS, "B", {"A": True, "B": True}), (RUNS, "A", {"A": True, "B": False}),
        (Choice("B", good="AB"), "B", {"A": False, "B": True}),
    ],
    ids=["fresh", "waiting", "running", "former"],
)  # fmt: skip
def test_what_rauc_is_told(now: Choice, primary: str, states: dict[str, bool]) -> None:
    assert rules.primary(now) == primary
    assert {slot: rules.bootable(now, slot) for slot in "AB"} == states


def test_a_trial_is_committed_only_by_itself() -> None:
    assert rules.set_primary(FRESH, "B") == WAITS
    assert rules.started(WAITS._replace(left=0), "B") == RUNS
    assert rules.set_good(RUNS, "B", "B") == Choice("B", good="AB")
    with pytest.raises(ChoiceError, match="does not run"):
        rules.set_good(RUNS, "B", "A")
    with pytest.raises(ChoiceError, match="does not run"):
        rules.set_good(RUNS, "A", "")
    assert rules.set_good(WAITS, "A", "A") == WAITS  # a healthy start of what is committed leaves the update waiting
    assert rules.set_good(RUNS._replace(boots=3), "A", "A") == FRESH  # and ends one that was not kept


def test_the_way_back_is_not_given_up_while_it_is_needed() -> None:
    with pytest.raises(ChoiceError, match="end the trial"):
        rules.set_bad(RUNS, "A", "B")  # what RAUC would do before it writes over slot A during the trial of B
    with pytest.raises(ChoiceError, match="committed"):
        rules.set_bad(FRESH, "A", "A")
    with pytest.raises(ChoiceError, match="committed"):
        rules.set_bad(FRESH, "A", "")
    assert rules.set_bad(WAITS, "B", "A") == FRESH
    assert rules.set_bad(Choice("B", good="AB"), "A", "B") == Choice("B", good="B")
    assert rules.set_bad(Choice("A", good="B"), "A", "B") == Choice("B", good="B")  # A did not start: B runs instead


def test_a_way_back_is_a_trial_too() -> None:
    former = Choice("B", good="AB")
    back = rules.set_primary(former, "A")
    assert (back.trial, back.left, back.good) == ("A", 1, "AB")
    assert rules.set_primary(back, "B") == former


SHAPES = [
    FRESH, WAITS, WAITS._replace(left=0), RUNS, Choice("B", good="AB"), Choice("B", "A", 1, good="AB"), Choice("B", good="B"),
]  # fmt: skip


@pytest.mark.parametrize("make", [GrubStore, PiStore], ids=["grub", "pi"])
def test_a_write_that_ends_at_any_byte_leaves_a_choice_that_boots(make: type[GrubStore | PiStore], tmp_path: Path) -> None:
    """Finer than any disk tears: a sector is written whole or not at all. Both slots hold a system here."""
    store = make(tmp_path)
    for before, after in itertools.permutations(SHAPES, 2):
        old = dict(store.files(before))
        for path, data in old.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for path, data in store.files(after):
            differ = [place for place in range(len(data)) if data[place] != old[path][place]]
            for place in differ:
                path.write_bytes(data[:place] + old[path][place:])
                found, wrong = store.read()
                assert wrong in {"", "[tryboot]"}
                assert found.committed in {before.committed, after.committed}
                assert found.trial in {"", before.trial, after.trial}
            path.write_bytes(data)
        assert store.read() == (after, "")


class Machine(RuleBasedStateMachine):
    """Installs, restarts, commits and ways back, with a cut of the power at any sector of any of them."""

    kind: Kind

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)

    @initialize()
    def begin(self) -> None:
        self.model = Model(Path(self.folder.name), self.kind, self.patch)

    def teardown(self) -> None:
        self.patch.undo()
        self.folder.cleanup()

    @property
    def on_trial(self) -> bool:
        return rules.uncommitted(self.model.choice, self.model.running)

    @rule(content=st.sampled_from(["healthy", "sick", "panics", "nothing"]), cut=CUTS, steps=st.sampled_from([2, 2, 2, 1, 0]))
    def install(self, content: Content, cut: int | None, steps: int) -> None:
        """As RAUC does it: bad, written, primary. `steps`: where the power goes beside the writes of the choice."""
        model, slot = self.model, rules.other(self.model.running)
        with model.cut_after(cut):
            if model.does("set-state", slot, "bad"):
                assert self.on_trial
                return
            model.content[slot] = "nothing"
            if steps == 0:
                return
            model.content[slot], model.tries = content, 0
            if steps == 2:
                model.does("set-primary", slot)

    @rule(cut=CUTS)
    def restart(self, cut: int | None) -> None:
        with self.model.cut_after(cut):
            self.model.restart()

    @rule()
    def lose_power(self) -> None:
        with self.model.cut_after(0):
            self.model.power.write(self.model.root / "nothing", b"x")

    @rule(cut=CUTS)
    def look_at_health(self, cut: int | None) -> None:
        """What the appliance does: a healthy trial is committed, a sick one is left; what only stands in stays that."""
        model = self.model
        with model.cut_after(cut):
            if self.on_trial and model.content[model.running] != "healthy":
                model.restart()
            elif self.on_trial or model.running == model.choice.committed:
                assert model.does("set-state", model.running, "good") == 0

    @precondition(lambda self: not self.on_trial)
    @rule(cut=CUTS)
    def go_back(self, cut: int | None) -> None:
        model, slot = self.model, rules.other(self.model.running)
        if slot in model.choice.good:
            model.tries = 0
            with model.cut_after(cut):
                model.does("set-primary", slot)

    @invariant()
    def all_is_sound(self) -> None:
        sound(self.model)


def life(model: Model, content: Content) -> None:
    """An update from its installation to what becomes of it, and two more restarts."""
    model.does("set-state", "B", "bad")
    model.content["B"], model.tries = content, 0
    model.does("set-primary", "B")
    for _ in range(3):
        model.restart()
        sound(model)
        if not rules.uncommitted(model.choice, model.running) or model.content[model.running] == "healthy":
            model.does("set-state", model.running, "good")


def sound(model: Model) -> None:
    """What always holds."""
    assert model.content[model.running] in {"healthy", "sick"}
    assert model.content[model.choice.committed] == "healthy"
    assert all(model.content[slot] == "healthy" for slot in model.choice.good)
    assert model.tries <= 1


@pytest.mark.parametrize("kind", ["grub", "tryboot", "swap"])
@pytest.mark.parametrize("content", ["healthy", "sick", "panics", "nothing"])
def test_an_update_survives_a_cut_at_every_sector(kind: Kind, content: Content, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for cut in [None, *range(14)]:
            (home := tmp_path / str(cut)).mkdir()
            model = Model(home, kind, patch)
            with model.cut_after(cut):
                life(model, content)
            sound(model)
            for _ in range(3):
                model.restart()
                sound(model)
            kept = "B" if content == "healthy" and cut is None else None
            assert kept in {None, model.choice.committed}


class Grub(Machine):
    """amd64."""

    kind = "grub"


class Tryboot(Machine):
    """A Pi whose kernel can ask the firmware."""

    kind = "tryboot"


class Swap(Machine):
    """A Pi whose kernel cannot."""

    kind = "swap"


@pytest.mark.parametrize("machine", [Grub, Tryboot, Swap], ids=lambda each: each.kind)
def test_whatever_happens_something_boots_and_nothing_bad_twice(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40, stateful_step_count=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
        ),
    )
