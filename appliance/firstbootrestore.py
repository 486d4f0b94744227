"""Restores a backup where nothing is yet, for the first start."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.core.lifecycle.backup.keeper import Keeper
    from appliance.core.lifecycle.firstboot.validate import Source
    from appliance.paths import Paths

CARD = "prime-spark.toml (first start)"


def restore(where: Paths, source: Source) -> tuple[str, ...]:
    """Unpack, prove and put in place; the parts that came.

    Args:
        where: Where nothing is yet.
        source: The backup, and what opens it.

    Raises:
        ApplianceError: It is damaged, of a newer program, or opens with another key.
    """
    from appliance import __version__
    from appliance.core.clock import SystemClock
    from appliance.core.lifecycle.backup import restoring
    from appliance.core.lifecycle.backup.keeper import Ground, Keeper
    from appliance.core.secrets import Secrets
    from appliance.settings import Settings

    settings = Settings()
    where.make()
    keeper = Keeper(Ground(
        settings.backup, settings.nas.path, settings.node.device_id, __version__, where, Secrets(where.secrets, {}), os.environ,
        SystemClock(),
    ))  # fmt: skip
    keeper.prepare()
    asyncio.run(_stage(keeper, source))
    return restoring.apply(where).parts


async def _stage(keeper: Keeper, source: Source) -> None:
    from appliance.core.lifecycle.backup.restic import Repository, Restic

    if source.file is not None:
        await keeper.stage_file(source.file, source.key, source.passphrase, (), other=True, by=CARD)
        return
    found = Repository(str(source.repository), source.key, {}, keeper.home)
    await keeper.stage_repository(Restic(found, os.environ), source.snapshot, source.snapshot, (), other=True, by=CARD)
