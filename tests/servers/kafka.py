"""Apache Kafka itself on loopback: one broker, or a cluster of them, each with a controller in the same process (KRaft)."""

from __future__ import annotations

import asyncio
import base64
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from tests.servers.child import Server, ServerError
from tests.servers.kafka_java import QUICK, java, run_tool
from tests.servers.kafka_security import SECURED, Access, Authority, Listener, Security
from tests.support import free_ports, wait_for, wait_for_sync

T = TypeVar("T")
INSIDE = ("CONTROLLER", "INTERNAL")  # listeners for the brokers, the tools and the question whether it serves
PLAIN = (*INSIDE, "PLAINTEXT", "PROXIED")  # without TLS and passwords
STARTS = 60.0  # seconds that a start may take on a busy machine


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of its own, also from inside another loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def cluster_id() -> str:
    """A random one, in the form that Kafka gives them."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


class KafkaServer(Server):
    """One node that is broker and controller.

    Args:
        directory: of its own.
        offers: the listeners for clients besides PLAINTEXT, each with a port of its own.
        node: its number in the cluster, from 1.
        cluster: the cluster's id.
        brokers: how many nodes the cluster has.
        access: certificates and passwords of the cluster, or None for new ones.
        heap: its greatest size, as Java writes it.
        options: for Java; () instead of QUICK for measurements.
    """

    def __init__(
        self,
        directory: Path,
        offers: Sequence[Listener] = (),
        *,
        node: int = 1,
        cluster: str = "",
        brokers: int = 1,
        access: Access | None = None,
        heap: str = "256m",
        options: tuple[str, ...] = QUICK,
    ) -> None:
        super().__init__(directory, f"kafka-{node}")
        self.node = node
        self.cluster = cluster or cluster_id()
        self.brokers = brokers
        self.data = directory / "data"
        self.access = access or Access(Authority(directory / "certificates"))
        self.advertised: dict[Listener, int] = {}  # ports that clients are told instead of its own; set before start
        self.settings: dict[str, object] = {}  # more lines of server.properties; set before start
        self._java = (f"-Xmx{heap}", *options)
        names = [*INSIDE, "PLAINTEXT", *offers]
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.voters = [self.voter]

    @property
    def voter(self) -> str:
        """How the controllers of its cluster name it."""
        return f"{self.node}@127.0.0.1:{self._ports['CONTROLLER']}"

    @property
    def internal(self) -> str:
        """Host and port that tests and tools use whatever happens to the listeners for clients."""
        return f"127.0.0.1:{self.port('INTERNAL')}"

    def port(self, listener: str = "PLAINTEXT") -> int:
        """The TCP port of a listener."""
        return self._ports[listener]

    def bootstrap(self, listener: Listener = "PLAINTEXT") -> str:
        """Host and port, as clients want them."""
        return f"127.0.0.1:{self.advertised.get(listener, self.port(listener))}"

    def client(self, listener: Listener = "PLAINTEXT") -> dict[str, Any]:
        """Keyword arguments of aiokafka's clients."""
        security: Security = "PLAINTEXT" if listener == "PROXIED" else listener
        return {"bootstrap_servers": self.bootstrap(listener), **self.access.client(security)}

    def start(self) -> None:
        """Start it with what its directory has; returns when it answers as a member of its whole cluster."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Begin to start it, after formatting its directory the first time; see wait."""
        self.configure()
        if not self.data.exists():
            end_format(self, self.begin_format())
        command = java("kafka.Kafka", str(self._properties), temporary=self.directory, options=self._java)
        self.child.spawn(command, lambda: True)

    def wait(self, timeout: float = STARTS) -> None:
        """Return when it serves; end it and raise ServerError where it does not within `timeout` seconds."""
        try:
            wait_for_sync(lambda: not self.child.running or self.serves(), timeout, "readiness")
        except AssertionError as error:
            self.kill()
            raise ServerError(f"Kafka was not ready within {timeout:g} s\n{self.child.tail()}") from error
        if not self.child.running:
            raise ServerError(f"Kafka ended while it started\n{self.child.tail()}")

    def serves(self) -> bool:
        """Whether it knows of as many brokers as its cluster has, itself among them."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port("INTERNAL")), 1.0):
            return run_apart(self._knows_all())
        return False

    async def _knows_all(self) -> bool:
        try:
            known = {each["node_id"] for each in (await self.metadata(timeout=2.0))["brokers"]}
        except KafkaError:  # not yet: it closes connections, or its answer names nobody
            return False
        return self.node in known and len(known) == self.brokers

    def recover(self) -> None:
        """Let it serve again, whatever a test has left of it."""
        super().recover()
        self.wait()

    @asynccontextmanager
    async def admin(self, timeout: float = 10.0) -> AsyncIterator[AIOKafkaAdminClient]:
        """An administrator's client; timeout in seconds."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.internal, request_timeout_ms=int(timeout * 1000))
        try:
            await client.start()
            yield client
        finally:
            await client.close()

    async def metadata(self, *topics: str, timeout: float = 10.0) -> dict[str, Any]:
        """What this very broker knows of the cluster and the topics; timeout in seconds; KafkaError where it does not say."""
        client = AIOKafkaClient(bootstrap_servers=self.internal, request_timeout_ms=int(timeout * 1000))
        try:
            await client.bootstrap()
            answer: dict[str, Any] = (await client.send(self.node, MetadataRequest(list(topics)))).to_object()
            return answer
        finally:
            await client.close()

    async def create_topic(self, name: str, partitions: int = 1, **settings: object) -> None:
        """Make a topic on all brokers; settings as Kafka calls them, with _ for each dot. Returns when it has leaders."""
        values = {key.replace("_", "."): str(value) for key, value in settings.items()}
        await wait_for(self._controlled, message="the cluster has a controller")
        async with self.admin() as admin:
            answer = await admin.create_topics([NewTopic(name, partitions, self.brokers, topic_configs=values)])
        for _, code, message in answer.topic_errors:
            if code:
                raise for_code(code)(message)
        await wait_for(lambda: self._led(name, partitions), message=f"{name} has leaders")

    async def _controlled(self) -> bool:
        told = await self.metadata()
        return told["controller_id"] in {each["node_id"] for each in told["brokers"]}

    async def _led(self, topic: str, partitions: int) -> bool:
        return len([each for each in await self._partitions(topic) if each["leader"] >= 0]) == partitions

    async def _partitions(self, topic: str) -> list[dict[str, Any]]:
        (found,) = (await self.metadata(topic))["topics"]
        return list(found["partitions"])

    async def leader(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition as far as this broker knows; -1 where none does."""
        return next(int(each["leader"]) for each in await self._partitions(topic) if each["partition"] == partition)

    async def in_sync(self, topic: str, partition: int = 0) -> set[int]:
        """The nodes that have all of a partition, as far as this broker knows."""
        return next(set(each["isr"]) for each in await self._partitions(topic) if each["partition"] == partition)

    async def remove_topics(self, prefix: str) -> None:
        """Remove the topics whose names begin so."""
        async with self.admin() as admin:
            names = [each for each in await admin.list_topics() if each.startswith(prefix)]
            if names:
                await admin.delete_topics(names)

    def console_consumer(self, topic: str, count: int, *options: str, timeout: float = 30.0) -> list[str]:
        """What kafka-console-consumer prints of a topic's first `count` messages. It blocks: use asyncio.to_thread.

        Args:
            topic: its name.
            count: messages, and lines.
            options: such as "--formatter-property", "print.key=true".
            timeout: seconds that it waits for a message.
        """
        limits = ("--max-messages", str(count), "--timeout-ms", str(int(timeout * 1000)))
        where = ("--bootstrap-server", self.internal, "--topic", topic, "--from-beginning")
        main = "org.apache.kafka.tools.consumer.ConsoleConsumer"
        return run_tool(main, *where, *limits, *options, temporary=self.directory, timeout=timeout + STARTS).splitlines()

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def configure(self) -> None:
        """Write server.properties."""
        lines = self._places() | self._sizes() | self._patience()
        if set(self._ports) & set(SECURED):
            lines |= self.access.broker()
        lines |= self.settings
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))

    def begin_format(self) -> subprocess.Popen[str]:
        """Start the tool that makes its directory."""
        users = self.access.format_options() if set(self._ports) & set(SECURED) else []
        command = ("format", f"--cluster-id={self.cluster}", "--config", str(self._properties), *users)
        tool = java("kafka.tools.StorageTool", *command, temporary=self.directory)
        return subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "--", *tool],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _places(self) -> dict[str, object]:
        told = {name: self.advertised.get(name, port) for name, port in self._ports.items() if name != "CONTROLLER"}
        protocols = dict.fromkeys(PLAIN, "PLAINTEXT") | {name: name for name in SECURED}
        return {
            "process.roles": "broker,controller",
            "node.id": self.node,
            "controller.quorum.voters": ",".join(self.voters),
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in self._ports.items()),
            "advertised.listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in told.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{each}" for name, each in protocols.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "log.dirs": self.data,
        }

    def _sizes(self) -> dict[str, object]:
        lines: dict[str, object] = {
            "auto.create.topics.enable": "false",
            "default.replication.factor": self.brokers,
            "min.insync.replicas": max(1, self.brokers - 1),
            "num.network.threads": 1,  # for each listener
            "num.io.threads": 2,
            "background.threads": 2,
            "group.coordinator.threads": 1,
            "log.cleaner.dedupe.buffer.size": 2 << 20,
        }
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            lines |= {f"{topic}.num.partitions": 1, f"{topic}.replication.factor": self.brokers}
        for topic in ("transaction.state.log", "share.coordinator.state.topic"):
            lines[f"{topic}.min.isr"] = max(1, self.brokers - 1)
        return lines

    def _patience(self) -> dict[str, object]:
        # The time after which a dead or paused broker leads nothing; a killed one cannot come back before it is over.
        session = 1000 if self.brokers == 1 else 3000
        return {
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "broker.heartbeat.interval.ms": session // 6,
            "broker.session.timeout.ms": session,
            "replica.lag.time.max.ms": 5000,
            "auto.leader.rebalance.enable": "false",  # leaders change when a test says so
        }


def end_format(server: KafkaServer, tool: subprocess.Popen[str]) -> None:
    """Wait for what begin_format started."""
    try:
        said, _ = tool.communicate(timeout=STARTS)
    finally:
        tool.kill()
    if tool.returncode:
        raise ServerError(f"formatting {server.data} ended with {tool.returncode}\n{said}")
