"""Voice: what it does now, the sound, what it heard and what came of it, wake words, engines, devices, privacy."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.model import ServiceStatus
from appliance.core.state import Section
from appliance.core.voice.model import SoundLevel, VoiceStatus
from appliance.screens import format as f
from appliance.screens import voice_rows as rows
from appliance.screens import voice_sound as sound
from appliance.screens import voice_view as view
from appliance.screens.panelled import ALL, Panelled, own_keys
from appliance.screens.streams_view import flow
from appliance.screens.values import wrap
from appliance.screens.voice_acts import Acts
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, LineView, width_of

TABLES = ("heard", "wake", "engines")
NARROW, WIDE = 38, 56
"""Cells of the box of the sound."""


class Voice(Panelled):
    """Stage and sound above; below what was heard, wake words, engines, and how everything is."""

    page = "voice"
    sections = frozenset({Section.voice, Section.sound, Section.services})
    titles = MappingProxyType({"heard": "Heard", "wake": "Wake words", "engines": "Engines", "facts": "Devices, privacy"})
    homes = MappingProxyType({
        **{name: frozenset({name}) for name in titles}, "second": frozenset({"wake", "engines"}), "dial": frozenset(),
    })  # fmt: skip
    lists = MappingProxyType({name: name for name in TABLES})
    keys = (
        ("Space", "Speak"), ("Tab", "Next panel"), ("m", "Mute"), ("t", "Test"), ("a", "Ask"), ("s", "Say"), ("p", "Privacy"),
        ("e", "Engines"), ("n", "Tune"), ("f", "Forget"), ("Esc", "Cancel"), ("Enter", "All"),
    )  # fmt: skip
    needs = MappingProxyType({
        "Space": "voice.listen", "m": "voice.mute", "t": "voice.record", "a": "voice.ask", "s": "voice.say",
        "p": "voice.privacy", "e": "voice.engines", "n": "voice.tune", "f": "voice.forget", "Esc": "voice.cancel",
    })  # fmt: skip
    AUTO_FOCUS = "#heard"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("space", "listen"), ("escape", "cancel"), ("m", "mute"), ("t", "test"), ("s", "say"), ("a", "ask"), ("p", "privacy"),
        ("e", "engines"), ("n", "tune"), ("f", "forget"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts: Acts = Acts(self)

    def body(self) -> Iterable[Widget]:
        """Stage, sound and direction, what is wrong, tables, facts."""
        with Horizontal(id="above"):
            yield LineView("Voice", id="now")
            yield LineView("Sound", id="sound")
            yield LineView("Direction", id="dial")
        yield LineView(id="trouble")
        yield Grid(rows.HEARD, self.titles["heard"], id="heard", empty="nothing was heard yet")
        with Horizontal(id="second"):
            yield Grid(rows.WAKE, self.titles["wake"], id="wake", empty="no wake word is listened for")
            yield Grid(rows.ENGINES, self.titles["engines"], id="engines", empty="none is loaded yet; e looks at all of them")
        yield LineView(self.titles["facts"], id="facts")

    @property
    def status(self) -> VoiceStatus | None:
        """As it was put last."""
        found = self.console.get(Section.voice).value
        return found if isinstance(found, VoiceStatus) else None

    @property
    def services(self) -> tuple[ServiceStatus, ...]:
        """Of which one says why there is no voice."""
        return self.console.get(Section.services).value or ()

    def show(self, sections: frozenset[Section]) -> None:
        """Show what changed; the sound changes some times a second."""
        if Section.sound in sections:
            self._show_sound()
        if sections & {Section.voice, Section.services}:
            self._show_status()

    def _show_sound(self) -> None:
        level, age = self._level, self.console.age(Section.sound)
        why = view.quiet(self.status, self.services)
        box = self.query_one("#sound", LineView)
        room, wide = (box.inner_width, box.inner_height), self.has_class(ALL)
        box.set_lines(sound.sound_lines(level, age, why, *room, self.spark.glyphs, origin=not wide))
        dial = self.query_one("#dial", LineView)
        there = level is not None and not sound.is_stale(level, age)
        direction = level.direction if level is not None and there else None
        nothing = "no array, or nobody has spoken" if there else why
        told = sound.dial(direction, f.age(age), nothing, dial.inner_width, dial.inner_height)
        dial.set_lines([part for line in told for part in wrap(line, max(1, dial.inner_width))] if direction is None else told)
        box.set_note("" if level is None else f.age(age))

    @property
    def _level(self) -> SoundLevel | None:
        found = self.console.get(Section.sound).value
        return found if isinstance(found, SoundLevel) else None

    def _show_status(self) -> None:
        status, glyphs = self.status, self.spark.glyphs
        width = max(1, self.size.width)
        self._show_now()
        pieces = flow(view.trouble(status), width)[: 4 if self.has_class(ALL) else 3]
        trouble = self.query_one("#trouble", LineView)
        trouble.styles.height = len(pieces)
        trouble.set_lines(pieces)
        heard = self.query_one("#heard", Grid)
        newest = heard.cursor == 0
        heard.set_rows(rows.heard_rows(status.utterances if status is not None else ()))
        if newest:  # who looks at the newest one goes on to the next
            heard.move_to(0)
        self.query_one("#wake", Grid).set_rows(rows.wake_rows(status.wake if status is not None else (), glyphs))
        self.query_one("#engines", Grid).set_rows(rows.engine_rows(status.engines if status is not None else (), glyphs))
        facts: list[Line] = [part for line in view.fact_lines(status) for part in wrap(line, max(1, width - 3))]
        self.query_one("#facts", LineView).set_lines(facts or [((" nothing is known yet", "muted"),)])

    def _show_now(self) -> None:
        now = self.query_one("#now", LineView)
        room = max(1, now.inner_width)
        lines = view.now_lines(self.status, self.services, self.spark.glyphs, wide=self.has_class(ALL))
        now.set_lines(fitted([part for line in lines for part in wrap(line, room)], room, now.inner_height))

    def show_ages(self) -> None:
        """How old everything is; a level that is no longer of now goes."""
        age = f.age(self.console.age(Section.voice))
        for name in (*TABLES, "facts"):
            self.query_one(f"#{name}", LineView).set_note(age)
        self._show_now()
        self._show_sound()

    def lay_out(self) -> None:
        """Show the panel that is open; all, and the direction's dial, where there is room."""
        super().lay_out()
        self.query_one("#sound").styles.width = WIDE if self.has_class(ALL) else NARROW


def fitted(lines: list[Line], width: int, height: int) -> list[Line]:
    """The lines that there is room for; where that is not all, the last of them ends in an ellipsis."""
    if not 0 < height < len(lines):
        return lines
    *kept, end = lines[:height]
    *before, (text, role) = end or (("", "muted"),)
    room = max(0, width - 1 - width_of(tuple(before)))
    return [*kept, (*before, (f"{text.rstrip()[:room]}…", role))]
