"""Offers of models: download, verify, canary, activate or roll back. Every step is on disk first, so that a restart goes on."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from appliance.core.backoff import backoff
from appliance.core.inference.registry.canary import judge
from appliance.core.inference.registry.deciding import Deciding
from appliance.core.inference.registry.intake import Intake
from appliance.core.inference.registry.records import UNDER_WAY, NameRecord, OfferRecord, VersionFacts
from appliance.core.inference.registry.registry import Registry
from appliance.core.model import Severity
from appliance.errors import (
    AbsentError,
    ApplianceError,
    ConflictError,
    DeadlineError,
    DeviceError,
    MemoryTierError,
    NotFoundError,
    QueueFullError,
    StoreError,
)

log = logging.getLogger(__name__)

MOST = 50
"""Offers under way at a time; further ones wait for the operator, and go with time."""
ATTEMPTS = 5
"""Downloads of one offer; then it is for the operator to ask again."""
FIRST, LONGEST = 2.0, 60.0
"""Seconds between them."""
LOOK = 1.0
"""Seconds between two looks at the canaries."""
AT_ONCE = frozenset({"immediate", "all", "all-at-once", "full"})
"""Strategies without a canary."""
ASK = "offered; `prime-spark model install {}` installs it"
BAD = frozenset({"refused", "failed", "rolled back"})


class Updating:
    """Takes offers and installs them, one after the other (implements streams.updates.Installer).

    Args:
        registry: What serves.
        deciding: Changes it.
        intake: Adds versions.
    """

    def __init__(self, registry: Registry, deciding: Deciding, intake: Intake) -> None:
        self._registry = registry
        self._deciding = deciding
        self._intake = intake
        self._offers: dict[str, OfferRecord] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._ends: dict[str, float] = {}
        """When a canary must be decided, on the monotonic clock, by the model's name."""
        self.pause = backoff

    @property
    def mode(self) -> str:
        """ "ignore", "ask" or "install"."""
        return self._registry.setup.settings.updates

    async def open(self) -> None:
        """Go on where an earlier life ended. Raises StoreError."""
        self._queue = asyncio.Queue()
        found = await self._registry.setup.records.offers()
        self._offers = {each.offer: each for each in found}
        for each in reversed(found):
            if each.state in UNDER_WAY and each.state != "canary":  # that one is in the name's row, or has ended
                self._queue.put_nowait(each.offer)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._install_all(), name="model updates")
            group.create_task(self._watch(), name="model canaries")

    def all(self) -> list[OfferRecord]:
        """All that are kept, the newest change first."""
        return sorted(self._offers.values(), key=lambda each: each.changed, reverse=True)

    async def offered(self, offer: OfferRecord) -> OfferRecord:
        """Take an offer; durable when this returns. One that was taken before is left as it is. Raises StoreError."""
        if (known := self._offers.get(offer.offer)) is not None:
            return known
        ask = ASK.format(f"{offer.model}@{offer.version}")
        if self.mode != "install":
            return await self._step(offer, "offered", ask)
        if sum(each.state in UNDER_WAY for each in self._offers.values()) >= MOST:
            return await self._step(offer, "offered", f"{MOST} offers wait already; {ask}")
        return await self._queued(offer, "waits for its turn")

    def knows(self, key: str) -> bool:
        """Whether an offer was taken before."""
        return key in self._offers

    async def install(self, wanted: str) -> OfferRecord:
        """Install an offer that waits, or that failed before.

        Args:
            wanted: NAME@VERSION; the newest offer of it counts.

        Raises:
            NotFoundError: There is no such offer.
            ConflictError: It is under way, or done.
            StoreError: It is not on disk.
        """
        offer = next((each for each in self.all() if f"{each.model}@{each.version}" == wanted), None)
        if offer is None:
            raise NotFoundError(f"No offer of {wanted} came.", "list them with `prime-spark model offers`.")
        if offer.state in UNDER_WAY or offer.state == "active":
            raise ConflictError(f"The offer of {wanted} is {offer.state}: {offer.note}.", "nothing is to be done.")
        return await self._queued(offer, "the operator asked for it")

    async def rollback(self, name: str, why: str) -> NameRecord:
        """As Deciding.rollback; the offer that brought what served is told as rolled back, and can be installed again."""
        served = self._registry.record(name).active
        after = await self._deciding.rollback(name, why)
        for offer in self.all():
            if (offer.model, offer.version, offer.state) == (name, served, "active"):
                try:
                    await self._step(offer, "rolled back", why)
                except StoreError as error:  # the rollback itself is done
                    log.error("that the offer of %s %s was rolled back is not on disk: %s", name, served, error)
        return after

    async def _queued(self, offer: OfferRecord, note: str) -> OfferRecord:
        taken = await self._step(offer, "queued", note)
        self._queue.put_nowait(taken.offer)
        return taken

    async def _step(self, offer: OfferRecord, state: str, note: str) -> OfferRecord:
        """Make a state true: on disk, shown, and told. Raises StoreError."""
        registry = self._registry
        after = msgspec.structs.replace(offer, state=state, note=note, changed=registry.setup.clock.wall())
        await registry.setup.records.put_offer(after)
        self._offers[after.offer] = after
        self._forget()
        log.info("offer of %s %s: %s: %s", after.model, after.version, state, note)
        severity = Severity.warning if state in BAD else Severity.info
        await registry.tell(
            "model.update", severity, model=after.model, version=after.version, state=state, note=note, offer_id=after.offer_id
        )
        return after

    def _forget(self) -> None:
        from appliance.core.inference.registry.records import OFFERS

        for each in self.all()[OFFERS:]:
            if each.state not in UNDER_WAY:
                del self._offers[each.offer]

    async def _install_all(self) -> None:
        while True:
            key = await self._queue.get()
            offer = self._offers.get(key)
            if offer is None or offer.state not in UNDER_WAY:
                continue
            try:
                await self._install(offer)
            except StoreError as error:
                await self._wait(key, error)
            except Exception as error:  # of a library, on an archive that nobody foresaw: one offer's end, not the service's
                log.exception("the offer of %s failed", offer.model)
                try:
                    await self._step(offer, "failed", f"{type(error).__name__}: {error}")
                except StoreError as unwritten:
                    await self._wait(key, unwritten)

    async def _wait(self, key: str, error: StoreError) -> None:
        """The disk does not take it now."""
        log.error("the offer %s waits: %s", key, error)
        await asyncio.sleep(self.pause(1, FIRST, LONGEST))
        self._queue.put_nowait(key)

    async def _install(self, offer: OfferRecord) -> None:
        """Bring one offer to its end, or to its canary. Raises StoreError."""
        try:
            if offer.stage.lower() == "archived":
                await self._archive(offer)
                return
            offer = await self._fetched(offer)
            await self._serve(offer)
        except StoreError:
            raise
        except (MemoryTierError, QueueFullError, DeadlineError, DeviceError) as error:
            await self._step(offer, "failed", str(error))
        except ApplianceError as error:
            await self._step(offer, "refused", str(error))

    async def _archive(self, offer: OfferRecord) -> None:
        await self._deciding.archive(offer.model, offer.version)
        await self._step(offer, "archived", "it may be removed to make room")

    async def _fetched(self, offer: OfferRecord) -> OfferRecord:
        """The version is on the disk and proven when this returns. Raises ApplianceError."""
        key = f"{offer.model}@{offer.version}"
        if (found := self._registry.found.get(key)) is not None:
            came = self._registry.facts.get(key, VersionFacts(key=key)).sha256
            if came != offer.sha256.lower():
                raise ConflictError(
                    f"{key} is on the disk already, and came from another file ({found.directory}).",
                    "offer it under another version.",
                )
            return await self._step(offer, "verifying", "it is on the disk already")
        offer = await self._step(offer, "downloading", offer.artifact)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._intake.add(offer.artifact, (offer.model, offer.version), offer.sha256)
                break
            except MemoryTierError as error:
                if attempt == ATTEMPTS:
                    raise
                wait = self.pause(attempt, FIRST, LONGEST)
                offer = await self._step(offer, "downloading", f"{error.message} Again in {wait:.0f} s.")
                await asyncio.sleep(wait)
        told = self._registry.facts[key].tested
        return await self._step(offer, "verifying", told)

    async def _serve(self, offer: OfferRecord) -> None:
        """Give the version its share, or all. Raises ApplianceError."""
        registry, name = self._registry, offer.model
        record = registry.record(name)
        if offer.stage.lower() == "staging" or offer.percent == 0:
            await self._step(offer, "staged", f"`prime-spark model activate {name} {offer.version}` has it serve")
            return
        if record.active == offer.version:
            await self._step(offer, "active", "it serves already")
            return
        if not record.active or offer.strategy in AT_ONCE:
            await self._deciding.activate(name, offer.version, f"offer {offer.offer_id}")
            why = "its offer wants no canary" if record.active else "there was no version to compare it with"
            await self._step(offer, "active", f"activated without a canary: {why}")
            return
        await self._begin_canary(offer)

    async def _begin_canary(self, offer: OfferRecord) -> None:
        registry, name = self._registry, offer.model
        settings, split = registry.setup.settings, registry.record(name).split
        if split is None or split.offer != offer.offer or split.candidate != offer.version:
            if split is not None and split.mode == "canary":
                await self._deciding.end_split(name, f"{offer.version} was offered")
                await self._supersede(split.offer, offer)
            percent = min(100.0, offer.percent or settings.canary_percent)
            until = registry.setup.clock.wall() + settings.canary_seconds
            split = await self._deciding.split(
                name, offer.version, "canary", percent, until=until, wanted=settings.canary_requests, offer=offer.offer
            )
        note = f"{split.percent:g} % of the requests for {name} go to {offer.version}"
        if offer.strategy not in {"", "canary", "percent", "gradual"}:
            note += f" (the strategy {offer.strategy!r} is not known here)"
        await self._step(offer, "canary", note)

    async def _supersede(self, key: str, by: OfferRecord) -> None:
        if (old := self._offers.get(key)) is not None:
            await self._step(old, "superseded", f"{by.version} was offered while it was watched")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            for name in [name for name, record in self._registry.names.items() if record.split is not None]:
                try:
                    await self.look(name)
                except ApplianceError as error:
                    log.error("the canary of %s is not decided: %s", name, error)

            for offer in [each for each in self._offers.values() if each.state == "canary"]:
                await self._ended_by_hand(offer)

    async def _ended_by_hand(self, offer: OfferRecord) -> None:
        """An operator may end or overtake a canary, or the power may have gone between its end and this row."""
        record = self._registry.record(offer.model)
        if record.split is not None and record.split.offer == offer.offer:
            return
        served = record.active == offer.version
        try:
            note = "it serves" if served else "its canary was ended"
            await self._step(offer, "active" if served else "superseded", note)
        except StoreError as error:
            log.error("the end of the canary of %s is not on disk: %s", offer.model, error)

    def left(self, name: str) -> float:
        """Seconds until a name's canary must be decided; by the monotonic clock, for the other one may jump."""
        clock, split = self._registry.setup.clock, self._registry.record(name).split
        if split is None:
            return 0.0
        key = f"{name}@{split.candidate}:{split.since}"
        if key not in self._ends:
            longest = self._registry.setup.settings.canary_seconds
            self._ends = {key: end for key, end in self._ends.items() if end > clock.monotonic()}
            self._ends[key] = clock.monotonic() + min(max(split.until - clock.wall(), 0.0), longest)
        return self._ends[key] - clock.monotonic()

    def verdict(self, name: str) -> str:
        """What speaks for or against a name's canary so far; empty where there is none."""
        split = self._registry.record(name).split
        if split is None or split.mode != "canary":
            return ""
        return judge(split, self._registry.comparison(name), self.left(name), self._registry.setup.settings).reason

    async def look(self, name: str) -> None:
        """Decide a name's canary, if it can be decided. Raises ApplianceError."""
        registry = self._registry
        split = registry.record(name).split
        if split is None or split.mode != "canary":
            return
        verdict = judge(split, registry.comparison(name), self.left(name), registry.setup.settings)
        if verdict.good is None:
            return
        offer = self._offers.get(split.offer)
        if not verdict.good:
            await self._end(name, split.candidate, verdict.reason)
            if offer is not None:
                await self._step(offer, "rolled back", verdict.reason)
            return
        try:
            await self._deciding.activate(name, split.candidate, verdict.reason, split)
        except ConflictError:
            return  # somebody ended it while it was proven; `_ended_by_hand` tells of it
        except (StoreError, QueueFullError, DeadlineError, DeviceError, AbsentError):
            raise  # it says nothing of the version; the next look tries again
        except ApplianceError as error:
            await self._end(name, split.candidate, str(error))
            if offer is not None:
                await self._step(offer, "rolled back", str(error))
            return
        if offer is not None:
            await self._step(offer, "active", verdict.reason)

    async def _end(self, name: str, version: str, why: str) -> None:
        await self._deciding.end_split(name, why)
        await self._registry.tell("model.rolled-back", Severity.warning, model=name, version=version, why=why)
