"""Puts the sources together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.core.events import Noted
from appliance.core.inference.model import Inferer
from appliance.core.inference.sources import schedule
from appliance.core.inference.sources.book import SourceBook
from appliance.core.inference.sources.model import Kind
from appliance.core.inference.sources.opening import OpenCamera, Opener
from appliance.core.inference.sources.pictures import Limits
from appliance.core.inference.sources.reader import Patience
from appliance.core.inference.sources.runner import Tools
from appliance.core.inference.sources.service import SourceService, publisher
from appliance.core.inference.sources.shelf import Keeper, Shelf
from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.core.store import Store

if TYPE_CHECKING:
    from appliance.settings import Settings

MIB = 1024 * 1024


@dataclass(frozen=True)
class Ground:
    """What the sources stand on.

    Attributes:
        settings: All of them.
        store: Keeps the definitions.
        secrets: Keeps their passwords.
        memory: Keeps snapshots and clips.
        inferer: Runs models.
        publish: Of the bus; raises StoreError.
        state: Shown there.
        clock: Both clocks.
        cameras: Drivers of hw/, by the kind that they are for.
    """

    settings: Settings
    store: Store
    secrets: Secrets
    memory: Keeper
    inferer: Inferer
    publish: Callable[[Noted], Awaitable[None]]
    state: LiveState
    clock: Clock
    cameras: Mapping[Kind, OpenCamera]


def build(ground: Ground) -> SourceService:
    """The service, not started."""
    wanted, inference = ground.settings.sources, ground.settings.inference
    book = SourceBook(ground.store, ground.secrets, ground.clock, wanted.most)
    limits = Limits(inference.max_file_mib * MIB, inference.max_megapixels * 1_000_000)
    tools = Tools(
        inferer=ground.inferer,
        open_feed=Opener(book.password, limits, ground.cameras),
        shelf=Shelf(ground.memory, ground.store, ground.clock, wanted.keep_days, wanted.keep_mib * MIB),
        publish=publisher(ground.publish),
        clock=ground.clock,
        patience=Patience(longest=wanted.retry_seconds),
        where=schedule.zone(wanted.time_zone),
    )
    return SourceService(book, tools, ground.state)
