"""Deployments: services with their versions and replicas, and a rollout live, with the traffic of each version."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.deploy.model import Deployed, DeployStatus
from appliance.core.state import Section
from appliance.screens import deploy_view as view
from appliance.screens import format as f
from appliance.screens.deploy_acts import Acts
from appliance.screens.panelled import Panelled, own_keys
from appliance.screens.streams_view import flow
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import LineView


class Deployments(Panelled):
    """Services above; the rollout, the replicas and the events of the chosen one below."""

    page = "deploy"
    titles = MappingProxyType({"rollout": "Rollout", "replicas": "Replicas", "events": "Events"})
    homes = MappingProxyType({name: frozenset({name}) for name in titles})
    lists = MappingProxyType({"rollout": "services", "replicas": "replicas", "events": "events"})
    room = (100, 40)
    sections = frozenset({Section.deployments})
    keys = (
        ("Tab", "Next panel"), ("a", "Deploy"), ("b", "Roll back"), ("p", "Pause/go on"), ("s", "Scale"), ("e", "Endpoints"),
        ("h", "History"), ("d", "Remove"), ("Enter", "All"),
    )  # fmt: skip
    needs = MappingProxyType({
        "a": "deploy.apply", "b": "deploy.rollback", "p": "deploy.pause", "s": "deploy.scale", "d": "deploy.remove",
    })  # fmt: skip
    AUTO_FOCUS = "#services"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("a", "apply"), ("b", "rollback"), ("p", "pause"), ("s", "scale"), ("e", "endpoints"), ("h", "history"),
        ("d,delete", "remove"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)

    def body(self) -> Iterable[Widget]:
        """One line, services, what is wrong, three panels."""
        yield LineView(id="head")
        yield Grid(view.SERVICES, "Services", id="services", empty="no service is deployed: a deploys one; see docs/deploy.md")
        yield LineView(id="trouble")
        yield LineView(self.titles["rollout"], id="rollout")
        yield Grid(view.REPLICAS, self.titles["replicas"], id="replicas", empty="nothing runs")
        yield Grid(view.EVENTS, self.titles["events"], id="events", empty="nothing happened yet")

    @property
    def status(self) -> DeployStatus | None:
        """None until it was read."""
        found = self.console.get(Section.deployments).value
        return found if isinstance(found, DeployStatus) else None

    @property
    def service(self) -> Deployed | None:
        """The one under the cursor."""
        status, key = self.status, self.query_one("#services", Grid).key
        return next((each for each in status.services if each.name == key), None) if status is not None else None

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        status, glyphs = self.status, self.spark.glyphs
        self.query_one("#head", LineView).set_lines([view.head_line(status, glyphs)])
        self.query_one("#services", Grid).set_rows(view.service_rows(status, glyphs))
        self._show_service()

    def _show_service(self) -> None:
        service, glyphs = self.service, self.spark.glyphs
        lines = flow(view.trouble(service, self.status), max(1, self.size.width))[:2]
        trouble = self.query_one("#trouble", LineView)
        trouble.styles.height = len(lines)
        trouble.set_lines(lines)
        panel = self.query_one("#rollout", LineView)
        width = max(1, panel.inner_width - 1)
        panel.set_lines([part for line in view.rollout_lines(service, width, glyphs) for part in wrap(line, width)])
        self.query_one("#replicas", Grid).set_rows(view.replica_rows(service, glyphs))
        self.query_one("#events", Grid).set_rows(view.event_rows(service.events if service is not None else ()))

    def show_ages(self) -> None:
        """How old everything is."""
        age = f.age(self.console.age(Section.deployments))
        for name in ("services", *self.titles):
            self.query_one(f"#{name}", LineView).set_note(age)

    def on_grid_selected(self, message: Grid.Selected) -> None:
        """Another service."""
        if message.grid.id == "services":
            self._show_service()
