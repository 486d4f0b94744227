"""The Deployments page over a real appliance with a real node, and what its rows say."""

from __future__ import annotations

import sys
import time
from base64 import b64encode
from pathlib import Path

import msgspec
import pytest

from appliance.core.deploy.model import (
    BalancerStatus,
    Deployed,
    DeployStatus,
    Fitness,
    Kind,
    Replica,
    ReplicaState,
    ReplicaStatus,
    Rollout,
    RolloutStatus,
    Stage,
    Strategy,
    TrafficShare,
)  # fmt: skip
from appliance.core.model import Actor, Role
from appliance.errors import NotAuthorizedError
from appliance.screens import deploy_view as view
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.widgets.grid import Row
from appliance.screens.widgets.lines import Line
from appliance.verbs import deploy, render
from tests.deploy.rig import HERE, SPEC, free_range, needs
from tests.deploy.whole import whole
from tests.support import free_port

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)


def cells(row: Row) -> str:
    return " | ".join(cell if isinstance(cell, str) else cell[0] for cell in row.cells)


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


ROLLOUT = Rollout(
    "x", "web", 1, 2, Strategy.canary, "ada", time.time() - 60, Stage.shifting, 1, {1: 75.0, 2: 25.0},
    "holding 25 % of the traffic",
)  # fmt: skip
SHARES = (TrafficShare(1, "1.9", 75.0, 300, 0, 74.0, 30.0), TrafficShare(2, "2.0", 25.0, 100, 3, 26.0, 10.0))
WEB = Deployed(
    "web", Kind.unit, Strategy.canary, 1, "1.9", 2, 2, "healthy", "shifting: holding 25 % of the traffic", rate=40.0,
    replicas=(ReplicaStatus(Replica("r", "web", 1, "1.9", "alpha", 18080, ReplicaState.running), Fitness.healthy),),
    rollout=RolloutStatus(ROLLOUT, "1.9", "2.0", 1, 2, SHARES, (5.0, 25.0, 50.0), 42.0), listen="127.0.0.1:8080",
)  # fmt: skip


def test_a_rollout_is_told_with_what_was_measured() -> None:
    told = text_of(view.rollout_lines(WEB, 78, CONSOLE))
    assert "starting > [shifting] > soaking > retiring > completed" in told
    assert "5 %  [25 %]  50 %  100 %" in told
    assert "26 % measured, 25 % wanted" in told
    assert "100 requests, 3 errors" in told
    assert "in 42 s" in told
    assert unsafe(told.replace("\n", "")) == set()
    assert cells(view.service_rows(DeployStatus((WEB,)), CONSOLE)[0]).endswith("to 2.0: shifting")


def test_what_is_not_known_is_a_dash() -> None:
    assert cells(view.replica_rows(WEB, CONSOLE)[0]) == "alpha:18080 | 1.9 | running | ● healthy | – | – | – | –"
    still = msgspec.structs.replace(WEB, rate=None, rollout=None)
    assert "| – |" in cells(view.service_rows(DeployStatus((still,)), CONSOLE)[0])
    absent = DeployStatus((), BalancerStatus("absent", "HAProxy is not installed", "install it"))
    told = "".join(piece for piece, _ in view.head_line(absent, CONSOLE))
    assert "0 services" in told
    assert "– absent, HAProxy is not installed" in told


def test_the_text_twin_says_the_same() -> None:
    value = msgspec.to_builtins(DeployStatus((WEB,), BalancerStatus("healthy", "1 service, 1 server", version="2.6")))
    told = render.formed(deploy.FORMS, "deploy.status", value, 120, colour=False) or ""
    assert "web  healthy  version 1.9 (revision 1)" in told
    assert "rollout from 1.9 to 2.0 by ada, canary: shifting, next step in 42 s" in told
    assert [word for line in told.splitlines() if line.startswith("2.0") for word in line.split()] == [
        "2.0", "2", "25", "%", "26", "%", "10.0/s", "100", "3",
    ]  # fmt: skip
    nothing = msgspec.to_builtins(DeployStatus((), BalancerStatus("absent", "HAProxy is not installed", "install it")))
    told = render.formed(deploy.FORMS, "deploy.status", nothing, 80, colour=False) or ""
    assert "no service is deployed" in told
    assert "balancer: absent, HAProxy is not installed" in told
    assert "next: install it" in told


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIME_SPARK_HOME", str(tmp_path))
    return tmp_path


async def test_a_service_is_deployed_scaled_and_removed_by_keys(home: Path) -> None:
    needs()
    async with whole(home, "alpha") as (bench, moods):
        values = {"name": "web", "soak": 0.3, "deadline": 60, "timeout": 4, "replace": 9, "restart": 9, "more": ""}
        document = SPEC.format(
            version="1", strategy="rolling", replicas=1, front=f"[front]\nlisten = {free_port()}", python=sys.executable,
            server=HERE / "server.py", folder=moods, first=free_range(), **values,
        )  # fmt: skip
        args = {"file": b64encode(document.encode()).decode()}
        seen = bench.open(PLAIN)
        await seen.press("gy", "no service is deployed")
        await bench.invoke("deploy.apply", **args)
        await seen.shows("1/1")
        await seen.shows("[completed]")
        await seen.press("\t", "alpha:")
        await seen.press("\t", "runs version 1")
        await seen.press("s", "Replicas of web, now 1")
        await seen.fill("replicas", "2")
        await seen.shows("2/2")
        await seen.press("d", "Stop web on all nodes")
        await seen.press("y", "no service is deployed")
        assert unsafe(seen.display.replace("\n", "")) == set()
        with pytest.raises(NotAuthorizedError):
            await bench.appliance.dispatcher.invoke("deploy.apply", args, Actor("eve", Role.operator, "console"))
        await seen.end()
