"""What the alert channels stand on."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.settingalerts import AlertSettings


@dataclass(frozen=True)
class Ground:
    """What the channels stand on.

    Attributes:
        settings: As the operator has them.
        device: This machine's name.
        store: For deliveries.
        secrets: For keys.
        state: Alerts are read there, channels shown.
        clock: For times.
    """

    settings: AlertSettings
    device: str
    store: Store
    secrets: Secrets
    state: LiveState
    clock: Clock
