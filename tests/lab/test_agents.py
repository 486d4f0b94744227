"""From an empty node to an agent that works, by one action; upgraded; removed without a trace; broken off, and mended."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

import appliance
from tests.lab import agents_rig as rig
from tests.lab.client import Lab
from tests.lab.conftest import LONG, needs_lab
from tests.lab.plan import HUB
from tests.support import wait_for_sync

FORMER = "0.0.9"
UNIT = "prime-spark-agent"
FILES = "/var/lib/prime-spark-agent/files"
ABLE = {"command", "http", "file_transfer", "task_execution"}
WEB = f"http://{HUB.address}:{rig.WEB}/hello.txt"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    needs_lab()
    made = rig.make(FORMER)
    try:
        rig.answers(made)
        yield made
    finally:
        made.down()


def runs(told: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {run["node"]: (run["state"], run["reason"]) for run in told["runs"]}


@LONG
@pytest.mark.timeout(400)
def test_an_empty_node_works_is_upgraded_and_is_empty_again(lab: Lab) -> None:
    rig.join(lab, "newcomer")
    before = rig.tree(lab, "newcomer")
    begun = time.monotonic()
    told = rig.act(lab, "install", "newcomer")
    took = {"install_s": time.monotonic() - begun}
    assert told["stage"] == "completed", (told["reason"], runs(told))
    note = runs(told)["newcomer"][1]
    assert "MB sent" in note
    assert "it offers" in note
    wait_for_sync(lambda: rig.agent(lab, "newcomer")["state"] == "ready", rig.BUSY, "the list tells of it")  # once a second
    row = rig.agent(lab, "newcomer")
    assert (row["state"], row["version"], row["outdated"], row["limit"]) == ("ready", FORMER, False, 3)
    assert set(row["capabilities"]) == ABLE
    _does_all(lab)
    _is_closed(lab)
    assert runs(rig.act(lab, "install", "newcomer"))["newcomer"][0] == "unchanged"
    rig.other_version(lab, "")
    rig.restart(lab)
    wait_for_sync(lambda: rig.agent(lab, "newcomer")["outdated"], rig.BUSY, "it is seen as outdated")
    begun = time.monotonic()
    told = rig.act(lab, "upgrade", "newcomer")
    took["upgrade_s"] = time.monotonic() - begun
    assert told["stage"] == "completed", (told["reason"], runs(told))
    now = appliance.__version__
    wait_for_sync(lambda: rig.agent(lab, "newcomer")["version"] == now, rig.BUSY, "the list tells of the new version")
    assert "the libraries are there already" in rig.said(lab, told, "newcomer")
    assert len(lab.exec("newcomer", "ls", "/opt/prime-spark-agent/versions").split()) == 2
    note = f"{note}; {runs(told)['newcomer'][1]}"
    begun = time.monotonic()
    told = rig.act(lab, "remove", "newcomer")
    took["remove_s"] = time.monotonic() - begun
    assert told["stage"] == "completed", (told["reason"], runs(told))
    assert rig.tree(lab, "newcomer") == before
    logging.getLogger(__name__).info("%s; %s", {name: round(value, 1) for name, value in took.items()}, note)


def _does_all(lab: Lab) -> None:
    done = rig.task(lab, "command", {"command": "who"}, "newcomer")
    assert done["task"]["state"] == "completed", done
    assert "uid=0(" not in str(done["result"])
    assert "hello, agent" in str(rig.task(lab, "http", {"url": WEB}, "newcomer")["result"])
    rig.task(lab, "file_transfer", {"source": WEB, "target": f"{FILES}/hello.txt"}, "newcomer")
    assert lab.exec("newcomer", "cat", f"{FILES}/hello.txt") == "hello, agent\n"
    handed = rig.task(lab, "task_execution", {"do": "command", "command": "who"}, "newcomer")
    assert handed["task"]["state"] == "completed", handed


def _is_closed(lab: Lab) -> None:
    """The key is root's and the agent's alone, on no command line, and the configuration is not the Control PC's."""
    secrets = lab.exec(
        "newcomer", "sh", "-c", "stat -c '%a %U' /etc/prime-spark-agent/secrets /etc/prime-spark-agent/secrets/*"
    )
    assert secrets.splitlines() == ["700 root", "600 root"]
    key = (lab.home / "data/secrets/tasks.key").read_text().strip()
    assert key not in lab.exec("newcomer", "ps", "-eo", "args")
    config = lab.exec("newcomer", "cat", "/etc/prime-spark-agent/config.toml")
    assert 'device_id = "newcomer"' in config
    assert "fleet" not in config


@LONG
def test_what_was_broken_off_is_mended_by_the_next_and_taken_away_by_a_removal(lab: Lab) -> None:
    rig.join(lab, "halfway")
    before = rig.tree(lab, "halfway")
    half = (
        "mkdir -p /opt/prime-spark-agent/versions/0.0.8-aaaa/venv /etc/prime-spark-agent.new /var/tmp/prime-spark-agent.x && "
    )
    half += ": >/opt/prime-spark-agent/.prime-spark && ln -s versions/0.0.8-aaaa /opt/prime-spark-agent/current"
    lab.exec("halfway", "sh", "-c", half)
    removed = rig.act(lab, "remove", "halfway")
    assert removed["stage"] == "completed", runs(removed)
    assert rig.tree(lab, "halfway") == before
    lab.exec("halfway", "sh", "-c", half)
    told = rig.act(lab, "install", "halfway")
    assert told["stage"] == "completed", (told["reason"], runs(told))
    assert "0.0.8" not in lab.exec("halfway", "ls", "/opt/prime-spark-agent/versions")
    lab.exec("halfway", "systemctl", "stop", UNIT)
    repaired = rig.act(lab, "upgrade", "halfway")
    assert runs(repaired)["halfway"][0] == "ok"
    assert lab.exec("halfway", "systemctl", "is-active", UNIT).strip() == "active"


@LONG
def test_an_agent_that_does_not_come_to_life_is_taken_back(lab: Lab) -> None:
    rig.join(lab, "mute")
    before = rig.tree(lab, "mute")
    lab.exec("mute", "sh", "-c", "nft add table ip t && nft 'add chain ip t o { type filter hook output priority 0; }' && "
             "nft add rule ip t o tcp dport 9092 drop")  # fmt: skip
    lab.invoke("config.set", {"key": "agents.join_seconds", "value": "5"})
    rig.restart(lab)
    told = rig.act(lab, "install", "mute")
    assert told["stage"] == "undone", (told["reason"], runs(told))
    assert "no sign of life over Kafka within 5 s" in told["reason"]
    assert rig.tree(lab, "mute") == before


def test_nodes_that_cannot_have_one_are_told_apart(lab: Lab) -> None:
    rig.join(lab, "bare")
    lab.exec("bare", "sh", "-c", f"echo '[Service]' > /etc/systemd/system/{UNIT}.service && systemctl daemon-reload")
    planned = lab.invoke("fleet.plan", {"kind": "agent.install", "nodes": ["bare"]})
    assert "somebody else's unit" in planned["runs"][0]["reason"]
    lab.exec("bare", "rm", f"/etc/systemd/system/{UNIT}.service")
    lab.exec(
        "bare", "sh", "-c", "systemctl daemon-reload && mkdir /opt/prime-spark-agent && echo mine > /opt/prime-spark-agent/x"
    )
    planned = lab.invoke("fleet.plan", {"kind": "agent.install", "nodes": ["bare"]})
    assert "not of us" in planned["runs"][0]["reason"]
    lab.exec("bare", "rm", "-r", "/opt/prime-spark-agent")
    planned = lab.invoke("fleet.plan", {"kind": "agent.upgrade", "nodes": ["bare"]})
    assert "there is no agent there" in planned["runs"][0]["reason"]
    wait_for_sync(
        lambda: rig.agent(lab, "bare")["state"] in {"absent", "unknown"}, message="it is seen as one without an agent"
    )
