"""Disks that are plugged in: which are mounted, where, and that no text on them is more than a text.

File systems are made in files and read by blkid itself; mounting is noted and not done.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import filetree
import pytest
from filetree import FILES

from appliance.core.lifecycle.firstboot.model import Mount
from appliance.core.lifecycle.firstboot.mounts import files
from tests.support import needs_program

DISK = FILES / "root/usr/lib/prime-spark/disk"
RULE = (FILES / "root/usr/lib/udev/rules.d/99-prime-spark-disks.rules").read_text()
STAND_INS = {
    "mount": 'for each in "$@"; do printf "%s\\n" "$each"; done >"$NOTES/mount"; eval "for target in \\"\\$@\\"; do :; done"; '
    'printf "%s\\n" "$target" >>"$NOTES/mounted"; exit "${MOUNT_ENDS:-0}"',
    "umount": 'eval "for target in \\"\\$@\\"; do :; done"; printf "%s\\n" "$target" >>"$NOTES/umounted"',
    "mountpoint": 'grep -qxF "$2" "$NOTES/mounted" 2>/dev/null',
    "findmnt": 'echo "${SYSTEM:-179:5}"',
    "id": "echo 880",
    "chown": 'printf "%s\\n" "$*" >"$NOTES/chown"',
}
USB = "devices/pci0/usb2/2-1/host6/block"


@dataclass(frozen=True)
class Bench:
    """A machine made of directories, with the system on a card."""

    base: Path

    @property
    def notes(self) -> Path:
        return self.base / "notes"

    def disk(self, name: str, number: str, where: str = USB, parent: str = "") -> Path:
        """A disk, or a partition of one; the file that stands for it."""
        folder = self.base / "sys" / where / parent / name
        folder.mkdir(parents=True)
        if parent:
            (folder / "partition").write_text("1\n")
        for link in (self.base / "sys/dev/block" / number, self.base / "sys/class/block" / name):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder)
        return self.base / "dev" / name

    def run(self, what: str, name: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """The program, with what mounts noted."""
        path = f"{self.base / 'programs'}:{os.environ['PATH']}:/usr/sbin:/sbin"
        given = {"PATH": path, "NOTES": str(self.notes), "PRIME_SPARK_ROOT": str(self.base), **environ}
        return subprocess.run([DISK, what, name], env=given, capture_output=True, text=True, check=False)

    def mounted(self) -> list[str]:
        """Places below the root, in the order in which they were mounted."""
        try:
            return [line.removeprefix(str(self.base)) for line in (self.notes / "mounted").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def options(self) -> set[str]:
        words = (self.notes / "mount").read_text().splitlines()
        return set(words[words.index("-o") + 1].split(","))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    for program in ("blkid", "flock", "mkfs.ext4"):
        needs_program(program)
    found = Bench(tmp_path)
    for name in ("dev", "media", "programs", "notes"):
        (tmp_path / name).mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "programs" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "programs" / name).chmod(0o755)
    found.disk("mmcblk0", "179:0", "devices/card/block")
    found.disk("mmcblk0p5", "179:5", "devices/card/block", "mmcblk0")
    return found


def ext4(file: Path, label: str) -> None:
    with file.open("wb") as handle:
        handle.truncate(4 << 20)
    words = ["mkfs.ext4", "-q", "-F", "-U", "0b5e3f0e-1c1e-4b8b-9d5b-7d5c3b1d2f10", "-L", label, str(file)]
    subprocess.run(words, check=True, capture_output=True)


def test_a_stick_is_mounted_where_its_label_says(bench: Bench) -> None:
    ext4(bench.disk("sdb1", "8:17", parent="sdb"), "BACKUPS")
    done = bench.run("mount", "sdb1")
    assert (done.returncode, bench.mounted()) == (0, ["/media/BACKUPS"]), done.stderr
    assert {"rw", "nosuid", "nodev", "noexec", "errors=remount-ro"} <= bench.options()
    assert (bench.notes / "chown").read_text() == f"-h prime-spark:prime-spark {bench.base}/media/BACKUPS/prime-spark\n"
    (bench.base / "media/BACKUPS/prime-spark").rmdir()  # it is on the disk, and no longer seen
    assert bench.run("unmount", "sdb1").returncode == 0
    assert not (bench.base / "media/BACKUPS").exists()
    assert (bench.notes / "umounted").read_text() == f"{bench.base}/media/BACKUPS\n"
    assert bench.run("unmount", "sdb1").returncode == 0, "it is not mounted any more"


@pytest.mark.parametrize(
    "label",
    ["../../etc", "/etc", "..", ".x", "a b", "a\nb", "%i", "a'b", 'a"b', "$(id)", "`id`", "a;reboot", "-o", "é", "\\x2f"],
)
def test_a_label_that_is_no_plain_name_is_not_used(bench: Bench, label: str) -> None:
    ext4(bench.disk("sdb1", "8:17", parent="sdb"), label)
    done = bench.run("mount", "sdb1")
    assert (done.returncode, bench.mounted()) == (0, ["/media/0b5e3f0e-1c1e-4b8b-9d5b-7d5c3b1d2f10"]), done.stderr
    assert [each.name for each in (bench.base / "media").iterdir()] == ["0b5e3f0e-1c1e-4b8b-9d5b-7d5c3b1d2f10"]


def test_a_file_system_without_owners_belongs_to_the_appliance(bench: Bench) -> None:
    needs_program("mkfs.vfat")
    file = bench.disk("sdb1", "8:17", parent="sdb")
    with file.open("wb") as handle:
        handle.truncate(4 << 20)
    subprocess.run(["mkfs.vfat", "-n", "BACK", file], check=True, capture_output=True)
    assert bench.run("mount", "sdb1").returncode == 0
    assert bench.mounted() == ["/media/BACK"]
    assert {"uid=880", "gid=880", "umask=0077", "flush", "nosuid", "nodev", "noexec"} <= bench.options()
    assert not (bench.notes / "chown").exists()


@pytest.mark.parametrize(("ends", "kind"), [("0", "ntfs3"), ("1", "ntfs")])
def test_ntfs_is_mounted_by_the_driver_that_the_kernel_has(bench: Bench, ends: str, kind: str) -> None:
    bench.disk("sdb1", "8:17", parent="sdb").touch()
    stand_in(bench, "blkid", "printf 'ID_FS_TYPE=ntfs\\nID_FS_LABEL_ENC=WIN\\n'")
    stand_in(bench, "modinfo", f"exit {ends}")
    assert bench.run("mount", "sdb1").returncode == 0
    assert (bench.notes / "mount").read_text().splitlines()[:2] == ["-t", kind]
    assert {"uid=880", "nosuid"} <= bench.options()


def stand_in(bench: Bench, name: str, text: str) -> None:
    """Put a program before the real one."""
    program = bench.base / "programs" / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def test_two_disks_of_one_label_get_two_places(bench: Bench) -> None:
    ext4(bench.disk("sdb1", "8:17", parent="sdb"), "BACKUPS")
    ext4(bench.disk("sdc1", "8:33", parent="sdc"), "BACKUPS")
    assert [bench.run("mount", name).returncode for name in ("sdb1", "sdc1")] == [0, 0]
    assert bench.mounted() == ["/media/BACKUPS", "/media/0b5e3f0e-1c1e-4b8b-9d5b-7d5c3b1d2f10"]


def test_the_disk_of_the_system_is_left_alone(bench: Bench) -> None:
    ext4(bench.disk("sdb1", "8:17", parent="sdb"), "BACKUPS")
    bench.disk("sdb5", "8:21", parent="sdb")
    for system in ("8:21", "0:30", ""):  # on the same disk; nowhere that can be told
        assert "the system runs from this disk" in bench.run("mount", "sdb1", SYSTEM=system or "none").stdout
    assert bench.mounted() == []


@pytest.mark.parametrize("name", ["config", "boot-a", "system-b", "data"])
def test_a_partition_of_a_card_with_our_image_is_left_alone(bench: Bench, name: str) -> None:
    ext4(bench.disk("sdb1", "8:17", parent="sdb"), "BACKUPS")
    about = f"ID_FS_TYPE=ext4\\nID_FS_LABEL_ENC=BACKUPS\\nID_PART_ENTRY_NAME={name}\\n"
    stand_in(bench, "blkid", f"printf '{about}'")
    assert "card with our image" in bench.run("mount", "sdb1").stdout
    assert bench.mounted() == []
    excluded = re.search(r'ENV\{ID_PART_ENTRY_NAME\}=="([^"]+)", GOTO', RULE)
    assert excluded is not None
    assert name in excluded[1].split("|")


def test_a_disk_inside_is_mounted_only_where_somebody_said_so(bench: Bench) -> None:
    ext4(bench.disk("sda1", "8:1", "devices/pci0/ata1/block", "sda"), "BULK")
    assert "[mounts] does not name it" in bench.run("mount", "sda1").stdout
    assert bench.mounted() == []
    wanted = bench.base / "etc/prime-spark-mounts/disks"
    wanted.parent.mkdir(parents=True)
    wanted.write_text("# a remark\nLABEL=OTHER /mnt/other rw\nLABEL=BULK /mnt/bulk/here ro\n")
    assert bench.run("mount", "sda1").returncode == 0
    assert bench.mounted() == ["/mnt/bulk/here"]
    assert "ro" in bench.options()
    assert not (bench.notes / "chown").exists(), "nothing is made on a disk that is only read"


def test_a_disk_that_cannot_be_mounted_leaves_no_directory_that_looks_like_one(bench: Bench) -> None:
    ext4(bench.disk("sdb1", "8:17", parent="sdb"), "BACKUPS")
    done = bench.run("mount", "sdb1", MOUNT_ENDS="32")
    assert done.returncode == 1
    assert "next:" in done.stderr
    assert list((bench.base / "media").iterdir()) == []


@pytest.mark.parametrize("name", ["", "../sda", "a b", "-x"])
def test_only_a_devices_name_is_taken(bench: Bench, name: str) -> None:
    assert bench.run("mount", name).returncode == 2


def test_the_rule_gives_the_unit_nothing_but_the_kernels_name() -> None:
    assert re.findall(r'SYSTEMD_WANTS\}\+="([^"]*)"', RULE) == ["prime-spark-disk@%k.service"]
    assert "PROGRAM" not in RULE
    assert "RUN" not in RULE


def test_a_nas_hinders_no_start_and_places_are_there_before_the_appliance() -> None:
    assert "--no-block" in (FILES / "root/usr/lib/prime-spark/mounts").read_text()
    assert "\nBefore=prime-spark.service\n" in filetree.unit("prime-spark-mounts.service")
    assert "\nReadWritePaths=-/mnt -/media " in filetree.unit("prime-spark.service")
    assert "\nBindsTo=dev-%i.device\n" in filetree.unit("prime-spark-disk@.service")


def test_each_share_is_watched_also_behind_one_that_fails(tmp_path: Path) -> None:
    units, programs = tmp_path / "etc/systemd/system", tmp_path / "programs"
    units.mkdir(parents=True)
    programs.mkdir()
    shares = [Mount("a", "nfs", "nas:/a", "/mnt/a"), Mount("b", "smb", "//nas/b", "/mnt/my-b")]
    for path, (text, _) in files(shares, None).items():
        (tmp_path / path).write_text(text)
    (units / "boot.automount").write_text("[Automount]\n")
    systemctl = programs / "systemctl"
    systemctl.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/said\ncase "$*" in *mnt-a*) exit 1 ;; esac\n')
    systemctl.chmod(0o755)
    given = {"PATH": f"{programs}:{os.environ['PATH']}", "PRIME_SPARK_ROOT": str(tmp_path)}
    done = subprocess.run([FILES / "root/usr/lib/prime-spark/mounts"], env=given, check=False)
    said = (tmp_path / "said").read_text().splitlines()
    again = ["--no-block start -- mnt-a.automount", "daemon-reload", "--no-block start -- mnt-a.automount"]
    assert said == [*again, "--no-block start -- mnt-my\\x2db.automount"]
    assert done.returncode == 1


def test_what_only_older_nfs_needs_does_not_listen() -> None:
    for name in ("rpcbind.service", "rpcbind.socket", "rpc-statd.service", "rpc-statd-notify.service", "nfs-blkmap.service"):
        assert os.readlink(FILES / "root/etc/systemd/system" / name) == "/dev/null"
