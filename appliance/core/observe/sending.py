"""Brings spans to a collector, from a bounded queue and in a thread of its own: who works never waits for it."""

from __future__ import annotations

import gzip
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from appliance.core.backoff import backoff
from appliance.core.observe.sample import Sample

log = logging.getLogger(__name__)

BATCH = 512
"""Spans of one request."""
EVERY = 2.0
"""Seconds until a batch that is not full goes out."""
TIMEOUT = 10.0
"""Seconds that the collector has for an answer."""
TRIES = 5
"""Of one batch."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which a batch is sent again (OTLP/HTTP, "Failures")."""


class Post:
    """POSTs bodies to one address; blocks.

    Args:
        endpoint: Address, with its path.
        headers: Further ones, such as Authorization.
        ca_file: Certificates that are trusted; the system's where it is empty.
    """

    def __init__(self, endpoint: str, headers: dict[str, str], ca_file: str = "") -> None:
        import ssl

        import urllib3

        context = ssl.create_default_context(cafile=ca_file or None) if endpoint.startswith("https:") else None
        self._endpoint = endpoint
        self._headers = {**headers, "Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        self._pool = urllib3.PoolManager(num_pools=1, retries=False, ssl_context=context)

    def __call__(self, body: bytes) -> tuple[int, str]:
        """(status, or 0 where there was no answer; what went wrong)."""
        import urllib3

        try:
            answer = self._pool.request(
                "POST", self._endpoint, body=gzip.compress(body, 1), headers=self._headers, redirect=False,
                timeout=urllib3.Timeout(TIMEOUT),
            )  # fmt: skip
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return 0, f"it does not answer ({type(error).__name__})"
        return answer.status, "" if answer.status < 300 else f"it answers {answer.status}"

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()


class Sending:
    """The queue and its thread.

    Args:
        encode: Spans as a body.
        post: Sends a body: (status, what went wrong).
        most: Spans that may wait; those beyond it are dropped, and counted.
    """

    def __init__(self, encode: Callable[[list[Any]], bytes], post: Callable[[bytes], tuple[int, str]], most: int) -> None:
        self._encode, self._post, self._most = encode, post, most
        self._waiting: deque[Any] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="otlp", daemon=True)
        self.sent = self.dropped = self.failed = 0
        self.trouble = ""
        """Why the last request did not succeed; empty where it did."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def take(self, span: Any) -> None:
        """Queue a span; never waits."""
        with self._lock:
            if len(self._waiting) >= self._most or self._over.is_set():
                self.dropped += 1
                return
            self._waiting.append(span)
            full = len(self._waiting) >= BATCH
        if full:
            self._wake.set()

    def stop(self, seconds: float) -> None:
        """Send what waits, for so many seconds; what is left is dropped. Blocks."""
        self._over.set()
        self._wake.set()
        self._thread.join(seconds)
        with self._lock:
            self.dropped += len(self._waiting)
            self._waiting.clear()

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        return len(self._waiting)

    def _work(self) -> None:
        while True:
            self._wake.wait(EVERY)
            self._wake.clear()
            while batch := self._batch():
                self._send(batch)
            if self._over.is_set():
                return

    def _batch(self) -> list[Any]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    def _send(self, batch: list[Any]) -> None:
        body = self._encode(batch)
        for number in range(1, TRIES + 1):
            status, trouble = self._post(body)
            if trouble and not self.trouble:
                log.warning("spans do not reach their collector: %s", trouble)
            self.trouble = trouble
            if not trouble:
                self.sent += len(batch)
                return
            hopeless = bool(status) and status not in AGAIN
            if hopeless or number == TRIES or self._over.wait(backoff(number, FIRST_PAUSE, LONGEST_PAUSE)):
                break
        self.failed += len(batch)

    def samples(self) -> Iterator[Sample]:
        """For /metrics."""
        yield Sample("edge_trace_spans_sent_total", "counter", "Spans that the collector took", self.sent)
        told = (("queue full", self.dropped), ("collector failed", self.failed))
        for why, count in told:
            words = "Spans that were given up"
            yield Sample("edge_trace_spans_dropped_total", "counter", words, count, (("reason", why),))
        yield Sample("edge_trace_spans_waiting", "gauge", "Spans that wait for the collector", self.waiting)
