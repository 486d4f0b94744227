"""Compose projects in real containers on a node of the lab: a version over another, and one whose image is not there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import boxed
from tests.lab.client import Lab
from tests.lab.conftest import BOX, LONG
from tests.lab.deploying import Field, Traffic, counted
from tests.lab.test_containers import ready
from tests.lab.test_fleet_work import up
from tests.support import capability, needs_program

pytestmark = [LONG, pytest.mark.timeout(400)]
SPEC = """
name = "boxed"
version = "{version}"
kind = "compose"
nodes = ["{node}"]
ports = {{ first = {first}, count = 10 }}
[compose]
file = '''
version: "2.4"
services:
  web:
    image: localhost/lab-web:${{VERSION}}
    ports: ["${{PORT}}:8080"]
    stop_grace_period: 1s
'''
[front]
listen = {listen}
[health]
kind = "http"
body = "version"
interval = 0.5
start_interval = 0.3
timeout = 4
retries = 2
start_period = 20
[rollout]
strategy = "blue-green"
settle = 0.5
soak = 1
drain = 5
"""


@pytest.fixture
def field(spark: Lab) -> Iterator[Field]:
    needs_program("haproxy")
    capability(not boxed.missing(), boxed.missing())
    ready(spark)
    up(spark, BOX)
    made = Field(spark, "boxed", 7, (BOX,))
    yield made
    made.removed()
    assert spark.exec(BOX, "docker", "ps", "-aq") == ""


def test_projects_go_blue_green_and_one_without_its_image_goes_back(field: Field) -> None:
    def document(version: str) -> str:
        return SPEC.format(version=version, node=BOX, first=field.first, listen=field.listen)

    began = field.deployed(document("1"))
    assert began["stage"] == "completed", began
    with Traffic(field, 20) as traffic:
        field.apply(document("2"))
        ended = traffic.through()
        traffic.after("2")
        told = counted(traffic)
        assert ended["stage"] == "completed", (ended, told)
        assert (traffic.stages["starting"]["2"], traffic.stages["after"]["1"]) == (0, 0), told
        field.apply(document("3"))
        ended = traffic.through()
        traffic.after("2")
    assert ended["stage"] == "rolled back", ended
    assert "bringing ps-boxed-r3" in ended["trouble"], ended
    assert traffic.failed == [], counted(traffic)
    assert field.versions() == {"2": 1}
