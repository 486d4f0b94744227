"""Several Kafka brokers that are one cluster: one may be killed, and nothing that was acknowledged is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.kafka import KafkaServer, cluster_id, end_format
from tests.servers.kafka_java import run_tool
from tests.servers.kafka_security import Access, Authority, Security

TOOLS = "org.apache.kafka.tools"


class KafkaCluster:
    """Nodes that are broker and controller, numbered from 1; topics are on all of them, and all but one must have a message.

    Args:
        directory: of its own.
        brokers: how many; 3 of them go on when one is dead.
        offers: see KafkaServer; all brokers have the same certificate authority, user and password.
        heap: of each.
    """

    def __init__(self, directory: Path, brokers: int = 3, offers: Sequence[Security] = (), *, heap: str = "256m") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.access = Access(Authority(directory / "certificates"))
        shared: dict[str, Any] = {"cluster": cluster_id(), "brokers": brokers, "access": self.access, "heap": heap}
        numbers = range(1, brokers + 1)
        self.nodes = {each: KafkaServer(directory / str(each), offers, node=each, **shared) for each in numbers}
        for each in self.nodes.values():
            each.voters = [other.voter for other in self.nodes.values()]

    def bootstrap(self, security: Security = "PLAINTEXT") -> str:
        """Hosts and ports of all, with commas between them."""
        return ",".join(each.bootstrap(security) for each in self.nodes.values())

    def client(self, security: Security = "PLAINTEXT") -> dict[str, Any]:
        """Keyword arguments of aiokafka's clients."""
        return {"bootstrap_servers": self.bootstrap(security), **self.access.client(security)}

    def start(self) -> None:
        """Start those that do not run; returns when every one knows of all."""
        absent = [each for each in self.nodes.values() if not each.child.running]
        self._format([each for each in absent if not each.data.exists()])
        for each in absent:
            each.launch()
        for each in self.nodes.values():
            each.wait()

    def _format(self, nodes: list[KafkaServer]) -> None:
        for each in nodes:
            each.configure()
        for each, tool in [(each, each.begin_format()) for each in nodes]:
            end_format(each, tool)

    def stop(self) -> None:
        """End all. The last ones would wait for a majority that is gone: they are killed."""
        for each in self.nodes.values():
            each.kill()

    def recover(self) -> None:
        """Let all serve again, whatever a test has left of them."""
        for each in self.nodes.values():
            if each.child.running:
                each.resume()
        self.start()

    def alive(self) -> KafkaServer:
        """A broker that runs."""
        return next(each for each in self.nodes.values() if each.child.running)

    def move_leader(self, topic: str, to: int, partition: int = 0) -> None:
        """Make a node the leader of a partition, as an operator does: it comes first, then the first one is elected.

        All must run. It blocks: use asyncio.to_thread.
        """
        replicas = [to, *(each for each in self.nodes if each != to)]
        plan = self.directory / "plan.json"
        wanted = {"topic": topic, "partition": partition, "replicas": replicas}
        plan.write_text(json.dumps({"version": 1, "partitions": [wanted]}))
        self._tool("reassign.ReassignPartitionsCommand", "--reassignment-json-file", str(plan), "--execute")
        which = ("--topic", topic, "--partition", str(partition))
        self._tool("LeaderElectionCommand", "--election-type", "PREFERRED", *which)

    def _tool(self, name: str, *options: str) -> str:
        where = ("--bootstrap-server", self.alive().internal)
        return run_tool(f"{TOOLS}.{name}", *where, *options, temporary=self.directory)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # some may have started, and nobody else would end them
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
