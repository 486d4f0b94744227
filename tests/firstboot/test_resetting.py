"""An empty data partition: only on our image, only its own partition, and a sound one only where that was said in full."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from appliance import cli, paths
from appliance.core.lifecycle.firstboot import card, reset
from appliance.core.lifecycle.firstboot.apply import ERASE
from appliance.errors import AbsentError, ConfirmationRequiredError, StoreError
from appliance.verbs.client import SocketClient
from appliance.verbs.context import Context
from tests.firstboot import rig
from tests.support import needs_program


@pytest.fixture
def disk(box: rig.Box) -> Path:
    """The machine's partition, which is a file."""
    place = box.root / "dev/disk/by-partlabel/data"
    place.parent.mkdir(parents=True)
    with (box.root / "dev/vda6").open("wb") as file:
        file.truncate(8 << 20)
    place.symlink_to("../../vda6")
    return box.root / "dev/vda6"


def fault(box: rig.Box) -> None:
    box.run.mkdir(parents=True)
    (box.run / "data-fault.json").write_text('{"reason": "no superblock", "next": "x"}')


def verb(box: rig.Box, *words: str) -> tuple[int, str]:
    where, out = paths.find({"PRIME_SPARK_HOME": str(box.base / "home")}), io.StringIO()
    context = Context(SocketClient(where.api_socket), where, {}, out, 120, colour=False)
    places = [f"--{name}={path}" for name, path in (("boot", box.boot), ("data", box.data), ("root", box.root))]
    return cli.run([*words, *places], context, out), out.getvalue()


def test_a_partition_that_cannot_be_mounted_is_formatted(box: rig.Box, disk: Path) -> None:
    program = needs_program("dumpe2fs")
    fault(box)
    code, text = verb(box, "data", "reset", "--yes")
    assert (code, "The data partition is empty" in text) == (0, True), text
    said = subprocess.run([program, "-h", disk], capture_output=True, text=True, check=True).stdout
    assert "Filesystem volume name:   data\n" in said
    assert "Filesystem state:         clean" in said


def test_a_sound_one_is_emptied_at_the_next_start_where_that_was_said(box: rig.Box, disk: Path) -> None:
    before = disk.read_bytes()
    code, text = verb(box, "data", "reset", "--yes")
    assert (code, "say --erase-everything as well" in text) == (5, True), text
    assert not (box.data / ERASE).exists()
    code, text = verb(box, "data", "reset", "--yes", "--erase-everything")
    assert (code, "when the machine starts again" in text) == (0, True), text
    assert (box.data / ERASE).exists()
    assert verb(box, "data", "keep") == (0, "it is kept\n")
    assert not (box.data / ERASE).exists()
    assert disk.read_bytes() == before


def test_it_asks_first(box: rig.Box, disk: Path) -> None:
    fault(box)
    before = disk.read_bytes()
    code, text = verb(box, "data", "reset")
    assert (code, "say --yes" in text) == (5, True), text
    assert disk.read_bytes() == before


def test_on_any_other_system_nothing_is_done(box: rig.Box, disk: Path) -> None:
    fault(box)
    before = disk.read_bytes()
    (box.root / "etc/os-release").write_text("ID=debian\nIMAGE_ID=other\n")
    for words in (("data", "reset", "--yes", "--erase-everything"), ("data", "keep")):
        code, text = verb(box, *words)
        assert (code, "not started from the Prime Spark image" in text) == (1, True), text
    assert disk.read_bytes() == before
    assert not card.is_image(Path("/")), "these tests never run on the image itself"
    with pytest.raises(AbsentError):
        reset.reset(box.data, Path("/"), box.run, everything=True)


def test_only_a_partition_of_that_system_is_taken(box: rig.Box, disk: Path, tmp_path: Path) -> None:
    fault(box)
    name = box.root / reset.LABEL
    other = tmp_path / "other disk"
    other.write_bytes(b"precious")
    name.unlink()
    with pytest.raises(AbsentError, match="no partition called data"):
        reset.reset(box.data, box.root, box.run, everything=True)
    for target in (other, Path("/dev/null")):
        name.symlink_to(target)
        with pytest.raises(StoreError, match="is no partition of this system"):
            reset.reset(box.data, box.root, box.run, everything=True)
        name.unlink()
    assert other.read_bytes() == b"precious"


def test_one_that_is_mounted_is_not_formatted(box: rig.Box, disk: Path) -> None:
    fault(box)
    info = box.root / "proc/self/mountinfo"
    info.parent.mkdir(parents=True)
    info.write_text(f"36 25 254:6 / /data rw,relatime - ext4 {disk} rw\n")
    with pytest.raises(StoreError, match="is mounted"):
        reset.reset(box.data, box.root, box.run, everything=False)
    assert disk.read_bytes() == bytes(8 << 20)
    info.write_text("")
    reset.reset(box.data, box.root, box.run, everything=False)
    assert disk.read_bytes() != bytes(8 << 20)


def test_without_the_words_nothing_is_asked_of_a_sound_one(box: rig.Box, disk: Path) -> None:
    with pytest.raises(ConfirmationRequiredError, match="is sound"):
        reset.reset(box.data, box.root, box.run, everything=False)
    assert os.listdir(box.data) == []
