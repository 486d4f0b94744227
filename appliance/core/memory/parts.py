"""What reader, writer and deliverers work on together."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from appliance.core.memory.absent import Absent
from appliance.core.memory.behind import Behind
from appliance.core.memory.edge import EdgeStore
from appliance.core.memory.front import Front
from appliance.core.memory.ledger import Ledger
from appliance.core.memory.replicas import Replicas
from appliance.core.memory.stripes import Stripes
from appliance.core.memory.trust import ClockTrust
from appliance.core.ports import Clock


@dataclass(frozen=True)
class Parts:
    """The tiers, and what keeps their users out of each other's way.

    Attributes:
        front: Tier 1.
        edge: The local disk.
        replicas: The tiers below it.
        clock: For times, and against which values expire.
        device_id: Of this appliance.
        absent: Keys that were found nowhere.
        behind: Values on their way to the disk.
        stripes: Order among those who touch one key.
    """

    front: Front
    edge: EdgeStore
    replicas: Replicas
    clock: Clock
    device_id: str
    absent: Absent
    behind: Behind
    stripes: Stripes = field(default_factory=Stripes)

    @property
    def ledger(self) -> Ledger:
        """What tiers are owed and hold."""
        return self.edge.ledger

    @cached_property
    def trust(self) -> ClockTrust:
        """Whether the clock may have something removed for good."""
        return ClockTrust(self.clock)
