"""Joins the offers of the streams to whoever installs them (implements streams.updates.Installer)."""

from __future__ import annotations

from appliance.core.inference.registry.records import OfferRecord
from appliance.core.inference.registry.updating import Updating
from appliance.core.streams.model import ModelOffer
from appliance.core.streams.updates import KEPT, Taken


class Offers:
    """Hands offers over, and shows how far they came.

    Args:
        updating: Installs them.
    """

    def __init__(self, updating: Updating) -> None:
        self._updating = updating

    async def offered(self, offer: ModelOffer, percent: float | None, strategy: str) -> Taken:
        """See streams.updates.Installer."""
        record = OfferRecord(
            offer=_key(offer), offer_id=offer.offer_id, time=offer.time, model=offer.model, version=offer.version,
            artifact=offer.artifact, sha256=offer.sha256, stage=offer.stage, strategy=strategy.lower(), percent=percent,
        )  # fmt: skip
        taken = await self._updating.offered(record)
        return Taken(taken.state, taken.note)

    def knows(self, offer: ModelOffer) -> bool:
        """See streams.updates.Installer."""
        return self._updating.knows(_key(offer))

    def rows(self) -> tuple[ModelOffer, ...]:
        """See streams.updates.Installer."""
        return tuple(
            ModelOffer(
                offer_id=each.offer_id, time=each.time, model=each.model, version=each.version, stage=each.stage,
                artifact=each.artifact, sha256=each.sha256, note=each.note, state=each.state, changed=each.changed,
            )
            for each in self._updating.all()[:KEPT]
        )  # fmt: skip


def _key(offer: ModelOffer) -> str:
    """The same for a repeated offer; another stage of the same archive is another offer."""
    stage = offer.stage.lower()
    return f"{offer.model}@{offer.version}:{offer.sha256}" + ("" if stage == "production" else f":{stage}")
