"""Root's program: what RAUC and the units of the image call, on files that GRUB and the Pi's firmware read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.core.lifecycle.update import bootslots
from appliance.core.lifecycle.update.bootslots import NOTE, Boot, Places
from appliance.core.lifecycle.update.choice import Choice, ChoiceError, set_primary
from appliance.core.lifecycle.update.choicefiles import GrubStore, PiStore
from tests.support import needs_program

FRESH = Choice("A", good="A")
HEAVY = {"asyncio", "msgspec", "pydantic", "json", "subprocess", "logging", "socket", "email", "argparse", "dataclasses"}


class Here:
    """A boot partition that is a directory.

    Args:
        root: An empty directory.
        kind: GRUB's or the Pi's.
    """

    def __init__(self, root: Path, kind: type[GrubStore | PiStore], slot: str = "A") -> None:
        self.places = Places(root / "boot", root / "run", root / "cmdline", root / "param", root / "mounts")
        self.places.boot.mkdir()
        self.places.mounts.touch()
        self.slot(slot)
        self.store = kind(self.places.boot)
        for path, data in self.store.files(FRESH):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def slot(self, name: str, way: str = "") -> None:
        """What the kernel was told."""
        self.places.cmdline.write_text(f"quiet rauc.slot={name} ro {way}\n")

    def call(self, *words: str) -> int:
        """The program."""
        places = self.places
        given = ["--boot", str(places.boot), "--run", str(places.run), "--cmdline", str(places.cmdline)]
        return bootslots.main([*given, "--reboot-param", str(places.reboot_param), *words])


@pytest.fixture(params=[GrubStore, PiStore], ids=["grub", "pi"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Here:
    return Here(tmp_path, request.param)


def test_rauc_gets_what_it_documents(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    calls = [
        ("get-primary", "A"), ("get-current", "A"), ("get-state A", "good"), ("get-state B", "bad"), ("set-state B bad", ""),
        ("set-primary B", ""), ("get-primary", "B"), ("get-state B", "good"), ("set-state A good", ""), ("get-primary", "B"),
    ]  # fmt: skip
    for words, said in calls:
        assert here.call(*words.split()) == 0, words
        assert capsys.readouterr().out.strip() == said, words


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("", 2), ("no-such", 2), ("get-state C", 1), ("get-state", 1), ("set-primary", 1), ("set-state A fine", 1),
        ("set-state A", 1), ("set-state B good", 1), ("set-state A bad", 1),
        ("uncommitted", 1), ("deadline", 1), ("healthy", 0), ("show", 0),
    ],
)  # fmt: skip
def test_a_wrong_call_fails_and_changes_nothing(words: str, code: int, here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.call(*words.split()) == code
    assert here.store.read() == (FRESH, "")
    assert bool(capsys.readouterr().err) is (code > 0 and words != "uncommitted")


def test_the_deadline_ends_only_what_nobody_found_healthy(here: Here, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert here.call("deadline", "touch", str(mark)) == 0
    assert not mark.exists()
    here.call("set-primary", "B")
    assert here.call("deadline", "touch", str(mark)) == 0  # A runs, which is committed
    assert not mark.exists()
    here.slot("B")
    here.call("started")
    assert (here.store.read()[0].left, here.store.read()[0].seen) == (0, 1)
    assert here.call("uncommitted") == 0
    assert here.call("deadline", "touch", str(mark)) == 0
    assert mark.exists()
    mark.unlink()
    assert here.call("set-state", "B", "good") == 0
    here.call("deadline", "touch", str(mark))
    assert not mark.exists()


DAMAGE = {
    "empty": b"", "zeros": bytes(1024), "unknown": b"# GRUB Environment Block\ncommitted=X\n".ljust(1024, b"#"),
    "short": b"[all]\n",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_written_anew_by_what_runs_and_told(damage: bytes, here: Here) -> None:
    here.slot("B")
    for path, _ in here.store.files(FRESH):
        path.write_bytes(damage)
    assert here.call("started") == 0
    assert here.store.read() == (Choice("B", good="B"), "")
    assert "slot B, which runs" in (here.places.run / NOTE).read_text()
    assert all(path.read_bytes() == data for path, data in here.store.files(Choice("B", good="B")))


def test_a_link_in_the_appliances_directory_leads_root_nowhere(here: Here, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("")
    here.places.run.mkdir(parents=True, exist_ok=True)
    (here.places.run / NOTE).symlink_to(other)
    here.slot("B")
    for path, _ in here.store.files(FRESH):
        path.write_bytes(b"")
    assert here.call("started") == 0
    assert here.store.read() == (Choice("B", good="B"), "")
    assert other.read_text() == ""


def test_where_nothing_tells_the_slot_it_fails(here: Here) -> None:
    here.places.cmdline.write_text("quiet\n")
    for path, _ in here.store.files(FRESH):
        path.unlink()
    assert here.call("get-primary") == 1
    assert here.call("started") == 1
    assert here.call("get-current") == 1


def test_a_trial_note_that_is_lost_costs_the_trial_only(tmp_path: Path) -> None:
    here = Here(tmp_path, PiStore)
    here.call("set-primary", "B")
    (here.places.boot / "trial.txt").write_bytes(b"garbage")
    assert here.call("started") == 0
    assert here.store.read() == (Choice("A"), "")
    assert "trial.txt" in (here.places.run / NOTE).read_text()


def test_the_partition_is_writable_only_while_something_is_written(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.places.mounts.write_text(f"29 1 8:1 / {here.places.boot} ro,relatime shared:2 - vfat /dev/sda1 ro,fmask=0022\n")
    ran: list[str] = []

    def run(command: Sequence[str]) -> str:
        ran.append(" ".join(command[:3]))
        return ""

    boot = Boot(here.places, run)
    boot.change(lambda now: now)
    assert ran == []
    boot.change(lambda now: set_primary(now, "B"))
    assert ran == ["mount -o remount,rw", "mount -o remount,ro"]

    def fails(path: Path, data: bytes) -> None:
        raise OSError("no")

    monkeypatch.setattr(bootslots, "overwrite", fails)
    with pytest.raises(OSError, match="no"):
        boot.change(lambda now: set_primary(now, "A"))
    assert ran[2:] == ["mount -o remount,rw", "mount -o remount,ro"]
    here.places.mounts.write_text(f"29 1 8:1 / {here.places.boot} rw,relatime - vfat /dev/sda1 rw\n")
    with pytest.raises(OSError, match="no"):
        boot.change(lambda now: set_primary(now, "A"))
    assert len(ran) == 4


def test_files_are_overwritten_where_they_lie(here: Here) -> None:
    before = {path: (path.stat().st_ino, path.stat().st_size) for path, _ in here.store.files(FRESH)}
    here.call("set-primary", "B")
    assert {path: (path.stat().st_ino, path.stat().st_size) for path in before} == before


@pytest.mark.parametrize(
    ("way", "named", "param"), [("tryboot", "boot_partition=2", "0 tryboot"), ("swap", "boot_partition=3", None)]
)
@pytest.mark.parametrize("jobs", ["1 reboot.target start waiting", "1 poweroff.target start waiting"], ids=["restart", "off"])
def test_a_pi_asks_for_the_trial_at_a_restart(way: str, named: str, param: str | None, jobs: str, tmp_path: Path) -> None:
    here = Here(tmp_path, PiStore)
    here.slot("A", f"prime-spark.way={way}")
    boot, restarts = Boot(here.places, lambda command: jobs), "reboot" in jobs
    assert bootslots.COMMANDS["stopping"](boot, []) == 0
    assert not here.places.reboot_param.exists()
    here.call("set-primary", "B")
    assert bootslots.COMMANDS["stopping"](boot, []) == 0
    now = here.store.read()[0]
    assert (now.committed, now.trial, now.left) == ("A", "B", 0 if restarts else 1)
    text = (here.places.boot / "autoboot.txt").read_text().partition("[tryboot]")[0]
    assert (named if restarts else "boot_partition=2") in text
    assert here.places.reboot_param.exists() is (restarts and param is not None)
    here.call("started")  # whatever was booted: the committed slot is named again
    assert "boot_partition=2" in (here.places.boot / "autoboot.txt").read_text().partition("[tryboot]")[0]


def test_grub_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    here = Here(tmp_path, GrubStore)
    tool, path = needs_program("grub-editenv"), here.places.boot / "EFI/BOOT/grubenv"
    here.call("set-primary", "B")
    said = subprocess.run([tool, str(path), "list"], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["committed=A", "trial=B", "left=1", "boots=0", "seen=0", "good=A-"]
    subprocess.run([tool, str(path), "set", "left=0", "boots=3", "further=yes"], check=True)
    assert here.store.read() == (Choice("A", "B", 0, 0, 3, "A"), "")
    assert here.call("set-state", "A", "good") == 0
    assert here.store.read() == (FRESH, "")
    assert "further=yes" in path.read_text()
    subprocess.run([tool, str(path), "set", f"long={'x' * 500}"], check=True)
    assert here.call("set-primary", "B") == 1  # all that counts lies in one sector, or nothing is written


def test_two_programs_do_not_write_at_once(here: Here) -> None:
    boot = Boot(here.places, lambda command: "")
    code = "import sys; from appliance.core.lifecycle.update import bootslots; sys.exit(bootslots.main(sys.argv[1:]))"
    given = ["--boot", str(here.places.boot), "--cmdline", str(here.places.cmdline), "set-primary", "B"]
    other: list[subprocess.Popen[bytes]] = []

    def change(now: Choice) -> Choice:
        other.append(subprocess.Popen([sys.executable, "-c", code, *given]))
        with pytest.raises(subprocess.TimeoutExpired):
            other[0].wait(0.5)
        return now._replace(boots=1)

    boot.change(change)
    assert other[0].wait(20) == 0
    assert here.store.read()[0].trial == "B"


def test_it_loads_nothing_heavy() -> None:
    code = "import sys, appliance.core.lifecycle.update.bootslots; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "appliance.core.lifecycle.update.choice" in loaded
    assert not HEAVY & set(loaded)


def test_a_choice_of_no_slot_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ChoiceError, match="not there"):
        GrubStore(tmp_path).read()
