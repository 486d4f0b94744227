"""A service in versions and moods on the lab's nodes, its specification, and a steady load that counts who answers."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.deploy.rig import Load
from tests.lab.client import Lab
from tests.lab.test_fleet_work import up
from tests.support import wait_for_sync

CARRIERS = ("primecore2", "primecore3", "primecore4")
"""Nodes that the service may run on."""
ENDED = frozenset({"completed", "rolled back", "failed"})
BUSY = 120.0
SERVER = Path(__file__).parents[1] / "deploy/server.py"
SPEC = """
name = "{name}"
version = "{version}"
kind = "unit"
replicas = {replicas}
nodes = {nodes}
ports = {{ first = {first}, count = 20 }}
replace_after = 2
restart_after = 2
[unit]
command = "/usr/bin/python3 -S {folder}/server.py {{port}} {{version}} {folder}"
[front]
listen = {listen}
[health]
kind = "http"
path = "/health"
json = {{ status = "up" }}
interval = 0.5
start_interval = 0.2
timeout = {timeout}
retries = 2
start_period = {start_period}
[rollout]
strategy = "{strategy}"
settle = 0.3
soak = {soak}
step_seconds = 1
steps = [10, 50]
drain = 5
deadline = 40
{more}
"""


class Field:
    """A service as its operator sees it, in one lab.

    Args:
        lab: With the appliance running in control-pc.
        name: Of the service.
        number: Of the service, for its ports.
        nodes: Where it may run.
    """

    def __init__(self, lab: Lab, name: str, number: int, nodes: tuple[str, ...] = CARRIERS) -> None:
        self.lab, self.name, self.nodes = lab, name, nodes
        self.first, self.listen, self.folder = 18000 + 100 * number, 8080 + number, f"/opt/{name}"

    @property
    def now(self) -> str:
        """The version that runs."""
        return str(self.web()["label"])

    def ready(self) -> None:
        """Its program is on every node that may carry it, and the appliance reaches them."""
        up(self.lab, *self.nodes)
        text = SERVER.read_text().replace('"127.0.0.1", PORT', '"", PORT')
        script = f"rm -rf {self.folder}; mkdir -p {self.folder} && cat > {self.folder}/server.py && chmod -R a+rX {self.folder}"
        for node in self.nodes:
            self.lab.exec(node, "sh", "-c", script, text=text)

    def mood(self, version: str, mood: str) -> None:
        """How a version is from now on, on all nodes."""
        for node in self.nodes:
            self.lab.exec(node, "sh", "-c", f"cat > {self.folder}/{version}.mood", text=mood)

    def worsen(self, version: str, how: str) -> None:
        """Spoil a version from now on ("dies": all of its programs at once, and again whenever they are started)."""
        if how != "dies":
            self.mood(version, how)
            return
        script = f"echo crashes > {self.folder}/{version}.mood; pkill -9 -f 'server.py [0-9]+ {version} {self.folder}'"
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: self.lab.exec(node, "sh", "-c", script, check=False), self.nodes))

    def spec(self, version: str, strategy: str = "rolling", *, replicas: int = 2, **other: Any) -> str:
        """A specification."""
        values = {
            "name": self.name, "nodes": json.dumps(self.nodes), "folder": self.folder, "listen": self.listen,
            "first": self.first, "timeout": 2, "start_period": 10, "soak": 0.5, "more": "",
        }  # fmt: skip
        return SPEC.format(version=version, strategy=strategy, replicas=replicas, **values | other)

    def invoke(self, action: str, **arguments: Any) -> Any:
        """One of the actions on deployments."""
        return self.lab.invoke(f"deploy.{action}", arguments, confirm=action in {"remove", "rollback"})

    def apply(self, document: str) -> dict[str, Any]:
        """Deploy it; the rollout that was begun."""
        answer = self.invoke("apply", file=base64.b64encode(document.encode()).decode())
        assert answer["changed"], answer
        return dict(answer["rollout"])

    def web(self) -> dict[str, Any]:
        """As `deploy status NAME --json` shows it."""
        return dict(self.invoke("status", name=self.name)["services"][0])

    def rollout(self) -> dict[str, Any]:
        """The newest one."""
        return dict(self.web()["rollout"]["rollout"])

    def events(self) -> list[dict[str, Any]]:
        """Newest first."""
        return list(self.invoke("history", name=self.name, limit=100)["events"])

    def places(self, version: str) -> list[str]:
        """Nodes of a version's replicas."""
        return [row["replica"]["node"] for row in self.web()["replicas"] if row["replica"]["label"] == version]

    def versions(self) -> Counter[str]:
        """Healthy replicas by version."""
        rows = self.web()["replicas"]
        return Counter(
            row["replica"]["label"] for row in rows if row["fitness"] == "healthy" and row["replica"]["state"] == "running"
        )

    def ended(self) -> dict[str, Any]:
        """The newest rollout, when it has ended."""
        wait_for_sync(lambda: self.rollout()["stage"] in ENDED, BUSY, "the rollout ends")
        return self.rollout()

    def deployed(self, document: str) -> dict[str, Any]:
        """Deploy, and wait for the end."""
        self.apply(document)
        return self.ended()

    def removed(self) -> None:
        """Stop it everywhere, where it is there."""

        def there() -> bool:
            return any(each["name"] == self.name for each in self.invoke("status")["services"])

        if there():
            if self.rollout()["stage"] not in ENDED:
                self.invoke("rollback", name=self.name)
                self.ended()
            self.invoke("remove", name=self.name)
            wait_for_sync(lambda: not there(), BUSY, f"{self.name} is removed")


class Traffic:
    """A steady load out of control-pc's network, in a thread of its own, counted by the version that answered.

    Args:
        field: The service that is asked.
        rate: Requests a second.
    """

    def __init__(self, field: Field, rate: float = 40.0) -> None:
        self._field, self.load = field, Load(field.listen, rate)
        self.stages: dict[str, Counter[str]] = {}
        """Stage of the rollout → answers meanwhile, by version; those between two looks are the later stage's."""
        self.heard: Counter[str] = Counter()
        """All answers that were counted by stage."""
        self._turns: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    @property
    def failed(self) -> list[str]:
        """Requests without a good answer."""
        return self.load.failed

    def __enter__(self) -> Traffic:
        self._thread.start()
        wait_for_sync(lambda: self.load.counts.total() >= 10, BUSY, "it is answered")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with self._field.lab.network_of("control-pc"):
            asyncio.run(self._ask())

    async def _ask(self) -> None:
        async with self.load:
            while not self._over.is_set():
                await asyncio.sleep(0.02)

    def answers(self, version: str, count: int) -> None:
        """Wait for so many more answers of a version."""
        before = self.load.counts[version]
        wait_for_sync(lambda: self.load.counts[version] >= before + count, BUSY, f"{count} answers of {version}")

    def _counted(self, stage: str) -> None:
        part = self.load.taken()
        self.stages.setdefault(stage, Counter()).update(part)
        self.heard.update(part)
        self._turns += [version for version in part if self._turns[-1:] != [version]]

    def through(self) -> dict[str, Any]:
        """Count by stage until the rollout has ended; the rollout."""
        self._counted("before")
        ends = time.monotonic() + BUSY
        while True:
            told = self._field.rollout()
            name, shares = told["stage"], told["shares"]
            self._counted(f"{name} {shares[str(told['to_revision'])]:g} %" if name == "shifting" else name)
            if name in ENDED:
                return told
            assert time.monotonic() < ends, self._field.web()
            many = self.load.counts.total() + len(self.failed) + 4
            wait_for_sync(lambda many=many: self.load.counts.total() + len(self.failed) >= many, BUSY, "it is asked")  # type: ignore[misc]

    def after(self, version: str) -> None:
        """Count what is answered when all is over."""
        self.answers(version, 20)
        self._counted("after")

    def order(self) -> list[str]:
        """Versions in the order in which they began to answer, each time that another one did."""
        return self._turns


def counted(traffic: Traffic) -> str:
    """The counts by stage, in words."""
    told = [
        f"{stage}: " + ", ".join(f"{n} of {version}" for version, n in sorted(c.items())) for stage, c in traffic.stages.items()
    ]
    return f"{'; '.join(told)}; {len(traffic.failed)} failed: {set(traffic.failed)}"
