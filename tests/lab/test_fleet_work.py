"""Operations of the appliance on nodes of the lab: a canary that is taken back, live output, reboot, power off and waking."""

from __future__ import annotations

from typing import Any

from tests.lab.client import Lab
from tests.lab.conftest import LONG
from tests.lab.units import unit
from tests.support import wait_for_sync

CLOUD = ["primecore1", "primecore2", "primecore3"]
RUNS = "/bin/sh -c 'echo started >> /var/log/probe; exec sleep 1000'"
FALLS = "/bin/sh -c 'echo started >> /var/log/probe; exit 1'"
ENDED = {"completed", "failed", "undone", "cancelled"}
BUSY = 60.0


def up(lab: Lab, *names: str) -> None:
    def told() -> bool:
        links = {row["node"]: row["link"] for row in lab.invoke("fleet.status")["nodes"]}
        return all(links[name] == "up" for name in names)

    wait_for_sync(told, BUSY, f"{', '.join(names)} are up")


def operation(lab: Lab, begun: dict[str, Any]) -> dict[str, Any]:
    return dict(lab.invoke("fleet.operation", {"operation_id": begun["operation_id"]}))


def ends(lab: Lab, begun: dict[str, Any]) -> dict[str, Any]:
    wait_for_sync(lambda: operation(lab, begun)["stage"] in ENDED, BUSY, "it has ended")
    return operation(lab, begun)


def states(told: dict[str, Any]) -> dict[str, str]:
    return {run["node"]: run["state"] for run in told["runs"]}


def install(lab: Lab, name: str, start: str, kind: str = "simple") -> None:
    script = "cat > /etc/systemd/system/probe.service && systemctl daemon-reload && "
    script += "rm -f /var/log/probe && systemctl reset-failed"
    lab.exec(name, "sh", "-c", script, text=unit("Probe", Type=kind, ExecStart=start))


def test_a_canary_that_falls_stops_there_and_is_taken_back(spark: Lab) -> None:
    up(spark, *CLOUD)
    for name in CLOUD:
        install(spark, name, *((FALLS, "oneshot") if name == CLOUD[0] else (RUNS, "simple")))
    begun = spark.invoke("fleet.service-start", {"unit": "probe", "nodes": CLOUD, "canary": 1, "soak": 5}, confirm=True)
    told = ends(spark, begun)
    assert (told["stage"], states(told)[CLOUD[0]]) == ("undone", "undone"), (told["reason"], told["runs"])
    assert [states(told)[name] for name in CLOUD[1:]] == ["skipped", "skipped"]
    assert spark.exec(CLOUD[0], "cat", "/var/log/probe").split() == ["started"]
    for name in CLOUD:
        assert spark.exec(name, "systemctl", "is-active", "probe", check=False).strip() in ("inactive", "failed")
    for name in CLOUD[1:]:
        assert spark.exec(name, "sh", "-c", "test -e /var/log/probe || echo never").strip() == "never"


def test_a_canary_that_stands_is_followed_by_the_rest(spark: Lab) -> None:
    up(spark, *CLOUD)
    for name in CLOUD:
        install(spark, name, RUNS)
    begun = spark.invoke("fleet.service-start", {"unit": "probe", "nodes": CLOUD, "canary": 1, "soak": 1}, confirm=True)
    told = ends(spark, begun)
    assert (told["stage"], set(states(told).values())) == ("completed", {"ok"})
    spark.invoke(
        "fleet.service-stop", {"unit": "probe", "nodes": CLOUD, "canary": 0, "soak": 0, "wait_seconds": 30}, confirm=True
    )
    assert [spark.exec(name, "systemctl", "is-active", "probe", check=False).strip() for name in CLOUD] == ["inactive"] * 3


def test_a_command_on_all_nodes_streams_host_by_host(spark: Lab) -> None:
    names = [node["name"] for node in spark.status()["nodes"] if node["role"]]
    assert len(names) == 7
    up(spark, *names)
    for name in names:
        spark.exec(name, "rm", "-f", "/tmp/go")
    command = "echo first of $(hostname); while [ ! -e /tmp/go ]; do sleep 0.05; done; echo last of $(hostname)"
    begun = spark.invoke("fleet.run", {"command": command, "nodes": names})

    def said(name: str) -> str:
        part = spark.invoke("fleet.operation-output", {"operation_id": begun["operation_id"], "node": name})
        return str(part)

    for name in names:
        wait_for_sync(lambda name=name: f"first of {name}" in said(name), BUSY, f"{name} is heard while it runs")  # type: ignore[misc]
        assert f"last of {name}" not in said(name)
    assert set(states(operation(spark, begun)).values()) == {"running"}
    spark.exec(names[0], "touch", "/tmp/go")
    wait_for_sync(lambda: states(operation(spark, begun))[names[0]] == "ok", BUSY, "the first one has ended")
    assert states(operation(spark, begun))[names[1]] == "running"
    for name in names[1:]:
        spark.exec(name, "touch", "/tmp/go")
    told = ends(spark, begun)
    assert (told["stage"], set(states(told).values())) == ("completed", {"ok"})
    assert all(f"last of {name}" in said(name) for name in names)


def test_a_reboot_is_waited_for(spark: Lab) -> None:
    up(spark, "primecore2")
    boots = spark.node("primecore2")["boots"]
    begun = spark.invoke("fleet.reboot", {"nodes": ["primecore2"], "soak": 0}, confirm=True)
    told = ends(spark, begun)
    assert (told["stage"], states(told)) == ("completed", {"primecore2": "ok"}), told
    assert spark.node("primecore2")["boots"] == boots + 1


@LONG
def test_a_node_is_powered_off_and_woken_by_its_card(spark: Lab) -> None:
    up(spark, "spark-agent")
    told = ends(spark, spark.invoke("fleet.power-off", {"nodes": ["spark-agent"], "soak": 0}, confirm=True))
    assert told["stage"] == "completed", told
    wait_for_sync(lambda: spark.node("spark-agent")["state"] == "off", BUSY, "it is off")
    told = ends(spark, spark.invoke("fleet.power-on", {"nodes": ["spark-agent"], "soak": 0}, confirm=True))
    assert told["stage"] == "completed", told
    assert spark.node("spark-agent")["state"] == "on"
