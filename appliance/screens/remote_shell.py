"""An interactive shell on a node, opened from a page: the session's terminal is handed over until the shell ends."""

from __future__ import annotations

from appliance.screens.page import Page


async def open_shell(page: Page, node: str) -> None:
    """Open a shell on a node; returns when it has ended. The page says how it ended.

    Args:
        page: The page that the reader is on.
        node: Name of the node.

    Raises:
        ApplianceError: It could not be opened; the console was not left.
    """
    hand_over = page.console.hand_over
    if hand_over is None:
        page.say(
            f"this console has no terminal of its own to hand over; use `prime-spark fleet shell {node}` in a terminal", "bad"
        )
        return
    page.say(f"opening a shell on {node}; Ctrl-] will come back here")
    end = await hand_over(node)
    step = f" Next: {end.next_step}" if end.next_step else ""
    page.say(f"shell on {node}: {end.reason}{step}", "bad" if end.broken else "muted" if end.status in {None, 0} else "warn")
