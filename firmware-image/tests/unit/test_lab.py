"""What the tests of the image stand on: a disk that forgets what was not flushed, a Pi's firmware, a screen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from imagelab import pifirmware
from imagelab.disk import Disk, Overlay, Volatile
from imagelab.run import run
from imagelab.screen import NotSeenError, Screen

from tests.support import needs_program

MIB = 1 << 20
AUTOBOOT = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n" + "\n" * 440
CONFIG = (
    "arm_64bit=1\nkernel=vmlinuz\ninitramfs initrd.img followkernel\n[pi4]\nkernel=other\n[boot_partition=2]\n"
    "cmdline=cmdline-a.txt\n[boot_partition=3]\ncmdline=cmdline-b.txt\n"
)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A small card with the partitions that a Pi starts from."""
    for program in ("sfdisk", "mkfs.vfat", "mcopy", "qemu-img", "qemu-io"):
        needs_program(program)
    image, fat = tmp_path / "card.img", tmp_path / "fat"
    with image.open("wb") as file:
        file.truncate(16 * MIB)
    table = "label: gpt\n" + "".join(f"start={2048 * (1 + 4 * n)}, size=8192, name={name}\n" for n, name in enumerate(NAMES))
    run("sfdisk", "-q", str(image), stdin=table.encode())
    for number, files in enumerate(CONTENTS):
        fat.unlink(missing_ok=True)
        run("mkfs.vfat", "-C", str(fat), "4096")
        for name, text in files.items():
            (tmp_path / "file").write_text(text)
            run("mcopy", "-i", str(fat), str(tmp_path / "file"), f"::{name}")
        with image.open("r+b") as file:
            file.seek(MIB * (1 + 4 * number))
            file.write(fat.read_bytes())
    return image


NAMES = ("config", "boot-a", "boot-b")
SLOT = {"config.txt": CONFIG, "vmlinuz": "a kernel", "initrd.img": "an initramfs"}
CONTENTS = (
    {"autoboot.txt": AUTOBOOT},
    {**SLOT, "cmdline-a.txt": "root=PARTLABEL=system-a\n"},
    {**SLOT, "cmdline-b.txt": "root=PARTLABEL=system-b\n"},
)


def qemu_io(disk: Volatile, *commands: str) -> str:
    """Requests to the disk, as QEMU would make them."""
    words = [word for each in commands for word in ("-c", each)]
    return run("qemu-io", "-f", "raw", f"nbd+unix:///?socket={disk.socket}", *words)


def typed(qemu: subprocess.Popen[str], *commands: str) -> str:
    """What qemu-io answers; it reads a line only when it asks for one."""
    assert qemu.stdin is not None
    assert qemu.stdout is not None
    said = ""
    for number, each in enumerate((*commands, ""), start=1):
        while said.count("qemu-io> ") < number:
            said += qemu.stdout.read(1)
        qemu.stdin.write(f"{each}\n" if each else "")
        qemu.stdin.flush()
    return said


def test_a_cut_loses_what_was_not_flushed_and_nothing_else(card: Path, tmp_path: Path) -> None:
    needs_program("nbdkit")
    lost = 0
    for seed in range(6):
        disk = Volatile(card, tmp_path / f"disk-{seed}", 16 * MIB, seed)
        disk.start()
        qemu = subprocess.Popen(
            ["stdbuf", "-oL", "qemu-io", "-f", "raw", "-t", "writeback", f"nbd+unix:///?socket={disk.socket}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = typed(qemu, "write -P 17 13M 512k", "flush", "write -P 34 14M 512k", "read -P 34 14M 512k")
        assert "Pattern verification failed" not in said, "what was written is read again, flushed or not"
        disk.cut()
        qemu.kill()
        qemu.communicate()
        assert disk.read(13 * MIB, MIB // 2, tmp_path / "kept").read_bytes() == b"\x11" * (MIB // 2)
        lost += disk.read(14 * MIB, MIB // 2, tmp_path / "part").read_bytes() != b"\x22" * (MIB // 2)
    assert lost, "no cut of six lost anything: this is no volatile cache"


def test_a_clean_end_keeps_everything(card: Path, tmp_path: Path) -> None:
    needs_program("nbdkit")
    disk = Volatile(card, tmp_path / "disk", 16 * MIB, 0)
    disk.start()
    qemu_io(disk, "write -P 51 13M 512k", "flush")
    disk.stop()
    assert disk.read(13 * MIB, MIB // 2, tmp_path / "kept").read_bytes() == b"\x33" * (MIB // 2)


@pytest.mark.parametrize("kind", ["overlay", "volatile"])
def test_files_are_put_on_a_card_and_the_image_stays_as_it_is(card: Path, tmp_path: Path, kind: str) -> None:
    before = card.read_bytes()
    disk: Disk = Overlay(card, tmp_path / "d", 16 * MIB) if kind == "overlay" else Volatile(card, tmp_path / "d", 16 * MIB, 0)
    disk.put_file("config", "prime-spark.toml", "[system]\n")
    assert disk.get_file("config", "prime-spark.toml") == b"[system]\n"
    assert disk.get_file("boot-b", "cmdline-b.txt") == b"root=PARTLABEL=system-b\n"
    disk.spoil("boot-a", seed=1, offset=MIB, length=512)
    with pytest.raises(FileNotFoundError):
        disk.get_file("config", "nothing.txt")
    assert card.read_bytes() == before


@pytest.mark.parametrize(("tryboot", "partition", "root"), [(False, 2, "system-a"), (True, 3, "system-b")])
def test_the_firmware_reads_the_files_of_the_card(card: Path, tmp_path: Path, tryboot: bool, partition: int, root: str) -> None:
    choice = pifirmware.choose(Overlay(card, tmp_path / "d", 16 * MIB), tryboot, tmp_path)
    assert (choice.partition, choice.tryboot, choice.cmdline) == (partition, tryboot, f"root=PARTLABEL={root}")
    assert choice.kernel.read_text() == "a kernel"
    assert choice.initrd is not None


def test_the_firmware_walks_on_where_nothing_can_be_loaded(card: Path, tmp_path: Path) -> None:
    disk = Overlay(card, tmp_path / "d", 16 * MIB)
    disk.spoil("boot-a", seed=1)
    assert pifirmware.choose(disk, False, tmp_path).partition == 3
    disk.spoil("boot-b", seed=2)
    with pytest.raises(pifirmware.NoBootError):
        pifirmware.choose(disk, False, tmp_path)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        (b"reboot: Restarting system with command '0 tryboot'\r\n", True),
        (b"reboot: Restarting system\r\n", False),
        (b"reboot: Restarting system with command '0 tryboot'\r\nreboot: Restarting system with command '2'\r\n", False),
    ],
    ids=["tryboot", "plain", "only-the-last-counts"],
)
def test_the_last_words_of_the_kernel_ask_for_the_other_slot(said: bytes, asked: bool) -> None:
    assert pifirmware.asked_to_try(said) is asked


def test_the_device_tree_tells_what_was_started(tmp_path: Path) -> None:
    needs_program("fdtput")
    bare = tmp_path / "bare.dtb"
    run("dtc", "-q", "-O", "dtb", "-o", str(bare), "-", stdin=b"/dts-v1/; / { chosen { }; };")
    choice = pifirmware.Choice(3, True, bare, None, "", {})
    node, tree = "/chosen/bootloader", pifirmware.device_tree(bare, choice, tmp_path / "tree.dtb")
    assert run("fdtget", "-t", "u", str(tree), node, "partition", node, "tryboot").split() == ["3", "1"]


def test_a_screen_shows_what_came_and_answers_the_terminal() -> None:
    sent: list[bytes] = []
    screen = Screen(sent.append)
    screen.feed(b"one\r\n\x1b[31mtwo\x1b[0m\x1b[6n")
    assert screen.wait_for_text("two", limit=1).startswith("one")
    assert sent == [b"\x1b[2;4R"]
    screen.feed(b"\x1b[2J\x1b[H")
    assert "two" in screen.log.decode()
    with pytest.raises(NotSeenError, match="three"):
        screen.wait_for_text("three", limit=0)
