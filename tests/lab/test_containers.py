"""A node that runs containers: compose projects of real ones, and walls that hold for it too."""

from __future__ import annotations

import pytest

from tests.lab import boxed
from tests.lab.client import Lab, LabError
from tests.lab.conftest import BOX, LONG
from tests.lab.test_fleet_work import ends, states, up
from tests.lab.units import unit
from tests.support import capability, wait_for_sync

COMPOSE = """version: "3"
services:
  web:
    image: localhost/lab-web:{version}
    ports: ["8081:8080"]
"""
PROBE = "mknod /root/disk b 254 0 && ! head -c1 /root/disk && ! dd if=/dev/zero of=/root/disk count=1"


@pytest.fixture
def boxes(lab: Lab) -> Lab:
    """The lab, with the images there."""
    capability(not boxed.missing(), boxed.missing())
    ready(lab)
    return lab


def ready(lab: Lab) -> None:
    wait_for_sync(lambda: len(lab.exec(BOX, "docker", "images", "-q", check=False).split()) == 2, 30, "its engine answers")


def page(lab: Lab) -> str:
    return lab.exec(BOX, "busybox", "wget", "-qO-", "http://203.0.113.11:8081/", check=False).strip()


def write(lab: Lab, version: str) -> None:
    script = "mkdir -p /opt/web && cat > /opt/web/docker-compose.yml"
    lab.exec(BOX, "sh", "-c", script, text=COMPOSE.format(version=version))


@LONG
def test_the_appliance_brings_a_compose_project_up_changes_its_version_and_takes_it_down(spark: Lab, boxes: Lab) -> None:
    up(spark, BOX)
    project = {"project": "web", "nodes": [BOX], "soak": 0}
    for version in boxed.VERSIONS:
        write(boxes, version)
        told = ends(spark, spark.invoke("fleet.compose-up", {**project, "folder": "/opt/web"}, confirm=True))
        assert (told["stage"], states(told)) == ("completed", {BOX: "ok"}), (told["reason"], told["runs"])
        wait_for_sync(lambda version=version: page(boxes) == f"version {version}", 20, "it serves")  # type: ignore[misc]
    shown = boxes.exec(
        BOX, "docker", "ps", "--filter", "label=com.docker.compose.project=web", "--format", "{{.Image}} {{.State}}"
    )
    assert shown.split() == ["localhost/lab-web:2", "running"]
    told = ends(spark, spark.invoke("fleet.compose-down", project, confirm=True))
    assert (told["stage"], states(told)) == ("completed", {BOX: "ok"}), (told["reason"], told["runs"])
    assert boxes.exec(BOX, "docker", "ps", "-aq") == ""


def test_what_runs_there_opens_no_disk_and_sees_no_groups_but_its_own(boxes: Lab) -> None:
    boxes.exec(BOX, "sh", "-c", "cat > /etc/systemd/system/probe.service && systemctl daemon-reload",
               text=unit("Probe", Type="oneshot", ExecStart=f"/bin/sh -c '{PROBE}; cat /proc/self/cgroup'"))  # fmt: skip
    boxes.exec(BOX, "systemctl", "start", "probe")
    said = boxes.exec(BOX, "journalctl", "-u", "probe", "-o", "cat")
    assert said.count("Operation not permitted") == 2
    assert {line.rpartition(":")[2] for line in said.splitlines() if ":/" in line and "disk" not in line} == {"/"}
    with pytest.raises(LabError, match="Read-only file system"):
        boxes.exec(BOX, "python3", "-c", "import os; os.open('/proc/sys/kernel/panic', os.O_WRONLY)")


def test_a_killed_node_has_its_images_again(boxes: Lab) -> None:
    boxes.kill(BOX)
    boxes.start(BOX)
    ready(boxes)
