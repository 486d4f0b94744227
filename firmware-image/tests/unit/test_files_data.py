"""What is done with a data partition that is well, damaged or gone: the script is run with every program in it replaced."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from filetree import FILES

from tests.support import capability

SCRIPT = FILES / "root/usr/lib/prime-spark/data-mount"
PROGRAMS = ("udevadm", "blkid", "e2fsck", "mount", "umount", "mountpoint", "install", "systemd-growfs", "mkfs.ext4", "mke2fs")


@dataclass
class Ran:
    """What the script did.

    Attributes:
        code: Its exit code.
        calls: Programs that it called, with their words.
        fault: The marker that the console reads.
        notice: What the console prints.
    """

    code: int
    calls: list[str]
    fault: dict[str, str] | None
    notice: str


class Rig:
    """A directory in which the script runs; nothing outside of it can be reached by the programs that it calls."""

    def __init__(self, top: Path) -> None:
        self.top, self.programs = top, top / "bin"
        self.data, self.run, self.device = top / "data", top / "run", top / "device"
        for each in (self.programs, self.data, self.run / "notice.d"):
            each.mkdir(parents=True)
        self.device.touch()
        for name in PROGRAMS:
            self.answer(name)
        self.answer("blkid", "echo ext4")

    def answer(self, name: str, does: str = "exit 0") -> None:
        """What a program does when it is called."""
        path = self.programs / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.top}/calls\n{does}\n')
        path.chmod(0o755)

    def start(self) -> Ran:
        """Run the script on this directory."""
        text = SCRIPT.read_text()
        for there, here in (
            ("/usr/lib/systemd/systemd-growfs", "systemd-growfs"), ("[ ! -b ", "[ ! -f "),
            ("/dev/disk/by-partlabel/data", self.device),
            ("/run/prime-spark", self.run), ("/data/", f"{self.data}/"), (" /data", f" {self.data}"),
        ):  # fmt: skip
            assert there in text
            text = text.replace(there, str(here))
        env = {"PATH": f"{self.programs}:/usr/bin:/bin"}
        done = subprocess.run(["sh", "-c", text], env=env, capture_output=True, text=True, check=False)
        marker, notice = self.run / "data-fault.json", self.run / "notice.d/data.txt"
        fault = json.loads(marker.read_text()) if marker.exists() else None
        calls = (self.top / "calls").read_text().replace(str(self.top), "").splitlines()
        return Ran(done.returncode, calls, fault, notice.read_text() if notice.exists() else "")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_partition_that_is_well_is_mounted_and_grown(rig: Rig) -> None:
    ran = rig.start()
    assert (ran.code, ran.fault) == (0, None)
    assert [call for call in ran.calls if call.startswith(("e2fsck", "mount ", "systemd-growfs"))] == [
        "e2fsck -p /device",
        "mount -t ext4 -o noatime,nodev,nosuid,commit=30,errors=remount-ro /device /data",
        "systemd-growfs /data",
    ]


def test_what_preening_cannot_mend_is_repaired(rig: Rig) -> None:
    rig.answer("e2fsck", '[ "$1" = -y ] && exit 1; exit 4')
    ran = rig.start()
    assert [call for call in ran.calls if call.startswith("e2fsck")] == ["e2fsck -p /device", "e2fsck -y /device"]
    assert ran.fault is None


def test_one_that_lost_its_first_blocks_is_repaired_from_their_copies(rig: Rig, tmp_path: Path) -> None:
    """With the programs themselves, on a file: blkid sees no file system there, and nothing of it is lost."""
    for name in ("blkid", "e2fsck"):
        (rig.programs / name).unlink()
        path = shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
        capability(path is not None, name)
        rig.answer(name, f'exec {path} "$@"')
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/kept").write_text("acknowledged")
    with rig.device.open("wb") as file:
        file.truncate(160 << 20)
    filesystem = ["/sbin/mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(tmp_path / "tree"), str(rig.device)]
    subprocess.run(filesystem, check=True, env={})
    with rig.device.open("r+b") as file:
        file.write(bytes(64 << 10))
    ran = rig.start()
    assert ran.fault is None
    assert [call for call in ran.calls if call.startswith("e2fsck")] == ["e2fsck -y /device"]
    said = subprocess.run(["/sbin/debugfs", "-R", "cat kept", str(rig.device)], capture_output=True, text=True, check=True)
    assert said.stdout == "acknowledged"


@pytest.mark.parametrize(
    ("program", "does", "reason"),
    [("blkid", "echo vfat", "damaged beyond repair"), ("e2fsck", "exit 8", "damaged beyond repair"),
     ("mount", '[ "$2" = tmpfs ] || exit 32', "cannot be mounted"),
     ("e2fsck", "rm -r {data}; : >{data}; exit 0", "cannot be written")],
    ids=["another-file-system", "beyond-repair", "not-mounted", "not-written"],
)  # fmt: skip
def test_one_that_cannot_be_used_is_left_as_it_is(rig: Rig, program: str, does: str, reason: str) -> None:
    rig.answer(program, does.format(data=rig.data))
    ran = rig.start()
    assert ran.fault is not None
    assert reason in ran.fault["reason"]
    assert "prime-spark data reset --yes" in ran.fault["next"]
    assert reason in ran.notice
    assert "mount -t tmpfs -o mode=755,size=50%,nodev,nosuid tmpfs /data" in ran.calls
    assert [call for call in ran.calls if call.startswith("mk")] == [], "nothing is ever formatted here"


def test_what_no_program_knows_and_none_can_repair_is_left_as_it_is(rig: Rig) -> None:
    rig.answer("blkid", "exit 2")
    rig.answer("e2fsck", "exit 8")
    assert (rig.start().fault or {})["reason"] == "its file system is damaged beyond repair"


def test_a_disk_without_the_partition_starts_in_memory(rig: Rig) -> None:
    rig.device.unlink()
    ran = rig.start()
    assert ran.fault is not None
    assert "no data partition" in ran.fault["reason"]
    assert not [call for call in ran.calls if call.startswith("e2fsck")]


def test_a_file_system_that_does_not_grow_is_used_as_it_is(rig: Rig) -> None:
    rig.answer("systemd-growfs", "exit 1")
    assert rig.start().fault is None


def test_two_disks_with_the_image_are_told(rig: Rig) -> None:
    rig.start()
    assert not (rig.run / "notice.d/disks.txt").exists()
    rig.answer("blkid", '[ "$1" = -p ] && echo ext4 || printf "/dev/mmcblk0p6\\n/dev/nvme0n1p6\\n"')
    assert rig.start().fault is None
    assert "take one out" in (rig.run / "notice.d/disks.txt").read_text()


def test_the_appliances_folder_is_its_own(rig: Rig) -> None:
    assert "install -d -m 0700 -o prime-spark -g prime-spark /data/prime-spark" in rig.start().calls
