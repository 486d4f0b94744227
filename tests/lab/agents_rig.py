"""A lab of its own for agents: control-pc with Kafka and a web server, and empty nodes beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import appliance
from appliance.errors import ApplianceError
from tests.lab import units
from tests.lab.client import Lab
from tests.lab.plan import HUB
from tests.support import wait_for_sync

BUSY = 90.0
WEB = 8088
SETTINGS = f"""
[kafka]
bootstrap_servers = "{HUB.address}:9092"

[agents]
http_hosts = ["{HUB.address}:{WEB}"]
limit = 3
join_seconds = 60

[agents.commands.who]
program = "/usr/bin/id"

[agents.commands.rests]
program = "/usr/bin/sleep"
extra = 1
"""
OVER = {"completed", "failed", "undone", "cancelled"}
TREE = """
find /opt /etc /var /run /usr /home /srv -xdev -path /var/log -prune \\
  -o -path /run/systemd -prune -o -path /var/lib/apt -prune -o -print | grep -v -e __pycache__ -e '^/run/.*pid$' | sort
sha256sum /etc/passwd /etc/group /etc/shadow
"""
"""Names of all files that an agent could leave, and the accounts."""


def make(version: str) -> Lab:
    """The lab, its appliance running in that version, with Kafka started."""
    lab = Lab(f"agents-{os.getpid()}")
    lab.up(nodes=HUB.name, pace=2, bound=True)
    path = lab.home / "config.toml"
    path.write_text(path.read_text().replace("[vpn]\nenabled = true", "[vpn]\nenabled = false") + SETTINGS)
    _install(lab, units.kafka(HUB))
    web = units.unit("Web", ExecStart=f"/usr/bin/python3 -m http.server {WEB} --directory /srv/web", Restart="always")
    _install(lab, {units.own("web"): (web, 0o644), "srv/web/hello.txt": ("hello, agent\n", 0o644)})
    other_version(lab, version)
    lab.exec(HUB.name, "systemctl", "start", "kafka", "web", "prime-spark")
    return lab


def _install(lab: Lab, files: units.Files) -> None:
    for name, (text, mode) in files.items():
        script = f'mkdir -p "$(dirname /{name})" && cat >/{name} && chmod {mode:o} /{name}'
        lab.exec(HUB.name, "sh", "-c", script, text=text)


def answers(lab: Lab) -> None:
    """Return when the appliance reaches Kafka."""

    def reaches() -> bool:
        try:
            services = {each["name"]: each["reason"] for each in lab.invoke("service.list")}
        except ApplianceError:
            return False
        return "cannot be reached" not in services["tasks"] and "task" in services["tasks"]

    wait_for_sync(reaches, BUSY, "the appliance answers, and Kafka is up")


def join(lab: Lab, name: str, **more: Any) -> dict[str, Any]:
    """An empty node that the appliance knows."""
    node = lab.add(name, trusted=True)
    lab.invoke("fleet.add", {"node": name, "host": node["address"], **more})
    lab.invoke("fleet.trust", {"node": name, "fingerprint": node["host_key"]}, confirm=True)
    return node


def agent(lab: Lab, name: str) -> dict[str, Any]:
    rows = {each["node"]: each for each in lab.invoke("agent.list")["agents"]}
    return dict(rows[name])


def act(lab: Lab, verb: str, *names: str, **more: Any) -> dict[str, Any]:
    """Begin an operation on agents and wait for its end."""
    given = {"nodes": list(names), "soak": 0, **more}
    told: dict[str, Any] = lab.invoke(f"agent.{verb}", given, confirm=True)

    def over() -> bool:
        told.update(lab.invoke("fleet.operation", {"operation_id": told["operation_id"]}))
        return told["stage"] in OVER

    wait_for_sync(over, BUSY * 2, f"{verb} has ended")
    return told


def said(lab: Lab, told: dict[str, Any], name: str) -> str:
    part = lab.invoke("fleet.operation-output", {"operation_id": told["operation_id"], "node": name})
    return str(part["text"])


def task(lab: Lab, kind: str, payload: dict[str, Any], worker: str) -> dict[str, Any]:
    """A task's end."""
    begun = lab.invoke("task.submit", {"type": kind, "payload": payload, "worker": worker, "attempts": 1})
    return dict(lab.invoke("task.wait", {"task_id": begun["task_id"]}))


def tree(lab: Lab, name: str) -> str:
    return lab.exec(name, "sh", "-c", TREE)


def other_version(lab: Lab, version: str) -> None:
    """Have the appliance be of another version from its next start on; "" for its own again."""
    folder = lab.home / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    drop = "/etc/systemd/system/prime-spark.service.d"
    if version:
        source = Path(appliance.__file__).parent
        shutil.copytree(source, folder / "appliance", ignore=shutil.ignore_patterns("__pycache__"))
        own = folder / "appliance/__init__.py"
        own.write_text(own.read_text().replace(f'"{appliance.__version__}"', f'"{version}"'))
        text = "[Service]\nEnvironment=PYTHONPATH=/srv/prime-spark/copy\n"
        lab.exec(HUB.name, "sh", "-c", f"mkdir -p {drop} && cat >{drop}/copy.conf", text=text)
    else:
        lab.exec(HUB.name, "rm", "-rf", drop)
    lab.exec(HUB.name, "systemctl", "daemon-reload")


def restart(lab: Lab) -> None:
    """Start the appliance anew, and wait until it reaches Kafka."""
    lab.exec(HUB.name, "systemctl", "restart", "prime-spark")
    answers(lab)
