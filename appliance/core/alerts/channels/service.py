"""The alert channels as a service. With none configured it is absent, and loads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.core.alerts.channels.ground import Ground
from appliance.core.model import AlertStatus, HealthReport
from appliance.core.state import Section
from appliance.errors import AbsentError, NotFoundError

if TYPE_CHECKING:
    from appliance.core.alerts.channels.model import ChannelStatus, Delivery, RouteStatus
    from appliance.core.alerts.channels.office import Office
    from appliance.core.alerts.channels.routing import Route

HOW = "set [alerts.channels.NAME] with its kind: webhook, ntfy, email, http or speech; docs/alerts.md."


class ChannelService:
    """Tells people of alerts (implements ports.Service).

    Args:
        ground: What it stands on.
    """

    name = "alert-channels"
    summary = "Tells people of alerts: webhook, ntfy, e-mail, HTTP, speech"
    depends: tuple[str, ...] = ("store", "alerts")

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._office: Office | None = None

    @property
    def office(self) -> Office:
        """The channels. Raises AbsentError where none is configured, or they do not run."""
        if self._office is None:
            if not self._ground.settings.channels:
                raise AbsentError("No alert channel is configured: alerts are on the consoles only.", HOW)
            raise AbsentError("The alert channels do not run.", "see `prime-spark service list`.")
        return self._office

    async def start(self) -> None:
        """Make the channels, and take up what waits. Raises AbsentError where none is configured, StoreError."""
        if not self._ground.settings.channels:
            raise AbsentError("no alert channel is configured: alerts are on the consoles only", HOW)
        from appliance.core.alerts.channels.office import Office

        office = Office(self._ground)
        await office.open()
        self._office = office

    async def run(self) -> None:
        """Look at the alerts, and deliver."""
        await self.office.run()

    async def stop(self) -> None:
        """Let go of all channels."""
        office, self._office = self._office, None
        if office is not None:
            await office.close()

    async def health(self) -> HealthReport:
        """Unhealthy where deliveries are not kept; degraded where a channel does not deliver (its own rule tells of that)."""
        return self.office.health()

    def channels(self) -> list[ChannelStatus]:
        """Every channel; none where none is configured."""
        return list(self.office.status().channels) if self._ground.settings.channels else []

    async def test(self, name: str, who: str) -> Delivery:
        """Send a test by a channel, now; returns its record, with what the server answered.

        Args:
            name: Of the channel.
            who: Asks for it.

        Raises:
            NotFoundError: There is no such channel.
            DeliveryError: It was not taken; the message says what the server answered.
            AbsentError: The channel lacks something.
        """
        if name not in self._ground.settings.channels:
            known = ", ".join(self._ground.settings.channels)
            hint = f"the channels are: {known}." if known else HOW
            raise NotFoundError(f"No alert channel is called {name!r}.", hint)
        return await self.office.test(name, who)

    async def deliveries(self, limit: int, channel: str, state: str, before: int | None) -> list[Delivery]:
        """Records, newest first; those of channels that are not set any more with them. Raises StoreError."""
        from appliance.core.alerts.channels.book import Book

        return await Book(self._ground.store, self._ground.settings.deliveries_keep).newest(
            limit, channel, [state] if state else [], before
        )

    def routes(self) -> list[RouteStatus]:
        """The routes as they hold, each with the active alerts that go that way."""
        from appliance.core.alerts.channels.grouping import Planner
        from appliance.core.alerts.channels.routing import ESCALATION, routes_of

        alerts: tuple[AlertStatus, ...] = self._ground.state.get(Section.alerts).value or ()
        planner = Planner(routes_of(self._ground.settings), self._ground.device, ())
        return [self._route(each, planner.of_route(each, alerts)) for each in planner.routes if ESCALATION not in each.name]

    def _route(self, route: Route, alerts: tuple[str, ...]) -> RouteStatus:
        from appliance.core.alerts.channels.model import RouteStatus

        wanted = self._ground.settings.routes.get(route.name)
        escalates = ""
        if wanted is not None and wanted.escalate_minutes is not None:
            escalates = f"after {wanted.escalate_minutes:g} min to {', '.join(wanted.escalate_to)}"
        match = wanted.match if wanted is not None else ()
        return RouteStatus(
            route.name, route.severity.value, match, route.channels, route.group_by, route.wait, route.interval, route.repeat,
            escalates, route.last, alerts,
        )  # fmt: skip
