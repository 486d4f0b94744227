"""The image's files: shell, units, the boot managers' configuration. Nothing here is started, mounted or restarted."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from configparser import ConfigParser
from pathlib import Path

import filetree
import pytest
from filetree import FILES, PACKAGE, TREES
from imagekit import disk, release
from imagekit.plan import Plan

from appliance.core.lifecycle.update.choice import Choice
from appliance.core.lifecycle.update.choicefiles import GrubStore, PiStore
from tests.support import needs_program

NAMES = {str(path.relative_to(filetree.FIRMWARE)): path for path in filetree.scripts()}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_scripts_are_plain_shell(name: str) -> None:
    needs_program("shellcheck")
    command = ["shellcheck", "-s", "sh", "-e", "SC1091,SC2013,SC2015", str(NAMES[name])]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert said == ""


@pytest.mark.parametrize("name", sorted(NAMES))
def test_scripts_that_are_run_may_be_run(name: str) -> None:
    path = NAMES[name]
    runs = path.read_text().startswith("#!")
    assert bool(path.stat().st_mode & stat.S_IXUSR) is runs


def test_the_trees_hold_files_and_links_only() -> None:
    odd = [path for tree in TREES for path in tree.rglob("*") if not (path.is_file() or path.is_dir() or path.is_symlink())]
    assert odd == []


def test_units_are_what_systemd_takes(tmp_path: Path) -> None:
    needs_program("systemd-analyze")
    for tree in (PACKAGE, FILES / "root"):
        shutil.copytree(tree / "usr", tmp_path / "usr", dirs_exist_ok=True, symlinks=True)
    for program in ("opt/prime-spark/bin/prime-spark", "opt/prime-spark/bin/python", "usr/bin/hostname", "usr/bin/systemctl"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    units = sorted(tmp_path.glob("usr/lib/systemd/system/*.service")) + sorted(tmp_path.glob("usr/lib/systemd/system/*.timer"))
    names = [each.name.replace("@.", "@tty1.") for each in units]
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={tmp_path}", *names]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
    # Debian 12's systemd does not know two keys of the image's, which is newer; systemd's own units are not in the tree.
    known = r"Unknown key '(RestartSteps|RestartMaxDelaySec)'|Unit \S+ not found|Failed to prepare filename"
    assert [line for line in said if not re.search(known, line)] == []


def test_every_program_of_a_unit_is_there() -> None:
    ours = re.compile(r"^Exec\w+=[-+!@]*(/usr/lib/prime-spark/\S+)", re.MULTILINE)
    wanted = {
        path for tree in TREES for each in tree.rglob("*.service") if each.is_file() for path in ours.findall(each.read_text())
    }
    assert "/usr/lib/prime-spark/data-mount" in wanted
    assert [path for path in sorted(wanted) if not any((tree / path[1:]).is_file() for tree in TREES)] == []


def test_every_unit_that_is_enabled_is_there_or_debians() -> None:
    preset = (FILES / "root/usr/lib/systemd/system-preset/10-prime-spark.preset").read_text().splitlines()
    named = [line.split()[1] for line in preset if line.startswith("enable ")]
    ours = [name for name in named if name.startswith(("prime-spark", "boot-firmware", "home"))]
    assert [name for name in ours if not any((tree / "usr/lib/systemd/system" / name).is_file() for tree in TREES)] == []
    assert preset[-1] == "disable *"


def test_no_boot_waits_for_a_network() -> None:
    waiting = [
        path
        for tree in TREES
        for path in tree.rglob("*")
        if path.is_file() and "network-online" in path.read_text(errors="ignore")
    ]
    assert waiting == []
    assert os.readlink(FILES / "root/etc/systemd/system/systemd-networkd-wait-online.service") == "/dev/null"


def test_the_first_partition_is_written_by_one_unit_after_the_other() -> None:
    after = re.findall(r"^After=(.*)", filetree.unit("prime-spark-identity.service"), re.MULTILINE)
    assert {"prime-spark-bootchoice.service", "boot-firmware.mount"} <= set(" ".join(after).split())
    assert "identity" not in filetree.unit("prime-spark-bootchoice.service")


def test_a_backup_has_the_time_to_be_restored() -> None:
    assert "\nTimeoutStartSec=1h\n" in filetree.unit("prime-spark-identity.service")
    assert "\nTimeoutStartSec=30min\n" in filetree.unit("prime-spark.service")


def test_the_service_has_no_more_rights_than_it_needs() -> None:
    text = filetree.unit("prime-spark.service")
    held = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"^\w+=", line))
    assert held["User"] == "prime-spark"
    assert held["CapabilityBoundingSet"] == held["AmbientCapabilities"] == "CAP_NET_ADMIN CAP_NET_BIND_SERVICE"
    assert {held[key] for key in ("NoNewPrivileges", "PrivateTmp", "ProtectKernelModules", "LockPersonality")} == {"yes"}
    assert (held["ProtectSystem"], held["DevicePolicy"]) == ("strict", "closed")
    assert held["Type"] == "notify"


def test_the_console_draws_on_standard_error() -> None:
    assert "\nStandardError=tty\n" in filetree.unit("prime-spark-console@.service")


def test_both_slots_of_a_new_image_hold_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled: dict[str, Path] = {}
    monkeypatch.setattr(release, "config", lambda *_: None)
    monkeypatch.setattr(release, "data", lambda *_: None)
    monkeypatch.setattr(disk, "assemble", lambda _image, _arch, contents: filled.update(contents))
    release.image(Plan("amd64", "1", tmp_path, tmp_path), release.Parts(tmp_path / "boot", tmp_path / "root"))
    assert (filled["boot-a"], filled["system-a"]) == (filled["boot-b"], filled["system-b"])


def test_grub_takes_its_configuration() -> None:
    needs_program("grub-script-check")
    subprocess.run(["grub-script-check", FILES / "config-amd64/EFI/BOOT/grub.cfg"], check=True)


def test_the_boot_choice_of_a_new_image_is_slot_a_and_b_is_as_good() -> None:
    """Both hold the same system: GRUB leaves a damaged one, after four starts, for one that is noted as good only."""
    wanted = (Choice("A", good="AB"), "")
    assert GrubStore(FILES / "config-amd64").read() == wanted
    pi = PiStore(FILES / "config-arm64")
    assert pi.read() == wanted
    assert [data for _, data in pi.files(wanted[0])] == [path.read_bytes() for path in (pi.path, pi.trial)]


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_rauc_is_told_both_slots(arch: str) -> None:
    config = ConfigParser()
    config.read(FILES / f"root-{arch}/etc/rauc/system.conf")
    assert (config["system"]["compatible"], config["system"]["bundle-formats"]) == (f"prime-spark-{arch}", "verity")
    assert config["keyring"]["use-bundle-signing-time"] == "true", "a clock that was never set may not hinder an update"
    for number, name in enumerate("ab"):
        root, boot = config[f"slot.rootfs.{number}"], config[f"slot.bootfs.{number}"]
        assert (root["device"], root["bootname"]) == (f"/dev/disk/by-partlabel/system-{name}", name.upper())
        assert (boot["device"], boot["parent"]) == (f"/dev/disk/by-partlabel/boot-{name}", f"rootfs.{number}")


def test_both_boot_managers_start_a_slot_with_the_same_words() -> None:
    grub = re.search(r"root=PARTLABEL=system-\$name (.*?) console=", (FILES / "config-amd64/EFI/BOOT/grub.cfg").read_text())
    assert grub is not None
    for name in "ab":
        line = (FILES / f"boot-arm64/cmdline-{name}.txt").read_text()
        assert line.startswith(f"root=PARTLABEL=system-{name} {grub[1].replace('$1', name.upper())} console=")
        assert line.count("\n") == 1


def test_the_firmware_finds_the_line_of_its_partition() -> None:
    text = (FILES / "boot-arm64/config.txt").read_text()
    assert re.findall(r"\[boot_partition=(\d)\]\ncmdline=cmdline-(\w)\.txt\n", text) == [("2", "a"), ("3", "b")]
    assert text.rstrip().endswith("[all]"), "what is written below belongs to both"
