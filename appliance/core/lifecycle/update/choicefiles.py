"""The boot choice on the FAT partition that GRUB or the Pi's firmware reads. Imported by root's programs: nothing heavy here.

The files have a fixed size and are only overwritten in place, without a truncation, with all that counts in the first sector
of 512 bytes: a cut of the power leaves the old sector or the new one. Every key has a value of one length, so that a mixture
of both would be a choice that can be read too.
"""

from __future__ import annotations

import os
from pathlib import Path

from appliance.core.lifecycle.update.choice import SLOTS, Choice, ChoiceError, other

SECTOR = 512
HEADER = b"# GRUB Environment Block\n"
GRUBENV, AUTOBOOT, TRIAL = "EFI/BOOT/grubenv", "autoboot.txt", "trial.txt"
KEYS = ("committed", "trial", "left", "boots", "seen", "good")
PARTITIONS = {"A": 2, "B": 3}
"""Of the boot partitions, for the Pi's firmware."""


def pairs(text: str) -> dict[str, str]:
    """Lines of KEY=VALUE; the first one of a key counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(key.strip(), value.strip())
    return found


def choice_of(found: dict[str, str], committed: str) -> tuple[Choice, str]:
    """(the choice, what of it could not be read and was left out)."""
    trial, good = found.get("trial", "-"), found.get("good", "")
    wrong = [] if trial in {"A", "B", "-", ""} else ["trial"]
    wrong += [key for key in ("left", "seen", "boots") if not found.get(key, "0").isdecimal()]

    def number(key: str, top: int) -> int:
        return 0 if key in wrong else min(int(found.get(key, "0")), top)

    tried = trial if trial in SLOTS and trial != committed and "left" not in wrong else ""
    known = "".join(each for each in SLOTS if each in good)
    whole = Choice(committed, tried, number("left", 1), number("seen", 1), number("boots", 9), known)
    return (whole if whole.trial else whole._replace(left=0, seen=0)), ", ".join(wrong)


def lines_of(now: Choice, keys: tuple[str, ...]) -> str:
    """As they are written: each value always of the same length."""
    told = {
        "committed": now.committed, "trial": now.trial or "-", "left": f"{now.left:d}", "boots": f"{min(now.boots, 9):d}",
        "seen": f"{now.seen:d}", "good": "".join(each if each in now.good else "-" for each in SLOTS),
    }  # fmt: skip
    return "".join(f"{key}={told[key]}\n" for key in keys)


def overwrite(path: Path, data: bytes) -> None:
    """Replace a file's bytes in place, durably. Raises OSError.

    A file that is not there is made, and one that is longer is cut; neither happens to files that were sound before.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_SYNC | os.O_CLOEXEC)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_SYNC | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        done = os.pwrite(handle, data, 0)
        if done != len(data):
            raise OSError(f"only {done} of {len(data)} bytes were written to {path}")
        if os.fstat(handle).st_size > len(data):
            os.ftruncate(handle, len(data))
        os.fsync(handle)
    finally:
        os.close(handle)


class GrubStore:
    """GRUB's environment block (amd64).

    Args:
        boot: Where the FAT partition is mounted.
    """

    SIZE = 1024

    def __init__(self, boot: Path) -> None:
        self.path = boot / GRUBENV

    def read(self) -> tuple[Choice, str]:
        """(the choice, what of it could not be read). Raises ChoiceError where nothing can be told."""
        found = pairs(self._text())
        if found.get("committed") not in SLOTS:
            raise ChoiceError(f"{self.path} does not tell which slot is committed")
        return choice_of(found, found["committed"])

    def _text(self) -> str:
        raw = self.path.read_bytes() if self.path.is_file() else b""
        if len(raw) != self.SIZE or not raw.startswith(HEADER):
            raise ChoiceError(f"{self.path} is {'damaged' if raw else 'not there'}")
        return raw.decode("ascii", "replace")

    def files(self, now: Choice) -> list[tuple[Path, bytes]]:
        """What is to be written, in this order. Raises ChoiceError where it has no room in the first sector."""
        try:
            kept = {key: value for key, value in pairs(self._text()).items() if key not in KEYS and (key + value).isascii()}
        except ChoiceError:
            kept = {}
        text = HEADER + (lines_of(now, KEYS) + "".join(f"{key}={value}\n" for key, value in kept.items())).encode("ascii")
        if len(text) > SECTOR:
            raise ChoiceError(f"{self.path} has no room for further keys: {', '.join(kept)}")
        return [(self.path, text.ljust(self.SIZE, b"#"))]


class PiStore:
    """autoboot.txt, which the Pi's firmware reads, and trial.txt beside it (arm64).

    autoboot.txt names the committed slot, but for a moment: where the kernel cannot ask the firmware for one start of the
    trial, it names the trial from the restart on, until the first act of the trial's initramfs names the committed slot again
    (`way=s`).

    Args:
        boot: Where the FAT partition is mounted.
    """

    def __init__(self, boot: Path) -> None:
        self.path = boot / AUTOBOOT
        self.trial = boot / TRIAL

    def read(self) -> tuple[Choice, str]:
        """(the choice, what of it could not be read). Raises ChoiceError where nothing can be told."""
        text = self.path.read_text("ascii", "replace") if self.path.is_file() else ""
        slots = {str(number): slot for slot, number in PARTITIONS.items()}
        named = slots.get(_section(text, "all").get("boot_partition", ""))
        if named is None:
            raise ChoiceError(f"{self.path} does not tell which slot is committed")
        raw = self.trial.read_bytes() if self.trial.is_file() else b""
        found = pairs(raw.decode("ascii", "replace"))
        armed = found.get("way") == "s" and found.get("seen") == "0" and found.get("trial") == named != found.get("committed")
        now, wrong = choice_of(found, other(named) if armed else named)
        lost = TRIAL if len(raw) != SECTOR or not {"trial", "left"} <= found.keys() else ""
        unlike = "" if _section(text, "tryboot").get("boot_partition") == str(PARTITIONS[other(named)]) else "[tryboot]"
        return now._replace(armed=int(armed)), ", ".join(each for each in (lost, wrong, unlike) if each)

    def files(self, now: Choice) -> list[tuple[Path, bytes]]:
        """What is to be written, in this order: a trial counts as tried before it is booted; a commit counts at once."""
        lines = lines_of(now, ("committed", "trial", "left", "seen", "good")) + f"way={'s' if now.armed else '-'}\n"
        notes = ("# Prime Spark: the slot on trial\n" + lines).encode("ascii").ljust(SECTOR - 1, b"#") + b"\n"
        both = [(self.path, _autoboot(now.trial if now.armed else now.committed)), (self.trial, notes)]
        return both[::-1] if now.armed else both


def _autoboot(named: str) -> bytes:
    tried = PARTITIONS[other(named)]
    text = f"[all]\ntryboot_a_b=1\nboot_partition={PARTITIONS[named]}\n[tryboot]\nboot_partition={tried}\n"
    return text.encode("ascii").ljust(SECTOR, b"\n")


def _section(text: str, name: str) -> dict[str, str]:
    """The lines of one section of the firmware's files."""
    return pairs(text.partition(f"[{name}]")[2].partition("[")[0])
