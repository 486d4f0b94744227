"""What a node does not tell, though it is reached, and what goes wrong on our own side."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.rounds import Rhythm
from appliance.core.model import Health
from tests.fleet.conftest import reach
from tests.fleet.test_monitor import benches, server
from tests.servers.sshd import SshServer
from tests.support import wait_for

__all__ = ["benches", "server"]


@pytest.fixture
def choosy(own: OwnKey) -> Iterator[SshServer]:
    """A server whose sh tells numbers, and of the rest what the files `facts` and `updates` beside it let it tell."""
    directory = Path(tempfile.mkdtemp(prefix="sshd-"))
    (directory / "sh").write_text(CHOOSY.format(directory=directory))
    (directory / "sh").chmod(0o755)
    try:
        with SshServer(directory, own.public() + "\n", settings=[f"SetEnv HOME={directory} PATH={directory}:{PATH}"]) as made:
            yield made
    finally:
        shutil.rmtree(directory)


PATH = "/usr/local/bin:/usr/bin:/bin"
CHOOSY = """#!/bin/sh
script=$(/bin/cat)
case $script in
*apt-get*) [ -e {directory}/updates ] || {{ echo no updates today; exit 0; }};;
*uname*) [ -e {directory}/facts ] || {{ echo no facts today; exit 0; }};;
esac
printf '%s\\n' "$script" | /bin/sh
"""


async def test_who_does_not_tell_facts_is_not_healthy_and_its_services_are_not_known(benches: Any, choosy: SshServer) -> None:
    (choosy.directory / "facts").touch()
    bench = await benches(reach(choosy, services=(f"tcp:{choosy.port}",)), reach(choosy, "plain"))
    await wait_for(lambda: all(each.facts is not None for each in bench.nodes()) and len(bench.nodes()) == 2, 20.0)
    assert [each.health for each in bench.nodes()] == [Health.healthy] * 2
    (choosy.directory / "facts").unlink()
    for name in ("agent", "plain"):
        for _ in range(2):
            await bench.service.refresh([name])
    await wait_for(lambda: [each.health for each in bench.nodes()] == [Health.degraded] * 2, 20.0)
    assert [each.ok for each in bench.node().expected] == [None]
    assert "no facts today" in bench.node().reason
    assert "no facts today" in bench.node("plain").reason
    assert bench.node().facts is not None, "what was told stays, with its age"
    assert bench.told == [], "a service that is not known is not down"
    (choosy.directory / "facts").touch()
    await bench.service.refresh(["agent", "plain"])
    await wait_for(lambda: [each.health for each in bench.nodes()] == [Health.healthy] * 2, 20.0)


async def test_updates_that_were_not_told_say_why_and_hold_up_no_facts(benches: Any, choosy: SshServer) -> None:
    (choosy.directory / "facts").touch()
    bench = await benches(reach(choosy), rhythm=Rhythm(metrics=0.5, facts=0.8))
    await wait_for(lambda: bench.node().facts is not None, 20.0)
    await wait_for(lambda: "no updates today" in bench.node().facts.missing.get("updates", ""), 20.0)
    assert bench.node().facts.updates is None
    assert bench.node().health is Health.healthy


async def test_an_error_of_our_own_ends_no_turns(benches: Any, server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await benches(reach(server))
    await wait_for(lambda: bench.node().metrics is not None, 20.0)

    def broken(_: object) -> None:
        raise TypeError("nobody thought of this")

    with monkeypatch.context() as patch:
        patch.setattr(bench.service.monitor.watches["agent"], "looked", broken)
        await wait_for(lambda: "an error of the appliance itself, TypeError" in bench.node().reason, 20.0)
    seen = bench.node().metrics.monotonic
    await wait_for(lambda: bench.node().metrics.monotonic > seen, 20.0)
    assert "TypeError" not in bench.node().reason
