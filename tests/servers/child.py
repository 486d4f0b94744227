"""A program that runs as a child of the test: started until it is ready, stopped by its process id, dead when the test is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support import wait_for_sync

TAIL = 2000  # characters of a log that an error quotes


class ServerError(AssertionError):
    """A server did not start or did not end; the message has the end of its log."""


class Child:
    """One process. Start it in a thread that lives as long as it: the kernel kills it when its starter's thread ends.

    Args:
        log: file that its output is appended to.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; ServerError where it does not run."""
        if self._process is None:
            raise ServerError(f"{self.log.stem} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and did not end."""
        return self._process is not None and self._process.poll() is None

    def spawn(
        self,
        command: Sequence[str],
        ready: Callable[[], bool],
        *,
        timeout: float = 30.0,
        user: str | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        """Run `command` until `ready` is true; raise ServerError where it ends before, or takes more than `timeout` seconds.

        Args:
            command: program and arguments.
            ready: whether it serves; called every 10 ms.
            timeout: seconds.
            user: run as this user (needs root).
            env: variables besides the present ones.
        """
        if self.running:
            raise ServerError(f"{self.log.stem} runs already")
        as_user = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", *as_user, "--pdeathsig=KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                env=os.environ | (env or {}),
            )
        try:
            wait_for_sync(lambda: not self.running or ready(), timeout, "readiness")
        except AssertionError as error:
            self.kill()
            raise ServerError(f"{command[0]} was not ready within {timeout:g} s\n{self.tail()}") from error
        if not self.running:
            raise ServerError(f"{command[0]} ended with {self._process.returncode} while it started\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-TAIL:] if self.log.exists() else "(no log)"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it alone."""
        os.kill(self.pid, number)

    def pause(self) -> None:
        """Stop it and its children where they are: its sockets accept and nobody answers. Returns once they are stopped."""
        self.send(signal.SIGSTOP)  # first: from here on it makes no more children
        self._wait_stopped([psutil.Process(self.pid)])
        children = self._family()[1:]
        for each in children:
            each.suspend()
        self._wait_stopped(children)

    def _wait_stopped(self, family: list[psutil.Process]) -> None:
        ended = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        wait_for_sync(lambda: all(each.status() in ended for each in family), message=f"{self.log.stem} is stopped")

    def resume(self) -> None:
        """Let it and its children go on after pause."""
        for each in self._family():
            with suppress(psutil.NoSuchProcess):  # a child may end as soon as its parent goes on
                each.resume()

    def _family(self) -> list[psutil.Process]:
        me = psutil.Process(self.pid)
        return [me, *me.children(recursive=True)]

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 20.0) -> None:
        """End it with a signal it obeys, and kill it where it does not within `timeout` seconds."""
        if self._process is None or not self.running:
            return
        self.resume()
        self.send(number)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise ServerError(f"{self.log.stem} did not end on {number.name} within {timeout:g} s\n{self.tail()}") from error

    def kill(self) -> None:
        """SIGKILL to it and its children, and wait until all are gone. Nothing where it does not run."""
        if self._process is None or not self.running:
            return
        family = self._family()
        for each in family:
            with suppress(psutil.NoSuchProcess):  # children may end by themselves once their parent is gone
                each.kill()
        self._process.wait(20)
        psutil.wait_procs(family, timeout=20)


class Server:
    """What all servers have: a child, and a context manager that starts and stops it."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.child = Child(directory / f"{name}.log")

    def start(self) -> None:
        """Start it; returns when it serves."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it in the way it is meant to be ended."""
        self.child.stop()

    def kill(self) -> None:
        """SIGKILL it, as a power cut would."""
        self.child.kill()

    def restart(self) -> None:
        """Stop it where it runs, and start it with the same address and directory."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it hang: it accepts connections and answers nothing."""
        self.child.pause()

    def resume(self) -> None:
        """Let it go on after pause."""
        self.child.resume()

    def recover(self) -> None:
        """Let it serve again, whatever a test has left of it."""
        if self.child.running:
            self.resume()
        else:
            self.start()

    def _abandon(self) -> None:
        self.child.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # it may have started halfway, and nobody else would end it
            self._abandon()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
