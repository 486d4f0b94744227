"""A machine as a model: GRUB or the Pi's firmware, what lies in its slots, and a power that goes at any write.

The choice itself is real: the program of the image, on real files. What GRUB and the firmware do with these files is played.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from appliance.core.lifecycle.update import bootslots
from appliance.core.lifecycle.update.bootslots import Places
from appliance.core.lifecycle.update.choice import Choice, ChoiceError, other
from appliance.core.lifecycle.update.choicefiles import PARTITIONS, SECTOR, GrubStore, PiStore, pairs

Kind = Literal["grub", "tryboot", "swap"]
Content = Literal["healthy", "sick", "panics", "nothing"]
"""What a slot does: all well; up and not well; the kernel loads and goes no further; no kernel can be loaded."""


class PowerCutError(Exception):
    """The power went."""


class Power:
    """Writes in place, sector by sector, until the power goes.

    Attributes:
        left: Sectors that are still written; None for all.
    """

    def __init__(self) -> None:
        self.left: int | None = None

    def write(self, path: Path, data: bytes) -> None:
        """What stands in for an O_SYNC write (choicefiles.overwrite)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_bytes() if path.exists() else b""
        for start in range(0, len(data), SECTOR):
            if self.left == 0:
                raise PowerCutError
            self.left = None if self.left is None else self.left - 1
            before = before[:start] + data[start : start + SECTOR] + before[start + SECTOR :]
            path.write_bytes(before)


class Model:
    """It.

    Args:
        root: An empty directory.
        kind: How it boots.
        patch: Puts the model's writes in the place of real ones.
    """

    def __init__(self, root: Path, kind: Kind, patch: pytest.MonkeyPatch) -> None:
        self.root, self.kind, self.power = root, kind, Power()
        self.places = Places(
            root / "boot", root / "run", root / "cmdline", root / "reboot-param", root / "mounts"
        )  # fmt: skip
        self.places.boot.mkdir()
        self.places.mounts.touch()
        patch.setattr(bootslots, "overwrite", self.power.write)
        self.content: dict[str, Content] = {"A": "healthy", "B": "nothing"}
        self.tries = 0
        """How often the slot that was installed last was booted before it was committed."""
        self.running = ""
        store = GrubStore(self.places.boot) if kind == "grub" else PiStore(self.places.boot)
        for path, data in store.files(Choice("A", good="A")):
            self.power.write(path, data)
        self.boot()

    @property
    def choice(self) -> Choice:
        """As it lies there."""
        return (GrubStore if self.kind == "grub" else PiStore)(self.places.boot).read()[0]

    def does(self, *words: str) -> int:
        """A command of the image's program; systemctl, where it asks, tells of a restart."""

        def run(command: Sequence[str]) -> str:
            assert command[:2] == ["systemctl", "list-jobs"]
            return "1 reboot.target start waiting\n"

        boot = bootslots.Boot(self.places, run)
        try:
            return bootslots.COMMANDS[words[0]](boot, words[1:])
        except ChoiceError:
            return 1

    @contextmanager
    def cut_after(self, sectors: int | None) -> Iterator[None]:
        """The power goes after so many sectors; where less is written, it does not go."""
        self.power.left = sectors
        try:
            yield
        except PowerCutError:
            self.running = ""
            self.power.left = None
            self.places.reboot_param.unlink(missing_ok=True)
            self.boot()
        finally:
            self.power.left = None

    def restart(self) -> None:
        """An orderly restart."""
        self.does("stopping")
        asked = self.places.reboot_param.exists() and self.places.reboot_param.read_text() == "0 tryboot"
        self.places.reboot_param.unlink(missing_ok=True)
        self.running = ""
        self.boot(tryboot=asked)

    def boot(self, *, tryboot: bool = False) -> None:
        """From the boot manager to a slot that is up; a kernel that panics resets the machine, which forgets the asking."""
        for _ in range(12):
            slot = self._picked(tryboot)
            tryboot = False
            if slot is None:
                continue
            (self.root / "cmdline").write_text(f"root=x rauc.slot={slot} prime-spark.way={self.kind}")
            now = self.choice
            if self.kind == "swap":
                self._take_back(now, slot)
            if slot != now.committed and slot == now.trial:
                self.tries += 1
            if self.content[slot] == "panics":
                continue
            self.running = slot
            self.does("started")
            return
        raise AssertionError(f"nothing starts: {self.choice}, {self.content}")

    def _picked(self, tryboot: bool) -> str | None:
        """What the boot manager loads; None where it found nothing this time and resets."""
        if self.kind == "grub":
            return self._grub()
        first = next(slot for slot, number in PARTITIONS.items() if number == self._named("tryboot" if tryboot else "all"))
        return next((each for each in (first, other(first)) if self.content[each] != "nothing"), None)

    def _named(self, section: str) -> int:
        text = (self.places.boot / "autoboot.txt").read_text()
        return int(pairs(text.partition(f"[{section}]")[2].partition("[")[0])["boot_partition"])

    def _grub(self) -> str | None:
        found = pairs((self.places.boot / "EFI/BOOT/grubenv").read_text())
        slot, boots = found["committed"], int(found["boots"])
        if found["left"] == "1" and found["trial"] in PARTITIONS:
            self._grub_saves(left="0")
            slot = found["trial"]
        elif boots < 4:
            self._grub_saves(boots=str(boots + 1))
        elif found["good"] == "AB":
            self._grub_saves(boots="0")
            slot = other(slot)
        return next((each for each in (slot, other(slot)) if self.content[each] != "nothing"), None)

    def _grub_saves(self, **values: str) -> None:
        path = self.places.boot / "EFI/BOOT/grubenv"
        text = path.read_text()
        for key, value in values.items():
            text = text.replace(f"{key}={pairs(text)[key]}", f"{key}={value}")
        self.power.write(path, text.encode())

    def _take_back(self, now: Choice, slot: str) -> None:
        """The first act of the trial's initramfs."""
        if now.armed and slot == now.trial:
            path, data = PiStore(self.places.boot).files(now._replace(armed=0))[0]
            self.power.write(path, data)
