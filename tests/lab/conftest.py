"""Fixtures of the lab's tests: one light lab for all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.lab import boxed, cgroups, client
from tests.lab.client import Lab, LabError
from tests.support import capability

BOX = "primecore1"
"""The node that runs containers."""
LONG = pytest.mark.skipif(not os.environ.get("PRIME_SPARK_LONG_TESTS"), reason="many seconds: set PRIME_SPARK_LONG_TESTS=1")


def needs_lab() -> None:
    """Skip the test, with the reason, where there can be no lab."""
    reason = client.missing()
    if os.geteuid() != 0:
        pytest.skip(reason)
    capability(not reason, reason)


@pytest.fixture(scope="package")
def whole_lab() -> Iterator[Lab]:
    """Seven nodes in a lab of this run's own, one of them for containers; it ends with the last test of this folder."""
    needs_lab()
    client.sweep_all()
    made = Lab(f"test-{os.getpid()}")
    try:
        made.up(pace=2, bound=True, containers="" if boxed.missing() else BOX)
        yield made
    finally:
        made.down()
    left = [path for folder, _ in cgroups.hierarchies() for path in (cgroups.TOP / folder).glob(f"*{made.name}*")]
    assert left == []


@pytest.fixture
def lab(whole_lab: Lab) -> Iterator[Lab]:
    """The lab, whole: every node on, nothing cut or slow."""
    yield whole_lab
    whole_lab.heal()
    for node in whole_lab.status()["nodes"]:
        if node["state"] == "off":
            with suppress(LabError):  # the next test says what it misses
                whole_lab.start(node["name"])


@pytest.fixture
def spark(lab: Lab) -> Lab:
    """The same, with the appliance running in control-pc."""
    lab.appliance()
    return lab
