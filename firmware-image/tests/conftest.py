"""What tests of the image share: what must be installed, one image for all of them, a machine that was started from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagelab import machine as lab
from imagelab.build import Builder, Built
from imagelab.disk import Overlay
from imagelab.guest import Guest, first_boot, prepare
from imagelab.machine import Machine, Wishes
from imagelab.run import run
from imagelab.ssh import Login
from imagelab.web import served

from tests.support import capability, needs_program

VERSION, NEWER, BROKEN = "1.0.0", "1.1.0", "1.2.0"
CARD = 8 << 30
"""Bytes of the card that the image is written to."""
PROGRAMS = ("qemu-img", "qemu-io", "sfdisk", "mcopy", "minisign", "ssh", "ssh-keygen", "busybox")
BUILDING = ("mmdebstrap", "mksquashfs", "rauc")
NO_APPLIANCE = {
    "etc/systemd/system/prime-spark.service.d/broken.conf": "[Service]\nExecStart=\nExecStart=/usr/bin/false\n",
}
"""An update whose appliance never starts."""
TUNNEL = '\n[settings.vpn]\nenabled = true\nendpoint = "192.0.2.1"\n'


def needs_what_images_need(arch: str) -> None:
    """Skip, or fail under CI=true, where building or starting an image is not possible here."""
    if os.geteuid() != 0:
        pytest.skip("building an image needs root: run the tests as root, or in a container")
    for each in (*PROGRAMS, *BUILDING):
        needs_program(each)
    needs_program("qemu-system-x86_64" if arch == "amd64" else "qemu-system-aarch64")
    if arch == "amd64":
        capability(lab.OVMF_CODE.exists(), "ovmf")
    else:
        needs_program("fdtput")


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Builds images for amd64."""
    needs_what_images_need("amd64")
    return Builder(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="session")
def built(builder: Builder) -> Built:
    """The image that the machines start from."""
    return builder.build(VERSION)


@pytest.fixture(scope="session")
def newer(builder: Builder, built: Built) -> Built:
    """An update of it."""
    return builder.bundle(NEWER)


@pytest.fixture(scope="session")
def broken(builder: Builder, built: Built) -> Built:
    """An update whose appliance never becomes healthy."""
    return builder.bundle(BROKEN, NO_APPLIANCE)


@pytest.fixture(scope="session")
def login(tmp_path_factory: pytest.TempPathFactory) -> Login:
    """An administrator."""
    return Login(tmp_path_factory.mktemp("login"), "ada")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A directory that machines reach at http://10.0.2.100/, and the port here."""
    directory = tmp_path_factory.mktemp("web")
    with served(directory) as port:
        yield directory, port


@pytest.fixture(scope="module")
def guest(built: Built, login: Login, web: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A machine at its first start, shared by the tests of a module in their order."""
    disk = Overlay(built.image, tmp_path_factory.mktemp("card"), CARD)
    prepare(disk, first_boot(login, more=TUNNEL))
    login.forget()
    with Machine(disk, Wishes(web=web[1]), "first") as machine:
        yield Guest(machine, login)
        machine.keep_record()


@pytest.fixture(scope="session")
def built_image(built: Built) -> Path:
    """The raw image."""
    return built.image


@pytest.fixture(scope="session")
def settled(built: Built, login: Login, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw image of a card whose machine was set up, found healthy and switched off: others begin there."""
    home = tmp_path_factory.mktemp("settled")
    disk = Overlay(built.image, home, CARD)
    prepare(disk, first_boot(login, more=TUNNEL))
    with Machine(disk, name="settled") as machine:
        guest = Guest(machine, login)
        guest.wait_up(1200)
        guest.wait("every service is well", lambda: not guest.unwell() or None, 300)
        machine.switch_off()
    image = home / "settled.img"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(disk.file), str(image))
    login.forget()
    return image
