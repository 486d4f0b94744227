"""The role `windows`: rules over the streams, their results on cloud.aggregated."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from appliance.agent.windows_counts import Counts, Exporter
from appliance.agent.windows_log import in_words
from appliance.core.backoff import backoff
from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport
from appliance.errors import AbsentError

if TYPE_CHECKING:
    from appliance.agent.roles import Surroundings
    from appliance.agent.windows_rules import Follower
    from appliance.agent.windows_topology import Plan, Stream
    from appliance.core.streams.rules import Rule

log = logging.getLogger(__name__)

FIRST, LONGEST = 0.5, 10.0
"""Seconds until a stream that failed is built again; doubled each time."""
CALM = 30.0
"""Seconds of work after which a failure counts as the first one."""
SWEEP = 10.0
"""Seconds after which the state of removed rules is taken away: other instances have heard of it by then."""
SETTLE = 0.3
"""Seconds that changes of rules gather before the stream is built again."""


class WindowsService:
    """Keeps a stream of the present rules running (implements ports.Service).

    Args:
        around: Settings, paths and secrets.
    """

    name = "windows"
    summary = "Aggregates the streams by rules onto cloud.aggregated"
    depends: tuple[str, ...] = ()

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.counts = Counts()
        self._exporter = Exporter(self.counts, around.settings.windows.metrics_port)
        self._pool: ThreadPoolExecutor | None = None
        self._follower: Follower | None = None
        self._stream: Stream | None = None
        self._changed = asyncio.Event()
        self._active: tuple[Rule, ...] = ()
        self._failure = ""
        self._sweeping: asyncio.Task[None] | None = None
        self._worked = 0.0

    async def start(self) -> None:
        """Load the library and begin to read the rules.

        Raises:
            AbsentError: No broker is configured, or the library is not installed.
        """
        if not self._around.settings.kafka.bootstrap_servers:
            raise AbsentError("No Kafka is configured.", "set kafka.bootstrap_servers, such as 10.8.0.14:9092.")
        await asyncio.to_thread(_load)
        from appliance.agent.windows_log import quiet_library
        from appliance.agent.windows_rules import Follower

        quiet_library()
        loop = asyncio.get_running_loop()
        settings = self._around.settings
        self._changed = asyncio.Event()

        def changed() -> None:
            loop.call_soon_threadsafe(self._changed.set)

        follower = Follower(
            client_settings(self._around),
            settings.windows.rules_topic,
            self.counts,
            changed,
            create=settings.kafka.create_topics,
        )
        self._pool = ThreadPoolExecutor(1, "windows-stream")
        self._follower = follower
        self._exporter.__enter__()
        follower.start()

    async def run(self) -> None:
        """Run the stream; build it again when rules change, and after failures."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE)
            self._changed.clear()
            began = time.monotonic()
            failures = 0
            while not await self._serve():
                failures = 1 if time.monotonic() - began > CALM else failures + 1
                self.counts.add("restarts")
                await asyncio.sleep(backoff(failures, FIRST, LONGEST))
                began = time.monotonic()

    async def _serve(self) -> bool:
        """Run one stream until the rules change (True) or it fails (False)."""
        assert self._follower is not None
        assert self._pool is not None
        rules = self._follower.rules()
        self._active = rules
        self._restart_sweep()
        log.info("%s: %s", counted(len(rules), "rule"), ", ".join(rule.id for rule in rules) or "waiting for some")
        if not rules:
            self._failure = ""
            return True
        loop = asyncio.get_running_loop()
        work: asyncio.Future[Any] = loop.run_in_executor(self._pool, self._run_stream, rules)
        change: asyncio.Future[Any] = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait((work, change), return_when=asyncio.FIRST_COMPLETED)
            if work.done() and not change.done():
                work.result()
                return False
        except Exception as error:  # noqa: BLE001  # whatever the library raises: it is told, and the stream is built again
            self._failure = in_words(error)
            log.warning("the stream failed and will be built again: %s", self._failure)
            return False
        finally:
            change.cancel()
            await self._end(work)
        return True

    def _restart_sweep(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        """Take away what removed rules have left; what fails is tried again when the stream is built the next time."""
        from confluent_kafka import KafkaException

        from appliance.agent.windows_sweep import sweep

        await asyncio.sleep(SWEEP)
        assert self._follower is not None
        plan, forms = self._plan(), self._follower.forms()
        client = client_settings(self._around)
        try:
            await asyncio.to_thread(sweep, client, plan.group, plan.state, forms, topics=plan.create_topics)
        except (KafkaException, OSError) as error:
            log.warning("what removed rules have left stays for now: %s", error)

    async def _end(self, work: asyncio.Future[None]) -> None:
        """Stop the stream's thread, also where this task is being cancelled."""
        while not work.done():
            if self._stream is not None:
                self._stream.stop()
            await asyncio.wait({work}, timeout=0.2)
        if not work.cancelled() and (error := work.exception()) is not None:
            log.debug("the stream ended with %s", error)

    def _run_stream(self, rules: tuple[Rule, ...]) -> None:
        """In the stream's thread."""
        from appliance.agent.windows_topology import Stream

        self._stream = Stream(rules, self._plan(), self.counts, self._note_work)
        try:
            self._stream.run()
        finally:
            self._stream = None

    def _note_work(self) -> None:
        self._worked = time.monotonic()
        self._failure = ""

    def _plan(self) -> Plan:
        from appliance.agent.windows_topology import Plan

        assert self._follower is not None
        settings = self._around.settings
        return Plan(
            connection=connection(self._around),
            group=settings.windows.group,
            state=self._around.paths.data / "windows",
            replication=min(3, self._follower.brokers),
            commit_seconds=settings.windows.commit_seconds,
            create_topics=settings.kafka.create_topics,
            groups=settings.windows.groups,
            values=settings.windows.values,
        )

    async def stop(self) -> None:
        """End the threads."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        follower, pool = self._follower, self._pool
        self._follower = self._pool = None
        if follower is not None:
            await asyncio.to_thread(follower.stop)
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)
        await asyncio.to_thread(self._exporter.__exit__)

    async def health(self) -> HealthReport:
        """From the threads: what runs, what was done, what fails."""
        follower = self._follower
        if follower is None or not follower.known:
            reason = follower.error if follower is not None and follower.error else "the rules are being read"
            return HealthReport(Health.degraded, reason, "look whether the broker answers: kafka.bootstrap_servers.")
        told = self._told()
        if follower.error:
            step = "look whether the broker answers: kafka.bootstrap_servers; it is tried again."
            return HealthReport(Health.degraded, f"Kafka: {follower.error}; {told}", step)
        if self._failure:
            return HealthReport(Health.degraded, f"{self._failure}; {told}", "it is tried again; see the log.")
        if beyond := follower.beyond():
            return HealthReport(Health.degraded, f"{counted(beyond, 'rule')} too many; {told}", "disable some rules.")
        if refused := self.counts.of("refused"):
            reason = f"{refused} events refused, {self.counts.last_error}; {told}"
            return HealthReport(Health.degraded, reason, "change that rule, or raise windows.groups or windows.values.")
        if self.counts.last_error:
            return HealthReport(Health.healthy, f"{told}; newest error: {self.counts.last_error}")
        return HealthReport(Health.healthy, told)

    def _told(self) -> str:
        count = self.counts.of
        parts = [counted(len(self._active), "rule"), f"{count('events')} events in {count('windows')} windows"]
        parts += [
            f"{count(what)} {text}"
            for what, text in (("late", "late"), ("refused", "refused"), ("errors", "errors"), ("bad", "bad messages"))
            if count(what)
        ]
        return ", ".join(parts)


def make_windows(around: Surroundings) -> WindowsService:
    """The role's service."""
    return WindowsService(around)


def _load() -> None:
    try:
        with warnings.catch_warnings(record=True) as found:  # those of its libraries about each other
            import quixstreams  # noqa: F401
        for each in found:
            log.debug("%s", each.message)
    except ImportError as error:
        raise AbsentError(
            f"The stream library is not installed: {error}.",
            "pip install --no-deps -r requirements/windows.txt into the agent's environment.",
        ) from error


def connection(around: Surroundings) -> dict[str, Any]:
    """How to reach the brokers, by the names of quixstreams' ConnectionConfig. Raises StoreError."""
    kafka = around.settings.kafka
    found: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap_servers}
    protocol = ("sasl_" if kafka.sasl_mechanism else "") + ("ssl" if kafka.tls else "plaintext")
    found["security_protocol"] = protocol
    files = {"ssl_ca_location": kafka.ca_file, "ssl_certificate_location": kafka.cert_file, "ssl_key_location": kafka.key_file}
    found |= {name: str(path) for name, path in files.items() if path is not None}
    if kafka.sasl_mechanism:
        password = around.secrets.text("kafka.password")
        found |= {"sasl_mechanism": kafka.sasl_mechanism, "sasl_username": kafka.username, "sasl_password": password}
    return found


def client_settings(around: Surroundings) -> dict[str, Any]:
    """The same by librdkafka's names."""
    return {name.replace("_", "."): value for name, value in connection(around).items()}
