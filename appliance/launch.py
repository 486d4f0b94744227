"""Starts the process in one of its modes: with a console here, or headless; or attaches to the one that runs."""

from __future__ import annotations

import asyncio
import functools
import gc
import getpass
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance import config, ending, paths
from appliance.attaching import hand_over, say
from appliance.core import logs
from appliance.core.lifecycle.backup import restoring
from appliance.core.model import Actor
from appliance.errors import AbsentError, ApplianceError, BackupError, ConfigError
from appliance.errortext import error_text
from appliance.lock import Lock
from appliance.notify import Notifier
from appliance.paths import Paths, socket_address
from appliance.settings import Settings

if TYPE_CHECKING:
    from appliance.core.ports import Keyboard, Service, StatusLed
    from appliance.runtime import Appliance
    from appliance.session.answers import Errand
    from appliance.session.headless import HeadlessService
    from appliance.session.manager import Sessions
    from appliance.session.ui import UiThread

log = logging.getLogger(__name__)

STOP = 8.5
"""Seconds in which the appliance ends, all steps together; `ending` bounds what may be left after that."""
UI_STOP = 1.0
"""What is left of them for the consoles' thread."""
OWN_SCREEN = re.compile(r"/dev/(tty\d+|console)")
"""Terminals that the kernel makes of screen and keyboard (console(4))."""
CONSOLE_UNIT = "PRIME_SPARK_OWN_SCREEN"
"""Set in the environment where a console is kept on the machine's own screen: its keyboard is that console's."""
FIRST_PAINT = 5.0
"""Seconds that services wait at most for the console's first paint."""


def console(environ: Mapping[str, str]) -> int:
    """Run the appliance with a console on this terminal, or attach; returns the exit code."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        say("error: the console needs a terminal.\nnext: use `prime-spark headless`, or run it in a terminal.")
        return 2
    return _locked(environ, _run_console, on_held=hand_over, stderr=False)


def keep_modules() -> None:
    """What is loaded by now stays: collections pass it over. Called before any console's App is made, for those end."""
    gc.freeze()


def headless(environ: Mapping[str, str]) -> int:
    """Run the appliance without a screen; returns the exit code."""
    return _locked(environ, _run_headless, on_held=_say_held, stderr=True)


Mode = Callable[[Settings, Paths, logs.LogRing, Mapping[str, str]], Coroutine[Any, Any, int]]


def _locked(
    environ: Mapping[str, str], mode: Mode, *, on_held: Callable[[Paths, Lock, Mapping[str, str]], int], stderr: bool
) -> int:
    try:
        where = paths.find(environ)
        restore = restoring.is_pending(where.data)
        if not restore:
            settings = config.load(where, environ)
        where.make()
        lock = Lock(where.lock)
        if not lock.take():
            gc.enable()
            return on_held(where, lock, environ)
        if restore:  # before anything opens a database; it brings its own settings
            _restore(where)
            settings = config.load(where, environ)
    except ConfigError as error:
        say(error_text(error))
        return error.exit_code
    except OSError as error:
        say(f"error: {error.filename}: {error.strerror}.\nnext: make it writable, or set PRIME_SPARK_HOME.")
        return 1
    try:
        ring = logs.configure(settings.log.level, settings.log.format, where.log_file, stderr=stderr)
        if text := config.unread_warning(environ):
            log.warning("%s", text)
        return ending.run(mode(settings, where, ring, environ))
    except ApplianceError as error:
        say(error_text(error))
        return error.exit_code
    finally:
        lock.release()


def _restore(where: Paths) -> None:
    """Apply the restore that waits. Raises ConfigError: nothing may be opened before it is whole."""
    try:
        done = restoring.apply(where)
    except BackupError as error:
        raise ConfigError(error.message, error.next_step) from error
    say(f"restored {', '.join(done.parts)} of {done.device_id} from {done.source}")


def _say_held(_: Paths, lock: Lock, __: Mapping[str, str]) -> int:
    pid = lock.holder()
    say(f"error: an appliance runs here already (process {pid or 'unknown'}).")
    say("next: use `prime-spark` in a terminal to attach to it, or stop it: prime-spark appliance stop")
    return 1


async def _run_console(settings: Settings, where: Paths, ring: logs.LogRing, environ: Mapping[str, str]) -> int:
    from appliance.session.ui import UiThread

    ui = UiThread()
    ui.start()
    imported = ui.submit(_import_screens())
    from appliance.runtime import Appliance

    appliance = Appliance(settings, where, ring, environ)
    _on_signals(appliance)
    owners = Owners()
    sessions = _make_sessions(appliance, ui, owners)
    await asyncio.wrap_future(imported)
    keep_modules()
    painted = asyncio.Event()
    local = asyncio.wrap_future(ui.submit(_local_console(appliance, sessions, owners, environ, painted)))
    await _first_of(painted, local)
    gc.enable()
    appliance.start(_fronts(appliance, ui, sessions))
    if await _left(appliance, local) == "headless":
        await _go_on_headless(appliance, settings)
    await _end(appliance, ui, sessions, local)
    return 0


class Owners:
    """Marks the console that started the process, while it is made."""

    def __init__(self) -> None:
        self.making = False


async def _left(appliance: Appliance, local: asyncio.Future[str | None]) -> str:
    """Wait until the local console is left or the appliance is asked to stop; "headless" where it goes on without it."""
    stopping = asyncio.create_task(appliance.stopping.wait())
    either: set[asyncio.Future[Any]] = {local, stopping}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    return "" if appliance.stopping.is_set() else "headless"


async def _go_on_headless(appliance: Appliance, settings: Settings) -> None:
    """The appliance outlives its console: keys and lines in the same terminal, until it is asked to stop."""
    logs.add_stderr(settings.log.format)
    keys = _headless_service(appliance, settings)
    answer(farewell(sys.stdin.fileno()))
    run = asyncio.create_task(keys.run())
    await appliance.stopping.wait()
    run.cancel()
    await asyncio.wait({run}, timeout=1)
    await keys.stop()


def farewell(descriptor: int) -> str:
    """What is said when the console is closed; keys only where the terminal is still there to press them."""
    if os.isatty(descriptor):
        return "the console is closed, the appliance runs on; ? lists the keys, Ctrl-C stops it"
    return "the console's terminal is gone, the appliance runs on; prime-spark appliance stop ends it"


async def _import_screens() -> None:
    import appliance.screens.app  # noqa: F401


async def _first_of(painted: asyncio.Event, local: asyncio.Future[str | None]) -> None:
    """Wait for the first paint, so that the services' imports do not delay it."""
    paint = asyncio.create_task(painted.wait())
    waiting: set[asyncio.Future[Any]] = {paint, local}
    await asyncio.wait(waiting, timeout=FIRST_PAINT, return_when=asyncio.FIRST_COMPLETED)
    paint.cancel()


def _make_sessions(appliance: Appliance, ui: UiThread, owners: Owners) -> Sessions:
    from appliance.session.manager import Sessions

    def factory(console: Any, caps: Any, driver_class: Any) -> Any:
        from appliance.screens.app import SparkApp

        return SparkApp(console, caps, appliance.settings.console.theme, driver_class, owner=owners.making)

    return Sessions(factory, appliance.console, appliance.presence, appliance.loop)


async def _local_console(
    appliance: Appliance, sessions: Sessions, owners: Owners, environ: Mapping[str, str], first: asyncio.Event
) -> str | None:
    """The console on this process's own terminal; on the UI loop."""
    from appliance.session.attach import run_on_terminal
    from appliance.session.manager import Session
    from appliance.session.tty import RawMode, window_size

    raw = RawMode(sys.stdin.fileno())
    ui_loop = asyncio.get_running_loop()

    def opened(session: Session) -> None:
        def on_size() -> None:
            ui_loop.call_soon_threadsafe(session.resize, *window_size(sys.stdout.fileno()))

        owners.making = False
        appliance.loop.call_soon_threadsafe(appliance.loop.add_signal_handler, signal.SIGWINCH, on_size)
        if session.app is not None:
            session.app.call_after_refresh(appliance.loop.call_soon_threadsafe, first.set)

    raw.enter()
    owners.making = True
    try:
        actor = appliance.local_actor(getpass.getuser())
        return await run_on_terminal(sessions, actor, sys.stdin.fileno(), sys.stdout.fileno(), environ, opened)
    finally:
        raw.leave()


async def _run_headless(settings: Settings, where: Paths, ring: logs.LogRing, environ: Mapping[str, str]) -> int:
    from appliance.runtime import Appliance
    from appliance.session.ui import UiThread

    appliance = Appliance(settings, where, ring, environ)
    _on_signals(appliance)
    ui = UiThread()
    ui.start()
    sessions = _make_sessions(appliance, ui, Owners())
    appliance.start([*_fronts(appliance, ui, sessions), _headless_service(appliance, settings)])
    manager = Notifier(environ)
    alive = asyncio.create_task(manager.attend(appliance.settled))
    keep_modules()
    gc.enable()
    answer("press ? for the keys")
    await appliance.stopping.wait()
    manager.tell("STOPPING=1")
    alive.cancel()
    await _end(appliance, ui, sessions, None)
    return 0


def _headless_service(appliance: Appliance, settings: Settings) -> HeadlessService:
    from appliance.session.headless import HeadlessService, Shortcuts

    actor = Actor(getpass.getuser(), settings.console.console_role, "headless")
    shortcuts = Shortcuts(appliance.dispatcher, actor, answer)
    return HeadlessService(_keyboards(settings), shortcuts, appliance.state, _led(settings))


def _keyboards(settings: Settings) -> dict[str, Keyboard]:
    from appliance.hw.keyboard import EvdevKeyboard
    from appliance.session.headless import TerminalKeys

    found: dict[str, Keyboard] = {}
    if sys.stdin.isatty():
        found["this terminal"] = TerminalKeys()
    if settings.headless.serial:
        found[settings.headless.serial] = TerminalKeys(Path(settings.headless.serial))
    if settings.headless.keyboard == "auto":
        if not (on_own_screen() or os.environ.get(CONSOLE_UNIT)):
            found["USB keyboards"] = EvdevKeyboard()
    elif settings.headless.keyboard:
        found[settings.headless.keyboard] = EvdevKeyboard(Path(settings.headless.keyboard))
    return found


def answer(text: str) -> None:
    """Say what a key did, in the log, whatever level that keeps: somebody pressed the key and waits."""
    keys = logging.getLogger("prime-spark.keys")
    keys.setLevel(logging.INFO)
    keys.info("%s", text)


def on_own_screen() -> bool:
    """Standard input is the machine's own screen and keyboard: keys come from there, and would come twice otherwise."""
    return sys.stdin.isatty() and OWN_SCREEN.fullmatch(os.ttyname(sys.stdin.fileno())) is not None


def _led(settings: Settings) -> StatusLed | None:
    if settings.headless.led_pin is None:
        return None
    from appliance.hw.led import GpioLed

    try:
        return GpioLed(settings.headless.led_pin)
    except AbsentError as error:
        log.warning("%s", error)
        return None


def _fronts(appliance: Appliance, ui: UiThread, sessions: Sessions) -> list[Service]:
    """SSH and further local terminals."""
    from appliance.api.server import bind_private
    from appliance.session.attach import AttachService

    where = appliance.paths
    bind = functools.partial(bind_private, socket_address(where.console_socket))
    found: list[Service] = [AttachService(ui, sessions, appliance.local_actor, where.console_socket, bind)]
    if appliance.settings.ssh.enabled:
        found.append(_ssh(appliance, ui, sessions))
    return found


def _ssh(appliance: Appliance, ui: UiThread, sessions: Sessions) -> Service:
    from appliance.session.ssh import Listen, SshService

    async def note(actor: Actor, outcome: str, detail: str) -> None:
        try:
            await appliance.audit.record(actor, "session.open", {}, outcome, detail)
        except ApplianceError as error:
            log.error("the login of %s is not in the audit: %s", actor.name, error.message)

    wanted = appliance.settings.ssh
    listen = Listen(wanted.host, wanted.port, appliance.paths.host_key, wanted.max_sessions)
    answer = functools.partial(_text_command, appliance)
    return SshService(
        ui=ui,
        sessions=sessions,
        accounts=appliance.accounts,
        core=appliance.loop,
        note=note,
        text_command=answer,
        listen=listen,
    )


def _text_command(appliance: Appliance, arguments: list[str], actor: Actor, width: int, errand: Errand) -> tuple[int, str]:
    """One command line, answered inside this process; in a thread of its own."""
    from appliance import cli
    from appliance.verbs.client import InsideClient
    from appliance.verbs.context import Context

    out = io.StringIO()
    client = InsideClient(appliance.dispatcher, appliance.loop, actor, errand.wait)
    context = Context(client, appliance.paths, {}, out, width, colour=False, read_line=errand.line)
    code = cli.run(arguments, context, out)
    return code, out.getvalue()


def _on_signals(appliance: Appliance) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        appliance.loop.add_signal_handler(number, appliance.stopping.set)
    # A terminal that is hung up ends its console and nothing else.
    appliance.loop.add_signal_handler(signal.SIGHUP, log.info, "the terminal was hung up")


async def _end(appliance: Appliance, ui: UiThread, sessions: Sessions, local: asyncio.Future[Any] | None) -> None:
    """Consoles first, so that terminals are given back; then the services; all within one deadline."""
    ends = appliance.loop.time() + STOP
    ui.loop.call_soon_threadsafe(sessions.end_all)
    if local is not None:
        await asyncio.wait({local}, timeout=2)
    await appliance.stop(ends - appliance.loop.time() - UI_STOP)
    await asyncio.to_thread(ui.stop, max(UI_STOP, ends - appliance.loop.time()))
