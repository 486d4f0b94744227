"""What every App of a process with many Apps needs, and Textual 8.2.8 does not do by itself.

Each cure has its test in tests/session/test_guard.py; the exact pin of Textual is there for them.
"""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

from rich.console import Console
from textual.css.query import NoMatches
from textual.filter import Monochrome, NoColor

from appliance.screens.glyphs import Caps, Colours
from appliance.session.colours import SYSTEMS, Downgrade

if TYPE_CHECKING:
    from textual.app import App

log = logging.getLogger(__name__)


def settle(app: App[Any], caps: Caps) -> None:
    """Make an App fit to live beside others; before it runs."""
    _own_colours(app, caps)
    # While it runs, an App redirects the process's streams to itself; the last one to end would leave them on a dead App.
    app._capture_stdout = sys.stdout  # type: ignore[assignment]
    app._capture_stderr = sys.stderr  # type: ignore[assignment]
    # A failed App prints its traceback with all local variables, secrets included, on the process's terminal.
    app._handle_exception = functools.partial(_failed, app)  # type: ignore[method-assign]
    app._print_error_renderables = app._exit_renderables.clear  # type: ignore[method-assign]


def _own_colours(app: App[Any], caps: Caps) -> None:
    """The session's terminal decides, not the environment that the process was started in."""
    system, name = SYSTEMS[caps.colours]
    app.no_color = False
    app._filters = [each for each in app._filters if not isinstance(each, Monochrome | NoColor)]
    if caps.colours is not Colours.true:
        app._filters.append(Downgrade(system, eight_behind=caps.is_console))
    app.console = Console(
        color_system=name, file=app.console.file, markup=True, highlight=False, emoji=False, legacy_windows=False, _environ={},
        force_terminal=True, safe_box=False, soft_wrap=False,
    )  # fmt: skip


def _failed(app: App[Any], error: Exception) -> None:
    """Log where it failed, without the values of variables, and end this App alone."""
    if app._exit and isinstance(error, NoMatches):
        log.debug("a console was closed while it opened; of its page there was not yet, or not any more: %s", error)
        app._close_messages_no_wait()
        return
    text = "".join(traceback.format_exception(error))  # as text: a log record would keep the frames, and so the App
    log.error("a console failed: %s\n%s", type(error).__name__, text)
    app._return_code = 1
    if app._exception is None:
        app._exception = error
        app._exception_event.set()
    app._close_messages_no_wait()
