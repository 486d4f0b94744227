"""Traces as a service: on where a collector is configured. Nothing of it is loaded where none is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from appliance.core.model import Health, HealthReport
from appliance.core.observe.observer import Observer
from appliance.core.observe.sample import Sample
from appliance.core.secrets import Secrets
from appliance.errors import AbsentError, ConfigError
from appliance.settingobserve import TraceSettings

if TYPE_CHECKING:
    from appliance.core.observe.sending import Sending

log = logging.getLogger(__name__)

FLUSH = 2.0
"""Seconds that what waits has to go out when it stops."""
HOW = 'set observe.traces.endpoint = "http://192.0.2.14:4318/v1/traces"; docs/observability.md.'


class TraceService:
    """Sends spans to a collector (implements ports.Service).

    Args:
        settings: The group observe.traces.
        observer: Its spans are switched on.
        secrets: Has the header for the collector, where one is wanted.
        resource: What this process is: service.name, service.version, …
    """

    name = "traces"
    summary = "Sends traces to an OpenTelemetry collector"
    depends: tuple[str, ...] = ()

    def __init__(self, settings: TraceSettings, observer: Observer, secrets: Secrets, resource: dict[str, str]) -> None:
        self._settings, self._observer, self._secrets, self._resource = settings, observer, secrets, resource
        self._sending: Sending | None = None
        observer.meter.ask(self._samples)

    async def start(self) -> None:
        """Load the library, begin. Raises AbsentError, ConfigError, StoreError."""
        if not self._settings.endpoint:
            raise AbsentError("no collector of traces is configured", HOW)
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        from appliance.core.observe.otel import Maker, encoded
        from appliance.core.observe.sending import Post, Sending

        wanted = self._settings
        secret = self._secrets.text(wanted.secret) if wanted.secret else ""
        headers = {"Authorization": secret} if secret else {}
        try:
            post = Post(wanted.endpoint, headers, str(wanted.ca_file or ""))
        except OSError as error:  # ssl.SSLError is one
            told = f"observe.traces.ca_file {wanted.ca_file} cannot be used: {error}."
            raise ConfigError(told, "give a file of PEM certificates.") from error
        sending = Sending(encoded, post, wanted.queue)
        maker = Maker(self._resource, wanted.ratio, sending.take)
        sending.start()
        self._sending = sending
        self._observer.spans.switch(maker.begin)

    async def run(self) -> None:
        """It works by itself, until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Begin no more spans, send what waits."""
        self._observer.spans.switch(None)
        sending, self._sending = self._sending, None
        if sending is not None:
            await asyncio.to_thread(sending.stop, FLUSH)

    async def health(self) -> HealthReport:
        """Degraded while the collector does not take spans."""
        sending = self._sending
        if sending is None:
            return HealthReport(Health.unhealthy, "it does not run", "prime-spark service restart traces")
        lost = sending.dropped + sending.failed
        told = f"{sending.sent} spans sent, {lost} given up, {sending.waiting} waiting"
        if sending.trouble:
            step = "look at the collector, and at observe.traces.endpoint and its secret."
            return HealthReport(Health.degraded, f"{self._settings.endpoint}: {sending.trouble}; {told}", step)
        return HealthReport(Health.healthy, told)

    def _samples(self) -> Iterator[Sample]:
        if self._sending is not None:
            yield from self._sending.samples()
