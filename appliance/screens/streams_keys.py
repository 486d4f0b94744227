"""The keys of the Streams page, and the panels that they belong to."""

from __future__ import annotations

from types import MappingProxyType

from textual.binding import Binding, BindingType

PANELS = ("topics", "groups", "letters", "rules")
TITLES = MappingProxyType({"topics": "Topics", "groups": "Groups", "letters": "Dead letters", "rules": "Window rules"})
KEYS: dict[str, tuple[tuple[str, str], ...]] = {
    "topics": (("Tab", "Groups"), ("t", "Tail"), ("p", "Pause"), ("c", "Command"), ("y", "Replay"), ("Enter", "All")),
    "groups": (("Tab", "Dead letters"), ("t", "Tail"), ("p", "Pause"), ("c", "Command"), ("y", "Replay")),
    "letters": (
        ("Tab", "Rules"),
        ("Enter", "Body"),
        ("r", "Retry"),
        ("R", "all"),
        ("d", "Discard"),
        ("D", "all"),
        ("p", "Pause"),
    ),
    "rules": (("Tab", "Topics"), ("Enter", "All"), ("a", "Add"), ("e", "Edit"), ("o", "On/off"), ("x", "Try"), ("d", "Remove")),
}
"""What the footer offers while a panel has the focus."""
HELP = (
    ("Tab", "Next panel"), ("t", "Tail the topic under the cursor"), ("p", "Pause the outbox, or resume it"),
    ("c", "Send a signed command"), ("y", "Replay kept messages"), ("i", "All that is known"),
    ("r R", "Dead letters: send this one again, or all"), ("d D", "Dead letters: discard this one, or all; rules: remove"),
    ("a e", "Rules: add one, change one"), ("o", "Rules: switch on or off"), ("x", "Rules: try one on past events"),
)  # fmt: skip
"""What the help says of them."""
BINDINGS: tuple[BindingType, ...] = (
    Binding("tab", "panel(1)", show=False), Binding("shift+tab", "panel(-1)", show=False),
    Binding("t", "do('tail')", show=False), Binding("p", "do('pause')", show=False),
    Binding("c", "do('command')", show=False), Binding("y", "do('replay')", show=False),
    Binding("i", "do('all')", show=False), Binding("d,delete", "drop", show=False),
    Binding("r", "letters('retry')", show=False), Binding("R", "letters('retry', 'all')", show=False),
    Binding("D", "letters('discard', 'all')", show=False),
    Binding("a", "rule('add')", show=False), Binding("e", "rule('edit')", show=False),
    Binding("o", "rule('switch')", show=False), Binding("x", "rule('try')", show=False),
)  # fmt: skip
