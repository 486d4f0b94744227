"""Prometheus and its node exporter, as Debian packages them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.servers.child import Server
from tests.support import free_port, needs_program


class PrometheusServer(Server):
    """Prometheus on a port of loopback.

    Args:
        directory: Of its own; its configuration lies there, as prometheus.yml.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "prometheus")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.moment: float | None = None
        """At which questions are asked (wall clock); None for now."""
        self._client = httpx.Client(base_url=self.url, timeout=20)

    def start(self) -> None:
        """Start it; returns when it answers queries."""
        self.child.spawn([
            needs_program("prometheus"), f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn", "--enable-feature=exemplar-storage",
        ], self._ready)  # fmt: skip

    def _ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:  # not yet
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def numbers(self, expression: str) -> list[float]:
        """What an expression comes to; NaN is no number."""
        when = {} if self.moment is None else {"time": f"{self.moment:.3f}"}
        found = [float(row["value"][1]) for row in self.ask("query", query=expression, **when)["result"]]
        return [each for each in found if each == each]  # noqa: PLR0124 NaN is not


class NodeExporter(Server):
    """The node exporter on a port of loopback."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "node-exporter")
        self.port = free_port()

    def start(self) -> None:
        """Start it; returns when it is scraped."""
        options = ["--collector.disable-defaults", "--collector.cpu", "--collector.meminfo"]
        listen = f"--web.listen-address=127.0.0.1:{self.port}"
        self.child.spawn([needs_program("prometheus-node-exporter"), listen, *options], self._ready)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5).status_code == 200
        except httpx.TransportError:  # not yet
            return False
