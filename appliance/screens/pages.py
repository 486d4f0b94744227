"""Every page by its name."""

from __future__ import annotations

from appliance.screens.alerts import Alerts
from appliance.screens.analytics import Analytics
from appliance.screens.audit import Audit
from appliance.screens.conflicts import Conflicts
from appliance.screens.deploy import Deployments
from appliance.screens.fleet import Fleet
from appliance.screens.inference import Inference
from appliance.screens.jobs import Jobs
from appliance.screens.logs import Logs
from appliance.screens.memory import Memory
from appliance.screens.models import Models
from appliance.screens.overview import Overview
from appliance.screens.page import Page
from appliance.screens.power import Power
from appliance.screens.services import Services
from appliance.screens.settings import Settings
from appliance.screens.sources import Sources
from appliance.screens.streams import Streams
from appliance.screens.tasks import Tasks
from appliance.screens.vpn import Vpn

PAGES: dict[str, type[Page]] = {
    cls.page: cls
    for cls in (
        Overview, Services, Inference, Jobs, Logs, Alerts, Audit, Settings, Memory, Conflicts, Streams, Analytics,
        Models, Sources, Power, Vpn, Tasks, Fleet, Deployments,
    )
}  # fmt: skip
