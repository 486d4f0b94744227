"""On our image a backup is refused where no disk is mounted: it would be in memory, and gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.lifecycle.backup import archive
from appliance.core.lifecycle.backup.faults import TargetAwayError
from appliance.core.lifecycle.backup.targets import look
from appliance.core.lifecycle.inmemory import fleeting
from appliance.core.lifecycle.update.source import Directory
from appliance.errors import BackupError, UpdateError
from appliance.settingbackup import BackupTarget

MOUNTS = """\
21 1 8:4 / / ro,relatime shared:1 - squashfs /dev/sda4 ro
30 21 0:25 / /mnt rw,relatime shared:2 - overlay overlay rw,lowerdir=/root/mnt
31 21 0:26 / /media rw,nosuid shared:3 - tmpfs tmpfs rw,size=1024k
32 31 8:17 / /media/BACKUPS rw,nosuid shared:4 - ext4 /dev/sdb1 rw
33 30 0:40 / /mnt/nas rw,relatime shared:5 - autofs systemd-1 rw,fd=42
34 30 0:41 / /mnt/share rw,relatime shared:6 - autofs systemd-1 rw,fd=43
35 34 0:42 / /mnt/share rw,nosuid shared:7 master:1 - nfs4 nas:/a rw
36 30 8:33 / /mnt/my\\040disk rw shared:8 - vfat /dev/sdc1 rw
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("IMAGE_ID=prime-spark\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTS)
    return tmp_path


@pytest.mark.parametrize(
    "place", ["/media/BACKUPS", "/media/BACKUPS/a/b", "/mnt/share/x", "/mnt/my disk/x", "/data/x", "/tmp/x"]
)
def test_what_lies_on_a_disk_is_kept(image: Path, place: str) -> None:
    assert fleeting(Path(place), image) == ""


@pytest.mark.parametrize("place", ["/media/BACKUPS2/x", "/media/usb", "/mnt/x", "/media/BACKUPS/../usb/x"])
def test_a_place_that_nothing_is_mounted_at_is_in_memory(image: Path, place: str) -> None:
    assert "in memory" in fleeting(Path(place), image)
    (image / "etc/os-release").write_text("ID=debian\n")
    assert fleeting(Path(place), image) == "", "elsewhere it may be the local disk"


def test_a_nas_that_could_not_be_mounted_is_told_as_that(image: Path) -> None:
    assert fleeting(Path("/mnt/nas/backup"), image) == "Nothing could be mounted at /mnt/nas"


def test_a_target_in_memory_is_refused_and_not_made(image: Path) -> None:
    with pytest.raises(TargetAwayError) as caught:
        look(BackupTarget(path="/media/no-such-disk/backup"), Path("/mnt/nas"), image)
    assert "in memory" in caught.value.message
    assert "[mounts.NAME]" in caught.value.next_step
    assert not Path("/media/no-such-disk").exists()


def test_releases_that_are_not_there_are_told_as_a_disk_that_is_not(image: Path) -> None:
    with pytest.raises(UpdateError) as caught:
        Directory(Path("/media/no-such-disk/releases"), image).read("SHA256SUMS", 1000)
    assert caught.value.message == "No disk is mounted at /media/no-such-disk/releases."
    assert "plug the disk in" in caught.value.next_step


def test_a_file_for_a_place_in_memory_is_not_written(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "fleeting", lambda path: fleeting(path, image))
    with pytest.raises(BackupError, match="in memory"):
        archive.pack(
            image, Path("/media/no-such-disk/x.age"), image / "work", key=b"", phrase="long enough", check=lambda: None
        )
    assert not Path("/media/no-such-disk").exists()
