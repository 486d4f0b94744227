"""Rules of the windows, one of each kind of window, beside quixstreams' own bare aggregation of the same events."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.agent.windows_counts import Counts
from appliance.core.streams.rules import check
from benchmarks.rows import Figure
from tests.servers.kafka import KafkaServer

EVENTS = 10_000
DEVICES = 20
TOPIC = "edge.telemetry"
OUTPUT = "cloud.aggregated"
PATIENCE = 300.0
"""Seconds for one run."""
WINDOWS = {
    "tumbling": {"kind": "tumbling", "size": "10s"},
    "hopping": {"kind": "hopping", "size": "10s", "step": "2s"},
    "sliding": {"kind": "sliding", "size": "1s"},
    "session": {"kind": "session", "gap": "5s"},
}


def run() -> list[Figure]:
    """All of it, on a broker of its own with the usual options of Java."""
    with tempfile.TemporaryDirectory(prefix="prime-spark-bench-") as directory:
        server = KafkaServer(Path(directory) / "kafka", heap="512m", options=())
        server.start()
        try:
            return _all(server, Path(directory))
        finally:
            server.kill()


def _all(server: KafkaServer, directory: Path) -> list[Figure]:
    _publish(server)
    figures = []
    for kind in WINDOWS:
        mine, bare = _rule(server, directory, kind), _bare(server, directory, kind)
        peer = "quixstreams itself, without rules, its own topic, and late or wrong events"
        figures.append(Figure(f"avg by device, {kind} windows, exactly once", round(mine), "events/s", None, peer, round(bare)))
    return figures


def _publish(server: KafkaServer) -> None:
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it is documented there

    admin = AdminClient({"bootstrap.servers": server.bootstrap()})
    for made in admin.create_topics([NewTopic(name, 3, 1) for name in (TOPIC, OUTPUT)]).values():
        made.result(30.0)
    producer = Producer({"bootstrap.servers": server.bootstrap(), "linger.ms": 20})
    first = time.time() - EVENTS * 0.05
    for number in range(EVENTS):
        device = f"device-{number % DEVICES}"
        producer.produce(TOPIC, _envelope(first + number * 0.05, device, number), device.encode())
        producer.poll(0)
    if left := producer.flush(60.0):
        raise RuntimeError(f"{left} events were not acknowledged")


def _envelope(moment: float, device: str, number: int) -> bytes:
    stamp = datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
    metrics = {"cpu_usage": number % 100 + 0.5, "memory_usage": 40.5, "disk_usage": 12.5, "temperature": 51.0}
    head = {"v": 1, "id": str(number), "timestamp": stamp, "source": "edge", "device_id": device, "type": "host.metrics"}
    return json.dumps({**head, "data": {"metrics": metrics, "tags": {}}}).encode()


class _Stopwatch:
    """From the first message to the last one."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._seen = 0
        self._began = 0.0
        self.took = 0.0
        self.done = threading.Event()

    def tick(self, *_: Any) -> None:
        self._seen += 1
        if self._seen == 1:
            self._began = time.perf_counter()
        if self._seen == self._messages:
            self.took = time.perf_counter() - self._began
            self.done.set()


def _rule(server: KafkaServer, directory: Path, kind: str) -> float:
    """Events a second through the role's stream, which handles each in both of its steps."""
    from appliance.agent.windows_topology import Plan, Stream

    rule = check({"id": kind, "topic": TOPIC, "field": "metrics.cpu_usage", "window": WINDOWS[kind], "idle": ""})
    connection = {"bootstrap_servers": server.bootstrap(), "security_protocol": "plaintext"}
    plan = Plan(connection, f"bench-{kind}", directory / "mine", 1, 1.0)
    watch = _Stopwatch(2 * EVENTS)
    stream = Stream([rule], plan, Counts(), watch.tick)
    return _measured(stream.run, stream.stop, watch)


def _bare(server: KafkaServer, directory: Path, kind: str) -> float:
    """The same by the library as its manual has it: the events are keyed by device already."""
    from quixstreams import Application

    class Quiet(Application):
        def _setup_signal_handlers(self) -> None:
            """It does not run in the main thread."""

    watch = _Stopwatch(EVENTS)
    app = Quiet(
        server.bootstrap(), consumer_group=f"bare-{kind}", auto_offset_reset="earliest", commit_interval=1.0, loglevel=None,
        state_dir=directory / "bare", processing_guarantee="exactly-once", on_message_processed=watch.tick,
        consumer_poll_timeout=0.25,
    )  # fmt: skip
    frame = app.dataframe(app.topic(TOPIC, timestamp_extractor=_moment))
    frame = frame.apply(lambda value: value["data"]["metrics"]["cpu_usage"])
    open_window: dict[str, Callable[[], Any]] = {
        "tumbling": lambda: frame.tumbling_window(10_000, 10_000),
        "hopping": lambda: frame.hopping_window(10_000, 2_000, 10_000),
        "sliding": lambda: frame.sliding_window(1_000, 10_000),
        "session": lambda: frame.session_window(5_000, 10_000),
    }
    open_window[kind]().mean().final().to_topic(app.topic(OUTPUT))
    return _measured(app.run, app.stop, watch)


def _moment(value: Any, *_: Any) -> int:
    return int(datetime.fromisoformat(value["timestamp"]).timestamp() * 1000)


def _measured(work: Callable[[], Any], stop: Callable[[], Any], watch: _Stopwatch) -> float:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    done = watch.done.wait(PATIENCE)
    stop()
    thread.join(60.0)
    if not done:
        raise RuntimeError(f"not all events were seen within {PATIENCE:g} s")
    return EVENTS / watch.took
