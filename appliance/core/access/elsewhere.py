"""Opens the appliance's secrets, with what lies elsewhere; and the service that fetches it again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.core.access.errors import SecretAwayError
from appliance.core.access.references import KEPT, References
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.secrets import Secrets, write_private
from appliance.settings import Settings

if TYPE_CHECKING:
    from appliance.core.access.references import SecretStatus

log = logging.getLogger(__name__)

AGAIN = 30.0
"""Seconds until the next look while something cannot be fetched."""


def open_secrets(directory: Path, environ: Mapping[str, str], settings: Settings, clock: Clock) -> Secrets:
    """The secrets of these settings.

    Args:
        directory: Where the appliance's own lie.
        environ: Environment.
        settings: All; `secrets` and `vault` of them count.
        clock: Both clocks.
    """
    given = dict(each.partition("=")[::2] for each in settings.secrets.references)
    if not given:
        return Secrets(directory, dict(environ))
    sources = {"file": file, "credential": Credentials(environ).fetch}
    if settings.vault.url or any(each.startswith("vault:") for each in given.values()):
        from appliance.core.access.vault import Vault

        sources["vault"] = Vault(settings.vault).fetch
    keep = settings.secrets.keep_hours * 3600
    references = References(given, sources, directory / KEPT, write_private, clock, keep)
    return Secrets(directory, dict(environ), references)


def file(where: str) -> bytes:
    """A file that not everybody can read. Raises SecretAwayError."""
    path = Path(where)
    try:
        mode = path.stat().st_mode & 0o777
        if mode & 0o007:
            raise SecretAwayError(f"{path} has mode {mode:o}; everybody can read it.", f"chmod o= {path}")
        return path.read_bytes().rstrip(b"\r\n")
    except OSError as error:  # a share that is not mounted looks like a file that was removed
        raise SecretAwayError(f"{path} cannot be read: {error.strerror}.", "put it there, readable for this user.") from error


class Credentials:
    """What systemd gives to this service (systemd.exec(5), LoadCredential=).

    Args:
        environ: Environment; CREDENTIALS_DIRECTORY says where they are.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._folder = environ.get("CREDENTIALS_DIRECTORY", "")

    def fetch(self, where: str) -> bytes:
        """One of them. Raises SecretAwayError."""
        if not self._folder:
            step = "start the appliance as a unit of systemd with LoadCredential=."
            raise SecretAwayError("systemd gives no credentials here (CREDENTIALS_DIRECTORY is not set).", step, whole=True)
        try:
            return Path(self._folder, where).read_bytes().rstrip(b"\r\n")
        except OSError as error:
            step = f"add LoadCredential={where}:/PATH to the unit."
            raise SecretAwayError(f"The credential {where} cannot be read: {error.strerror}.", step) from error


class SecretService:
    """Fetches what lies elsewhere anew, and tells what cannot be had (implements ports.Service).

    Args:
        references: What lies elsewhere.
        every: Seconds between two looks.
    """

    name = "secrets"
    summary = "secrets that lie elsewhere"
    depends: tuple[str, ...] = ()

    def __init__(self, references: References, every: float) -> None:
        self._references, self._every = references, every

    async def start(self) -> None:
        """From now on nobody else waits for the network."""
        self._references.background = True

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.to_thread(self._references.refresh)
            away = any(each.problem for each in self._references.status())
            await asyncio.sleep(min(AGAIN, self._every) if away else self._every)

    async def stop(self) -> None:
        """Whoever asks fetches for himself again."""
        self._references.background = False

    async def health(self) -> HealthReport:
        """Unhealthy where something cannot be had at all, degraded where a last good value is used, or a new one waits."""
        found = await asyncio.to_thread(self._references.status)
        for health, which in (
            (Health.unhealthy, [each for each in found if not each.here]),
            (Health.degraded, [each for each in found if each.kept]),
        ):  # fmt: skip
            if which:
                return HealthReport(health, _told(which), which[0].next_step)
        if changed := [each.name for each in found if each.changed]:
            reason = f"another value than the one in use was fetched: {', '.join(changed)}"
            return HealthReport(Health.degraded, reason, "start the appliance again, which takes it up.")
        return HealthReport(Health.healthy, f"{len(found)} fetched from elsewhere")


def _told(which: list[SecretStatus]) -> str:
    first = which[0]
    how = "cannot be had" if not first.here else f"is the last good value, {(first.age or 0) / 3600:.1f} h old"
    more = f" (and {len(which) - 1} more)" if len(which) > 1 else ""
    return f"{first.name} {how}: {first.problem or 'not fetched yet'}{more}"
