"""What the windows have done since this process began; every thread may count."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

REASONS = 200
"""Most different reasons that are counted apart; the others go together."""


class Counts:
    """Counters by name and by rule."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self.last_error = ""

    def add(self, what: str, rule: str = "", reason: str = "", number: int = 1) -> None:
        """Count.

        Args:
            what: events, windows, late, errors, bad, stale, refused, idle or restarts.
            rule: Whose.
            reason: Of an error.
            number: How many.
        """
        with self._lock:
            known = (what, rule, reason) in self._counts
            name = reason if known or not reason or len(self._counts) < REASONS else "others"
            self._counts[what, rule, name] += number

    def fail(self, rule: str, reason: str) -> None:
        """Count an error of a rule, and keep its text."""
        self.add("errors", rule, reason)
        self.last_error = f"rule {rule}: {reason}"

    def refuse(self, rule: str, reason: str, text: str) -> None:
        """Count an event for which a rule has no room, and keep the text."""
        self.add("refused", rule, reason)
        self.last_error = f"rule {rule}: {text}"

    def of(self, what: str) -> int:
        """All of one kind."""
        with self._lock:
            return sum(count for (kind, _, _), count in self._counts.items() if kind == what)

    def rows(self) -> list[tuple[str, str, str, int]]:
        """(what, rule, reason, count)."""
        with self._lock:
            return sorted((*key, count) for key, count in self._counts.items())


NAMES = {
    "events": ("cloud_aggregation_events_total", "Events that went into windows."),
    "windows": ("cloud_aggregation_windows_completed", "Windows that were closed and published."),
    "late": ("cloud_aggregation_late_total", "Events that came after their window had closed."),
    "errors": ("cloud_aggregation_rule_errors_total", "Events for which a rule could not be worked out."),
    "bad": ("cloud_aggregation_bad_messages_total", "Messages that no rule can use."),
    "stale": ("cloud_aggregation_stale_total", "Events on their way when their rule was changed or removed."),
    "refused": ("cloud_aggregation_refused_total", "Events for which the rule's bounds had no room."),
    "idle": ("cloud_aggregation_idle_closes_total", "Groups whose windows were closed because nothing came any more."),
    "restarts": ("cloud_aggregation_restarts_total", "Times that the stream was built again."),
}


def exposition(counts: Counts) -> str:
    """The counters in Prometheus' text format."""
    rows = counts.rows()
    lines = []
    for what, (name, text) in NAMES.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
        own = [row for row in rows if row[0] == what]
        lines += [f"{name}{_labels(rule, reason)} {count}" for _, rule, reason, count in own] or [f"{name} 0"]
    return "\n".join(lines) + "\n"


def _labels(rule: str, reason: str) -> str:
    pairs = [(name, value) for name, value in (("rule", rule), ("reason", reason)) if value]
    body = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
    return f"{{{body}}}" if body else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Exporter:
    """GET /metrics on loopback.

    Args:
        counts: What is told.
        port: TCP port; 0 opens none.
    """

    def __init__(self, counts: Counts, port: int) -> None:
        self._counts = counts
        self._port = port
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        if not self._port:
            return self
        counts = self._counts

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:  # http.server's name
                found = self.path == "/metrics"
                body = exposition(counts).encode() if found else b"see /metrics\n"
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # http.server's name
                """Scrapes are not worth a line."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, name="windows-metrics", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
