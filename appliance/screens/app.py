"""The console's App: one per session."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.events import Event, InputEvent
from textual.widgets import Input

from appliance.core.console import Console
from appliance.core.model import Role
from appliance.core.state import Section
from appliance.screens.flows import Flows
from appliance.screens.glyphs import Caps, glyphs_for
from appliance.screens.goto import TOP, GoTo
from appliance.screens.overlay import Overlay
from appliance.screens.page import Page
from appliance.screens.tabs import TABS
from appliance.screens.themes import look_for, textual_theme

STOP = "stop"
"""What the App returns when its reader wants the appliance to stop."""


class SparkApp(App[str]):
    """All pages of one session.

    Args:
        console: The appliance as this session sees it.
        caps: What the terminal can show.
        theme: The wanted look.
        driver_class: Makes the driver.
        owner: This console started the process: quitting it asks whether the appliance shall go on.
    """

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "Prime Spark"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"app.show('{page}')", title, show=False) for key, page, title in TABS if key),
        Binding("question_mark,f1", "app.help", "Help", show=False),
        Binding("colon,f2,ctrl+p", "app.palette", "Commands", show=False),
        Binding("g", "app.go", "Go to a page", show=False, priority=True),
        Binding("w", "app.people", "Who is connected", show=False),
        Binding("q", "app.leave", "Quit", show=False),
        Binding("right_square_bracket,right", "app.step(1)", "Next page", show=False),
        Binding("left_square_bracket,left", "app.step(-1)", "Page before", show=False),
        Binding("ctrl+l", "app.repaint", "Paint anew", show=False),
        Binding("ctrl+c", "app.leave", "Quit", show=False, priority=True),
    ]

    def __init__(self, console: Console, caps: Caps, theme: str, driver_class: Any = None, *, owner: bool = False) -> None:
        self.look = look_for(caps, theme)
        self.glyphs = glyphs_for(caps)
        self.caps = caps
        super().__init__(driver_class=driver_class)
        self.spark = console
        self.owner = owner
        self.flows = Flows(self)
        look = textual_theme(self.look)
        self.register_theme(look)
        self.theme = look.name
        self.animation_level = "none"
        self._page = "overview"
        self.overlay = Overlay(self._send_picture)

    async def on_mount(self) -> None:
        """Open Overview, and the wizard where nobody is administrator yet."""
        await self.push_screen(self.make_page("overview"))
        self.set_interval(0.5, self._first_run, name="first run", repeat=20)

    def _first_run(self) -> None:
        setup = self.spark.get(Section.setup).value
        if setup is None or setup["done"] or self._wizard_offered or self.spark.actor.role < Role.admin:
            return
        self._wizard_offered = True
        self.flows.start(self.flows.first_run(), "first run")

    _wizard_offered = False

    def make_page(self, name: str) -> Page:
        """A page by its name."""
        from appliance.screens.pages import page_class

        return page_class(name)(self.spark)

    async def action_show(self, name: str) -> None:
        """Show a page."""
        here = self.page
        if len(self.screen_stack) <= 2 and (name != self._page or (here is not None and here.inner)):
            await self.open_page(self.make_page(name))

    async def open_page(self, page: Page) -> None:
        """Show a page that was made; nothing where a dialog is open. Not from a page's own handler: the page ends here."""
        if len(self.screen_stack) <= 2:
            self._page = page.page
            await self.switch_screen(page)

    async def action_step(self, by: int) -> None:
        """Show the page to the right or left."""
        names = [page for _, page, _ in TABS]
        await self.action_show(names[(names.index(self._page) + by) % len(names)])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`g` is a letter while somebody types, and nothing in a dialog."""
        if action == "go":
            return isinstance(self.screen, Page) and not isinstance(self.focused, Input)
        return super().check_action(action, parameters)

    async def action_go(self) -> None:
        """Offer every page. The dialog takes the very next key, however fast that comes: so `g` is looked at first of all."""
        await self.push_screen(GoTo(self._page), self._go)

    async def _go(self, name: str | None) -> None:
        if name == TOP and (page := self.page) is not None:
            page.to_top()
        elif name is not None:
            await self.action_show(name)

    def action_help(self) -> None:
        """Show what the keys do."""
        self.flows.start(self.flows.help(), "help")

    def action_palette(self) -> None:
        """Offer every action."""
        self.flows.start(self.flows.palette(), "palette")

    def action_people(self) -> None:
        """Show who else is connected."""
        self.flows.start(self.flows.people(), "people")

    async def on_event(self, event: Event) -> None:
        """Somebody at the keys is a sign of life to the other consoles."""
        if isinstance(event, InputEvent):
            self.spark.touch()
        await super().on_event(event)

    def action_leave(self) -> None:
        """Close this console."""
        self.flows.start(self.flows.leave(), "leave")

    def action_repaint(self) -> None:
        """Paint everything anew."""
        self.refresh(layout=True)
        self.overlay.again()

    def post_display_hook(self) -> None:
        """After a frame (called by Textual): the picture over it, where the terminal has not got it."""
        self.overlay.flush()

    def _send_picture(self, text: str) -> bool:
        driver = self._driver
        if driver is None or not self.is_running:
            return False
        dropped = getattr(driver, "dropped_frames", 0)
        driver.write(text)
        return bool(getattr(driver, "dropped_frames", 0) == dropped)

    @property
    def page(self) -> Page | None:
        """The page that is open, under any dialog."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, Page):
                return screen
        return None

    def on_unmount(self) -> None:
        """The session ends: wake no more."""
        self.spark.close()
