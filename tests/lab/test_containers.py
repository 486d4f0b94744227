"""A node that runs containers: compose projects of real ones, and walls that hold for it too."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab import boxed, cgroups
from tests.lab.client import Lab, LabError
from tests.lab.conftest import needs_lab
from tests.lab.units import unit
from tests.support import capability, wait_for_sync

COMPOSE = """version: "3"
services:
  web:
    image: localhost/lab-web:{version}
    ports: ["8081:8080"]
"""
PROBE = "mknod /root/disk b 254 0 && ! head -c1 /root/disk && ! dd if=/dev/zero of=/root/disk count=1"


@pytest.fixture(scope="module")
def boxes() -> Iterator[Lab]:
    needs_lab()
    capability(not boxed.missing(), boxed.missing())
    made = Lab(f"test-boxes-{os.getpid()}")
    try:
        made.up(nodes="nas", containers="nas")
        yield made
    finally:
        made.down()
    left = [path for folder, _ in cgroups.hierarchies() for path in (cgroups.TOP / folder).glob(f"*{made.name}*")]
    assert left == []


def page(lab: Lab) -> str:
    return lab.exec("nas", "busybox", "wget", "-qO-", "http://192.0.2.49:8081/", check=False).strip()


def test_a_compose_project_runs_changes_its_version_and_goes(boxes: Lab) -> None:
    for version in boxed.VERSIONS:
        boxes.exec(
            "nas", "sh", "-c", "mkdir -p /opt/web && cat > /opt/web/docker-compose.yml", text=COMPOSE.format(version=version)
        )
        boxes.exec("nas", "docker-compose", "-f", "/opt/web/docker-compose.yml", "-p", "web", "up", "-d")
        wait_for_sync(lambda: page(boxes), 20, "the container serves")
        assert page(boxes) == f"version {version}"
    told = boxes.exec(
        "nas", "docker", "ps", "--filter", "label=com.docker.compose.project=web", "--format", "{{.Image}} {{.State}}"
    )
    assert told.split() == ["localhost/lab-web:2", "running"]
    boxes.exec("nas", "docker-compose", "-f", "/opt/web/docker-compose.yml", "-p", "web", "down")
    assert boxes.exec("nas", "docker", "ps", "-aq") == ""


def test_what_runs_there_opens_no_disk_and_sees_no_groups_but_its_own(boxes: Lab) -> None:
    boxes.exec("nas", "sh", "-c", "cat > /etc/systemd/system/probe.service && systemctl daemon-reload",
               text=unit("Probe", Type="oneshot", ExecStart=f"/bin/sh -c '{PROBE}; cat /proc/self/cgroup'"))  # fmt: skip
    boxes.exec("nas", "systemctl", "start", "probe")
    said = boxes.exec("nas", "journalctl", "-u", "probe", "-o", "cat")
    assert said.count("Operation not permitted") == 2
    assert {line.rpartition(":")[2] for line in said.splitlines() if ":/" in line and "disk" not in line} == {"/"}
    with pytest.raises(LabError, match="Read-only file system"):
        boxes.exec("nas", "python3", "-c", "import os; os.open('/proc/sys/kernel/panic', os.O_WRONLY)")


def test_a_killed_node_has_its_images_again(boxes: Lab) -> None:
    boxes.kill("nas")
    boxes.start("nas")
    wait_for_sync(lambda: len(boxes.exec("nas", "docker", "images", "-q", check=False).split()) == 2, 20, "its engine answers")
