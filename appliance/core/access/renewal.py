"""Keeps the certificate of a public authority fresh, as a supervised service; while that fails, the present one stays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from appliance.core.access.authority import CertificateInfo, describe
from appliance.core.access.errors import AcmeError
from appliance.core.backoff import backoff
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.errors import ConfigError, ConflictError, StoreError

log = logging.getLogger(__name__)

LOOK = 300.0
"""Seconds between two looks at the certificate."""
FIRST, LONGEST = 60.0, 6 * 3600.0
"""Seconds until the next try after a failure: at first, and at most. Authorities count failures."""
SHARE = 2 / 3
"""Of its life, after which a certificate is renewed."""
SHORT = 45.0
"""Days; certificates of shorter lives are warned of by failures alone."""
DAY = 86400.0


class Obtains(Protocol):
    """Has a certificate signed (acme.AcmeClient)."""

    def obtain(self) -> bytes:
        """Key, certificate and chain, kept; blocks. Raises AcmeError, StoreError."""


class AcmeService:
    """Renews in time (implements ports.Service).

    Args:
        client: The authority.
        pair: Key, certificate and chain that are kept; None where there are none; blocks.
        names: That the certificate must hold.
        clock: Both clocks.
        answered: Why nobody could ask here over plain HTTP, or "".
    """

    name = "acme"
    summary = "certificate of a public authority"
    depends: tuple[str, ...] = ("http",)

    def __init__(
        self, client: Obtains, pair: Callable[[], bytes | None], names: tuple[str, ...], clock: Clock,
        answered: Callable[[], str],
    ) -> None:  # fmt: skip
        self._client, self._pair, self._names, self._clock, self._answered = client, pair, names, clock, answered
        self._failures, self._next_try = 0, 0.0
        self._problem = self._step = ""
        self._busy = False
        self._info: CertificateInfo | None = None

    async def start(self) -> None:
        """Look at what there is. Raises StoreError."""
        await self._look()

    async def run(self) -> None:
        """Renew in time until cancelled."""
        while True:
            await self.turn()
            left = self._next_try - self._clock.monotonic() if self._failures else LOOK
            await asyncio.sleep(min(LOOK, max(1.0, left)))

    async def turn(self) -> None:
        """Look, and renew where it is time. Raises StoreError: what is kept cannot be read."""
        await self._look()
        if not self._due() or self._clock.monotonic() < self._next_try or self._answered():
            return
        try:
            await self.obtain()
        except (AcmeError, ConflictError, StoreError) as error:
            log.warning("the present certificate stays: %s", error.message)

    async def stop(self) -> None:
        """An order that is under way ends by itself."""

    async def obtain(self) -> CertificateInfo:
        """A new certificate now.

        Raises:
            ConflictError: One is under way.
            AcmeError: There is none; the present one stays.
            StoreError: It cannot be kept.
        """
        if self._busy:
            raise ConflictError("The authority is being asked already.", "wait for it: `prime-spark tls show`.")
        self._busy = True
        try:
            if why := self._answered():
                raise AcmeError(f"The authority could not look here: {why}.", "set api.redirect_port.")
            pair = await asyncio.to_thread(self._client.obtain)
            self._info = describe(pair, own=False)
            self._failures, self._problem, self._step = 0, "", ""
        except (AcmeError, ConfigError, StoreError) as error:
            self._failures += 1
            self._next_try = self._clock.monotonic() + backoff(self._failures, FIRST, LONGEST)
            self._problem, self._step = error.message, error.next_step
            if isinstance(error, ConfigError):  # it is none that can be read
                raise AcmeError(error.message, error.next_step) from error
            raise
        finally:
            self._busy = False
        log.info("a certificate for %s was signed, by %s", ", ".join(self._names), self._info.issuer)
        return self._info

    async def _look(self) -> None:
        pair = await asyncio.to_thread(self._pair)
        try:
            self._info = describe(pair, own=False) if pair is not None else None
        except ConfigError as error:
            log.warning("the kept certificate cannot be read, another one is asked for: %s", error.message)
            self._info = None

    def _due(self) -> bool:
        """Whether it is time. Before its begin it is not: a clock that is wrong would use up what the authority allows."""
        found, now = self._info, self._clock.wall()
        if found is None or not set(self._names) <= {each.lower() for each in found.names}:
            return True
        return now >= found.begins + SHARE * (found.ends - found.begins)

    async def health(self) -> HealthReport:
        """Degraded while renewing fails, unhealthy where there is none that holds."""
        found, now, why = self._info, self._clock.wall(), self._answered()
        problem, step = (why, "set api.redirect_port, and let port 80 lead there.") if why else (self._problem, self._step)
        if found is None or now >= found.ends:
            state = "there is no certificate yet" if found is None else "its certificate has expired"
            details = {} if found is None else {"certificate_days": round((found.ends - now) / DAY, 1)}
            health = Health.unhealthy if problem else Health.degraded
            return HealthReport(health, f"{state}: {problem or 'the authority is being asked'}", step, details)
        left = (found.ends - now) / DAY
        details = {"certificate_days": round(left, 1)} if (found.ends - found.begins) / DAY >= SHORT else {}
        if now < found.begins:
            return HealthReport(Health.degraded, "its certificate is not valid yet: is the clock right?", "look at the clock.")
        if problem:
            return HealthReport(Health.degraded, f"{left:.0f} more days, and it is not renewed: {problem}", step, details)
        return HealthReport(Health.healthy, f"{', '.join(self._names)}: {left:.0f} more days", "", details)
