"""Shares of a NAS and disks: what the file may say of them, and the units that come of it."""

from __future__ import annotations

import subprocess

import pytest

from appliance.core.lifecycle.firstboot import mounts
from appliance.core.lifecycle.firstboot.generate import generate
from appliance.core.lifecycle.firstboot.model import Mount
from tests.firstboot import rig
from tests.support import needs_program

GOOD = """
[mounts.nas]
kind = "nfs"
from = "nas.example.net:/volume1/backups"

[mounts.share]
kind = "smb"
from = "//192.0.2.5/back_ups"
to = "/media/my-share"
user = "edge"
password = "pass, word"  # ours
read_only = true

[mounts.usb]
kind = "disk"
from = "LABEL=BACKUPS"
"""
SMB = '[mounts.a]\nkind = "smb"\nfrom = "//nas/share"\n'
NFS = '[mounts.a]\nkind = "nfs"\nfrom = "nas:/a"\n'
WRONG = {
    "kind": ('[mounts.a]\nkind = "ftp"\nfrom = "nas:/a"\n', 2, "mounts.a.kind", "nfs"),
    "no source": ('[mounts.a]\nkind = "nfs"\n', 1, "mounts.a.from: it is missing", "from ="),
    "unknown key": (f'{NFS}form = "x"\n', 4, "mounts.a.form: there is no such key", "did you mean from?"),
    "nfs without an export": ('[mounts.a]\nkind = "nfs"\nfrom = "nas.example.net"\n', 3, "nothing that nfs", "net:/"),
    "export that climbs": ('[mounts.a]\nkind = "nfs"\nfrom = "nas:/../etc"\n', 3, "nothing that nfs mounts", "letters"),
    "option of nfs": ('[mounts.a]\nkind = "nfs"\nfrom = "nas:/a,suid"\n', 3, "nothing that nfs mounts", "letters"),
    "smb as in Windows": ('[mounts.a]\nkind = "smb"\nfrom = \'\\\\nas\\share\'\n', 3, "nothing that smb", "net/share"),
    "specifier": ('[mounts.a]\nkind = "smb"\nfrom = "//nas/%h"\n', 3, "nothing that smb mounts", "letters"),
    "line's end": ('[mounts.a]\nkind = "nfs"\nfrom = "nas:/a\\nType=ext4"\n', 3, "nothing that nfs mounts", "letters"),
    "device": ('[mounts.a]\nkind = "disk"\nfrom = "/dev/sda1"\n', 3, "nothing that disk mounts", "LABEL=BACKUPS"),
    "label of two words": ('[mounts.a]\nkind = "disk"\nfrom = "LABEL=MY DISK"\n', 3, "nothing that disk mounts", "UUID="),
    "place elsewhere": (f'{NFS}to = "/etc"\n', 4, "no place for a disk", "below /mnt or /media"),
    "place that climbs": (f'{NFS}to = "/mnt/../etc"\n', 4, "no place for a disk", "below /mnt or /media"),
    "mnt itself": (f'{NFS}to = "/mnt"\n', 4, "no place for a disk", "below /mnt or /media"),
    "name": ('[mounts."../x"]\nkind = "nfs"\nfrom = "nas:/a"\n', 1, "no name of a mount", "[mounts.nas]"),
    "one in the other": (
        f'{NFS}[mounts.b]\nkind = "nfs"\nfrom = "nas:/b"\nto = "/mnt/a/b"\n', 1, "/mnt/a/b, one in the other", "to =",
    ),
    "password for nfs": (f'{NFS}user = "x"\npassword = "12345678"\n', 1, "nfs takes no user", "this machine's address"),
    "user without a password": (f'{SMB}user = "x"\n', 1, "a user and a password", "give both"),
    "user": (f'{SMB}user = "a,uid=0"\npassword = "12345678"\n', 4, "no user of a share", "letters"),
    "password of two lines": (f'{SMB}user = "x"\npassword = "1234\\n5678"\n', 5, "cannot be given to a share", "on one line"),
    "struck out": (f'{SMB}user = "x"\npassword = "********"\n', 5, "it was struck out", "write it again"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_is_wrong_is_told_with_its_line(box: rig.Box, case: str) -> None:
    text, line, what, step = WRONG[case]
    box.write(text)
    outcome = box.apply()
    assert (outcome.state, outcome.line) == ("broken", line), outcome
    assert what in outcome.message
    assert step in outcome.next_step
    assert "12345678" not in outcome.message + outcome.next_step
    assert not list(box.root.glob(mounts.PATTERNS[1]))


def test_shares_and_disks_become_units_and_a_list(box: rig.Box) -> None:
    box.write(GOOD)
    assert box.apply().state == "applied"
    assert sorted(each.name for each in (box.root / mounts.UNITS).iterdir()) == [
        "media-my\\x2dshare.automount", "media-my\\x2dshare.mount", "mnt-nas.automount", "mnt-nas.mount",
    ]  # fmt: skip
    nas = box.etc("systemd/system/mnt-nas.mount")
    assert "\nWhat=nas.example.net:/volume1/backups\nWhere=/mnt/nas\nType=nfs\n" in nas
    assert {"vers=4", "soft", "softreval", "nosuid", "nodev", "noexec", "rw"} <= options(nas)
    share = box.etc("systemd/system/media-my\\x2dshare.mount")
    assert {"credentials=/etc/prime-spark-mounts/share.credentials", "ro", "nosuid", "nodev", "noexec"} <= options(share)
    assert "pass, word" not in share
    secret = box.root / "etc/prime-spark-mounts/share.credentials"
    assert secret.read_text() == "username=edge\npassword=pass, word\n"
    assert (secret.stat().st_mode & 0o777, secret.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert box.etc("prime-spark-mounts/disks").splitlines()[1:] == ["LABEL=BACKUPS /mnt/usb rw"]


def options(unit: str) -> set[str]:
    """Of a mount."""
    return set(next(line for line in unit.splitlines() if line.startswith("Options=")).removeprefix("Options=").split(","))


def test_the_password_is_struck_out_and_nothing_else(box: rig.Box) -> None:
    box.write(GOOD)
    box.apply()
    assert box.file.read_text().startswith(GOOD.replace("pass, word", "*" * 10))
    assert "[applied]" in box.file.read_text()


def test_a_later_file_takes_the_former_mounts_away_and_nothing_of_others(box: rig.Box) -> None:
    box.write(GOOD)
    box.apply()
    (box.root / mounts.UNITS / "home.mount").write_text("[Mount]\n")
    box.write('[system]\nhostname = "a"\n')
    assert box.apply().state == "applied"
    assert (box.root / mounts.UNITS / "mnt-nas.mount").exists(), "what a file does not name stays"
    box.write(NFS)
    assert box.apply().state == "applied"
    generate(box.data, box.root)
    assert sorted(each.name for each in (box.root / mounts.UNITS).iterdir()) == ["home.mount", "mnt-a.automount", "mnt-a.mount"]
    assert list((box.root / mounts.FOLDER).iterdir()) == []


@pytest.mark.parametrize("place", ["/mnt/my-nas", "/mnt/a.b/c_d", "/media/_x"])
def test_units_are_called_as_systemd_wants(place: str) -> None:
    needs_program("systemd-escape")
    said = subprocess.run(["systemd-escape", "--path", place], capture_output=True, text=True, check=True).stdout
    assert mounts.escaped(place) == said.strip()


def test_systemd_takes_the_units(box: rig.Box) -> None:
    needs_program("systemd-analyze")
    box.write(GOOD)
    box.apply()
    names = sorted(each.name for each in (box.root / mounts.UNITS).iterdir())
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={box.root}", *names]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
    assert [line for line in said if "not found" not in line and "Failed to prepare filename" not in line] == []


def test_a_share_without_owners_is_the_appliances() -> None:
    share = Mount("s", "smb", "//nas/s", "/mnt/s")
    assert {"guest", "uid=880", "gid=880", "forceuid"} <= options(
        mounts.files([share], (880, 880))["etc/systemd/system/mnt-s.mount"][0]
    )
