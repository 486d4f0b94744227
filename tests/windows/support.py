"""Events, rules, and the role windows as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from appliance.core.streams.rules import Rule, check
from tests.support import wait_for

CODE = (
    "import asyncio, os; from appliance import paths; from appliance.agent import process; "
    "asyncio.run(process.run('windows', paths.find(), os.environ))"
)


def envelope(moment: float, **changes: Any) -> bytes:
    """A telemetry event; what is no field of the envelope goes into its data."""
    stamp = datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
    whole: dict[str, Any] = {
        "v": 1, "id": str(uuid.uuid4()), "timestamp": stamp, "source": "edge", "device_id": "edge-1", "type": "host.metrics",
        "data": {"metrics": {}, "tags": {}},
    }  # fmt: skip
    for name, value in changes.items():
        (whole if name in whole else whole["data"])[name] = value
    return json.dumps(whole).encode()


def rule(name: str, **changes: Any) -> Rule:
    """A checked rule: the average of the processor's load in ten seconds, where nothing else is said."""
    document = {
        "id": name,
        "topic": "edge.telemetry",
        "field": "metrics.cpu_usage",
        "window": {"kind": "tumbling", "size": "10s"},
    }
    return check({**document, **changes})


class WindowsRole:
    """`prime-spark agent --role windows` with a home of its own.

    Args:
        home: Its directory.
        bootstrap: The brokers.
        group: Of the consumers.
        more: Lines of the group windows of its settings.
    """

    def __init__(self, home: Path, bootstrap: str, group: str, more: str = "") -> None:
        self.home = home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = f'[kafka]\nbootstrap_servers = "{bootstrap}"\n\n[windows]\ngroup = "{group}"\nrules_topic = "{group}.rules"\n'
        (home / "config.toml").write_text(f"{text}commit_seconds = 0.2\n{more}\n")
        self._process: subprocess.Popen[bytes] | None = None
        self._log = home / "stderr.log"

    def start(self) -> None:
        """Start the process."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", CODE],
                env={**environ, "PRIME_SPARK_HOME": str(self.home)}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def end(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Send a signal, and return the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout)

    def said(self) -> str:
        """What it logged."""
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)
        if error is not None:
            print(self.said()[-6000:], file=sys.stderr)  # noqa: T201  # pytest shows it with the failure


class Topics:
    """Writes rules and events, and reads the windows of some rules."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._bootstrap = bootstrap
        self._rules = f"{group}.rules"
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=5)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            metadata_max_age_ms=1000,
        )
        self.windows: list[dict[str, Any]] = []
        """Envelopes, as they came."""

    async def __aenter__(self) -> Self:
        await self._producer.start()
        await self._consumer.start()
        places = [TopicPartition("cloud.aggregated", number) for number in range(3)]
        self._consumer.assign(places)
        await self._consumer.seek_to_end(*places)
        for place in places:
            await self._consumer.position(place)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._producer.stop()

    async def put(self, *rules: Rule) -> None:
        """Publish rules as the appliance does."""
        for each in rules:
            body = json.dumps(each.model_dump(mode="json")).encode()
            await self._producer.send_and_wait(self._rules, body, key=each.id.encode())

    async def remove(self, name: str) -> None:
        """Say that a rule is removed."""
        await self._producer.send_and_wait(self._rules, json.dumps({"id": name, "removed": True}).encode(), key=name.encode())

    async def send(self, bodies: Iterable[bytes], topic: str = "edge.telemetry") -> None:
        """Publish events, each under its device."""
        waits = []
        for body in bodies:
            try:
                key = json.loads(body)["device_id"].encode()
            except (ValueError, TypeError, KeyError):
                key = b"bad"
            waits.append(await self._producer.send(topic, body, key=key))
        for wait in waits:
            await wait

    async def read(self, rules: Sequence[str]) -> list[dict[str, Any]]:
        """All windows of these rules up to now."""
        for records in (await self._consumer.getmany(timeout_ms=50)).values():
            self.windows += [json.loads(record.value) for record in records]
        return [one for one in self.windows if one["data"]["rule_id"] in rules]

    async def expect(self, rules: Sequence[str], number: int, timeout: float = 60.0) -> list[dict[str, Any]]:
        """Wait for so many windows of these rules, and return them."""

        async def enough() -> bool:
            return len(await self.read(rules)) >= number

        await wait_for(enough, timeout, f"{number} windows of {', '.join(rules)}")
        return await self.read(rules)
