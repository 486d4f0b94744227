"""Takes pictures of every page of a real, running appliance: screenshots.py DIRECTORY [PICTURE…]. Needs rsvg-convert.

Each page is taken at 80 x 24 as the Linux console shows it, and at 160 x 48 in truecolor, dark and light.
"""

from __future__ import annotations

import asyncio
import functools
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.terminal_theme import TerminalTheme

from appliance import config, paths
from appliance.core import logs
from appliance.core.model import Actor, Role, SessionInfo
from appliance.runtime import Appliance
from appliance.screens.app import SparkApp
from appliance.screens.glyphs import Caps, Colours
from appliance.screens.pages import PAGES
from appliance.session.guard import settle

CONSOLE = Caps(Colours.console, full_glyphs=False, mouse=False)
FORMS: dict[str, tuple[Caps, tuple[int, int], str]] = {
    "console": (CONSOLE, (80, 24), "dark"),
    "wide": (Caps(), (160, 48), "dark"),
    "light": (Caps(), (160, 48), "light"),
}
FONT_SIZE = 20.266
"""At which DejaVu Sans Mono is as wide as the cells that rich lays out for Fira Code."""
WARM_UP = 90
"""Seconds of readings that the plots show."""
VGA = TerminalTheme(
    (0, 0, 0),
    (170, 170, 170),
    [(0, 0, 0), (170, 0, 0), (0, 170, 0), (170, 85, 0), (0, 0, 170), (170, 0, 170), (0, 170, 170), (170, 170, 170)],
    [
        (85, 85, 85),
        (255, 85, 85),
        (85, 255, 85),
        (255, 255, 85),
        (85, 85, 255),
        (255, 85, 255),
        (85, 255, 255),
        (255, 255, 255),
    ],
)
"""The colours of the Linux console."""


async def shoot(appliance: Appliance, target: Path, form: str) -> None:
    """Every page in one form."""
    caps, size, theme = FORMS[form]
    console = appliance.console(Actor("ada", Role.admin, "console"), f"shot-{form}")
    app = SparkApp(console, caps, theme)
    settle(app, caps)
    appliance.presence.add(
        SessionInfo(console.session_id, "ada", Role.admin, "console", "", time.time(), *size), functools.partial(app.exit)
    )
    async with app.run_test(size=size) as pilot:
        for name in PAGES:
            await app.action_show(name)
            await pilot.pause(1.2)
            await app.workers.wait_for_complete()
            await pilot.pause(0.2)
            save(app, target / f"{name}-{form}")
        app.action_people()
        await pilot.pause(1.2)
        save(app, target / f"people-{form}")
    appliance.presence.remove(console.session_id)


def save(app: SparkApp, stem: Path) -> None:
    """The screen as PNG."""
    svg = stem.with_suffix(".svg")
    width, height = app.size
    terminal = Terminal(
        width=width,
        height=height,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        record=True,
        safe_box=False,
    )
    terminal.print(app.screen._compositor.render_update(full=True, screen_stack=app._background_screens))
    text = terminal.export_svg(title="Prime Spark", theme=VGA).replace("<text ", '<text xml:space="preserve" ')
    svg.write_text(text.replace("font-size: 20px", f"font-size: {FONT_SIZE}px"))
    subprocess.run(["rsvg-convert", "-o", str(stem.with_suffix(".png")), str(svg)], check=True)
    svg.unlink()


async def main(target: Path, pictures: list[str]) -> None:
    """Run an appliance of its own, give it something to show, take the pictures."""
    with tempfile.TemporaryDirectory() as home:
        environ: dict[str, Any] = {**os.environ, "PRIME_SPARK_HOME": home}
        where = paths.find(environ)
        where.make()
        where.config.write_text("[telemetry]\ninterval_seconds = 0.5\n[ssh]\nenabled = false\n")
        ring = logs.configure("INFO", "text", where.log_file, stderr=False)
        appliance = Appliance(config.load(where, environ), where, ring, environ)
        appliance.start([])
        if appliance.supervisor is not None:
            await appliance.supervisor.settled()
        ada = Actor("ada", Role.admin, "console")
        invoke = functools.partial(appliance.dispatcher.invoke, actor=ada)
        await invoke("setup.complete", {"admin": "ada", "password": "a long password"})
        if pictures:
            job = await invoke("inference.run", {"paths": pictures})
            await invoke("job.wait", {"job_id": job.job_id})
        await asyncio.sleep(WARM_UP)
        for form in FORMS:
            await shoot(appliance, target, form)
        await appliance.stop()


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    asyncio.run(main(Path(sys.argv[1]), [str(Path(name).absolute()) for name in sys.argv[2:]]))
