"""The source of releases, asked beside the event loop: reading it blocks."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.core.lifecycle.update.model import Checked, Release
from appliance.core.memory.threads import DaemonPool
from appliance.errors import AbsentError, UpdateError

if TYPE_CHECKING:
    from appliance.core.lifecycle.update.source import Access
    from appliance.settingupdate import UpdateSettings

log = logging.getLogger(__name__)

SOURCE = 'write one into the configuration, such as [update] source = "/mnt/nas/releases", or give the path of a bundle.'
Report = Callable[[float | None, str], None]
LOOK = 120.0
"""Seconds for a look at the source, with all that it takes."""
LONGEST = 86400.0
"""Seconds for a bundle; one that does not come on ends long before."""
ENDING = 5.0
"""Seconds that a fetch which is to stop has for it."""


class Shop:
    """Where releases come from.

    Args:
        settings: Of the updates.
        into: Directory for what is fetched.
    """

    def __init__(self, settings: UpdateSettings, into: Path) -> None:
        self._settings = settings
        self.into = into
        self._looks = DaemonPool("update look", 1)  # a dead mount holds a thread for ever: these, and none of the others'
        self._fetches = DaemonPool("update fetch", 1)

    def _access(self) -> Access:
        from appliance.core.lifecycle.update.source import Access

        wanted = self._settings
        if not wanted.source:
            raise AbsentError("No source of releases is configured.", SOURCE)
        return Access(wanted.key, wanted.proxy, Path(wanted.certificates) if wanted.certificates else None)

    async def look(self, arch: str, running: str) -> Checked:
        """What the source has for this machine. Raises AbsentError where none is configured, UpdateError."""
        from appliance.core.lifecycle.update import releases

        access = self._access()
        look = functools.partial(releases.look, self._settings.source, access, arch, running)
        try:
            found = await self._looks.run(look, LOOK)
        except TimeoutError as error:
            told = f"{self._settings.source} did not answer within {LOOK:g} s."
            raise UpdateError(told, "see whether that disk, mount or server hangs, and check again.") from error
        return Checked(found.said, found.newest, tuple(found.releases))

    async def pick(self, version: str, arch: str, running: str) -> Release:
        """One release, the newest where no version is given. Raises NotFoundError, AbsentError, UpdateError."""
        from appliance.core.lifecycle.update import releases

        found = await self.look(arch, running)
        if version:
            return releases.pick(found.releases, version)
        if found.newest is None:
            raise UpdateError(found.said, "there is nothing to do; name a version or a file to install it nevertheless.")
        return found.newest

    async def fetch(self, release: Release, report: Report) -> Path:
        """Bring a bundle here. Raises UpdateError, DiskFullError. What has come is kept where it is cut off."""
        from appliance.core.lifecycle.update import download

        access, loop, stop = self._access(), asyncio.get_running_loop(), threading.Event()

        def progress(share: float | None) -> None:
            loop.call_soon_threadsafe(report, share, "fetching the bundle")

        def check() -> None:
            if stop.is_set():
                raise UpdateError("Fetching the bundle was cancelled.", "install again: it goes on where it stopped.")

        fetch = functools.partial(download.fetch, release, self.into, access, progress, check)
        work = asyncio.create_task(self._fetches.run(fetch, LONGEST))
        try:
            return await asyncio.shield(work)
        except TimeoutError as error:
            stop.set()
            raise UpdateError("The bundle did not come within a day.", "install again: it goes on where it stopped.") from error
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait({work}, timeout=ENDING)
            if work.done() and not work.cancelled():
                work.exception()  # it was told to stop: what it says of that interests nobody
            work.cancel()
            raise

    def close(self) -> None:
        """End its threads; one that hangs stays, and keeps nothing from ending."""
        self._looks.close()
        self._fetches.close()

    async def clear(self) -> None:
        """Remove what was fetched: it lies in a slot now, and takes room here."""
        from appliance.core.lifecycle.update import download

        try:
            await asyncio.to_thread(download.tidy, self.into)
        except OSError as error:
            log.warning("a fetched bundle cannot be removed: %s", error)
