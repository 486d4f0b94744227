"""The boot choice of a Raspberry Pi from its initramfs: the script is run here on a directory instead of a partition."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from filetree import FILES

from appliance.core.lifecycle.update.choice import Choice
from appliance.core.lifecycle.update.choicefiles import PiStore, overwrite
from tests.support import needs_program

SCRIPT = FILES / "root-arm64/etc/initramfs-tools/scripts/pi-choice"
FAKES = """
blkid() { echo /dev/null; }
mount() { :; }
umount() { :; }
"""


def act(tmp_path: Path, *words: str) -> str:
    """Run it with the directory in place of the mounted partition; it can mount nothing."""
    needs_program("busybox")
    text = SCRIPT.read_text().replace("at=/run/config", f"at={tmp_path}").replace("/run/autoboot.new", f"{tmp_path}.new")
    assert "/run/" not in text.replace(f"{tmp_path}", "")
    shell, _, rest = text.partition("set -eu\n")
    done = subprocess.run(
        ["busybox", "sh", "-c", f"{shell}set -eu\n{FAKES}{rest}", "pi-choice", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def put(tmp_path: Path, committed: str, first: str, **notes: object) -> None:
    """The files of a choice; `first` is what autoboot.txt names, and trial.txt says the rest."""
    store = PiStore(tmp_path)
    for path, data in store.files(Choice(first)):
        overwrite(path, data)
    told = {"committed": committed, "trial": "-", "left": 0, "seen": 0, "good": committed + "-", "way": "-", **notes}
    text = "# Prime Spark: the slot on trial\n" + "".join(f"{key}={value}\n" for key, value in told.items())
    overwrite(store.trial, text.encode().ljust(511, b"#") + b"\n")


def first(tmp_path: Path) -> str:
    return (tmp_path / "autoboot.txt").read_text().split("boot_partition=")[1][0]


def test_a_slot_on_trial_takes_its_place_back_at_once(tmp_path: Path) -> None:
    put(tmp_path, "A", "B", trial="B", way="s")
    before = (tmp_path / "trial.txt").read_bytes()
    assert "on trial" in act(tmp_path, "take-back", "B")
    assert (tmp_path / "autoboot.txt").read_bytes() == PiStore(tmp_path).files(Choice("A"))[0][1]
    assert (tmp_path / "trial.txt").read_bytes() == before


@pytest.mark.parametrize(
    ("slot", "now", "notes"),
    [("B", "B", {"trial": "B", "way": "-"}), ("A", "A", {"trial": "B", "way": "s"}),
     ("B", "B", {"trial": "B", "way": "s", "seen": 1}), ("A", "A", {}), ("", "A", {"trial": "A", "way": "s"})],
    ids=["firmware-asked", "not-the-trial", "seen-before", "nothing-on-trial", "not-by-slots"],
)  # fmt: skip
def test_nothing_else_is_taken_back(tmp_path: Path, slot: str, now: str, notes: dict[str, object]) -> None:
    put(tmp_path, "A", now, **notes)
    before = (tmp_path / "autoboot.txt").read_bytes()
    assert act(tmp_path, "take-back", slot) == ""
    assert (tmp_path / "autoboot.txt").read_bytes() == before


@pytest.mark.parametrize(("slot", "then"), [("A", "3"), ("B", "2")])
def test_a_committed_slot_that_cannot_be_mounted_gives_way(tmp_path: Path, slot: str, then: str) -> None:
    put(tmp_path, slot, slot)
    act(tmp_path, "give-way", slot)
    assert first(tmp_path) == then
    assert (tmp_path / "autoboot.txt").stat().st_size == 512


def test_a_trial_that_cannot_be_mounted_changes_nothing_more(tmp_path: Path) -> None:
    put(tmp_path, "A", "A", trial="B", way="s")
    act(tmp_path, "give-way", "B")
    assert first(tmp_path) == "2"


def test_damaged_files_are_left_to_the_system(tmp_path: Path) -> None:
    put(tmp_path, "?", "B", trial="B", way="s")
    before = (tmp_path / "autoboot.txt").read_bytes()
    with pytest.raises(subprocess.CalledProcessError):
        act(tmp_path, "take-back", "B")
    assert (tmp_path / "autoboot.txt").read_bytes() == before
