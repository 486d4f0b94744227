"""Two builds from the same sources are equal, byte by byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import VERSION, needs_what_images_need
from imagelab.build import Builder, digest

pytestmark = [pytest.mark.image_full, pytest.mark.xdist_group("image"), pytest.mark.timeout(3 * 3600)]
PARTS = ("root.squashfs", "boot.vfat", "config.vfat", "data.ext4")


def test_two_builds_are_equal(tmp_path: Path) -> None:
    needs_what_images_need("amd64")
    key = Builder(tmp_path / "one")
    builders = [key, Builder(tmp_path / "two")]
    builders[1].public.write_text(key.public.read_text())
    sums = []
    for number, each in enumerate(builders):
        each.cache = tmp_path / f"cache-{number}"  # all is made anew but for the keys
        if number:
            shutil.copytree(builders[0].cache / "keys", each.cache / "keys")
        made = each.build(VERSION)
        rest = {"image": digest(made.image), "deb": digest(next(made.out.glob("*.deb")))}
        sums.append({name: digest(made.out / name) for name in PARTS} | rest)
    assert sums[0] == sums[1]
