"""What a real launch leaves in memory when its first console is closed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.session.test_attach import Pty
from tests.support import wait_for

CHILD = """
import asyncio, gc, os, sys, weakref
from pathlib import Path
from appliance import __main__, launch
from appliance.screens.app import SparkApp

made = []
build = SparkApp.__init__

def remember(self, *args, **named):
    made.append(weakref.ref(self))
    build(self, *args, **named)

async def look(appliance, settings):
    for _ in range(300):
        gc.collect()
        if not any(ref() for ref in made):
            break
        await asyncio.sleep(0.01)
    left = sum(ref() is not None for ref in made)
    text = f"{len(made)} made, {left} left, collecting {gc.isenabled()}, frozen {gc.get_freeze_count() > 0}"
    Path(os.environ["REPORT"]).write_text(text)
    appliance.stopping.set()

SparkApp.__init__ = remember
launch._go_on_headless = look
sys.argv = ["prime-spark"]
__main__.main()
"""


async def test_the_first_console_is_collected_after_it_ended(home: Path) -> None:
    """Started on a terminal, closed, gone on without a screen: the App is no more, and collections run again."""
    (home / "config.toml").write_text("[ssh]\nenabled = false\n")
    report, terminal = home / "report", Pty()
    terminal.read()
    environ = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "REPORT": str(report)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=terminal.slave, stdout=terminal.slave, stderr=subprocess.PIPE, env=environ
    )
    try:
        await wait_for(lambda: terminal.shows("Welcome"), 30)
        terminal.press(b"\x1b")
        await wait_for(lambda: not terminal.shows("Welcome"), 10)
        terminal.press(b"q")
        await wait_for(lambda: terminal.shows("headless here"), 10)
        terminal.press(b"h")
        await wait_for(lambda: child.poll() is not None, 30)
    finally:
        if child.poll() is None:
            child.kill()
        _, errors = await asyncio.to_thread(child.communicate)
        asyncio.get_running_loop().remove_reader(terminal.master)
        os.close(terminal.master)
        os.close(terminal.slave)
    assert report.exists(), errors.decode()[-2000:]
    assert report.read_text() == "1 made, 0 left, collecting True, frozen True"
