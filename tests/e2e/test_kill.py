"""kill -9 at random moments, under load and while it starts: the next start is clean, nothing acknowledged is lost.

PRIME_SPARK_KILLS=50 makes each proof that long.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import appliance
from appliance import paths
from appliance.errors import ApplianceError, NotRunningError
from appliance.paths import Paths
from appliance.verbs.client import SocketClient
from appliance.verbs.static import audit_verify_offline
from tests.support import capability, wait_for_sync

ROUNDS = int(os.environ.get("PRIME_SPARK_KILLS", "4"))
MODELS = Path(appliance.__file__).resolve().parent.parent / ".models"
COMMAND = [sys.executable, "-m", "appliance", "headless"]
RULES = ("cpu", "memory", "disk")

Load = Callable[[SocketClient, "Ledger", str], None]
"""Invokes actions until the appliance is gone, and writes what was answered into the ledger."""


@dataclass
class Ledger:
    """What the appliance has answered: each of these must outlive it."""

    actions: list[tuple[str, str]] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    silences: dict[str, float] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@contextmanager
def started() -> Iterator[subprocess.Popen[bytes]]:
    """A real appliance process, killed at the end with all that it may have started."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(COMMAND, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        _, alive = psutil.wait_procs(children, timeout=5)
        for child in alive:
            child.kill()
        assert not alive, f"left behind: {alive}"


def well(process: subprocess.Popen[bytes], where: Paths, *also: str) -> SocketClient:
    """Wait until every service runs and is healthy (absent where a thing is not there, or `also`); returns a client."""

    def healthy() -> bool:
        assert process.poll() is None, f"the appliance ended by itself with {process.returncode}"
        try:
            with closing(SocketClient(where.api_socket)) as client:
                found = client.invoke("service.list", {})
        except NotRunningError:
            return False
        running = all(each["phase"] == "running" and each["health"] in {"healthy", "absent", *also} for each in found)
        return bool(found) and running

    wait_for_sync(healthy, 30, "all services run and are well")
    return SocketClient(where.api_socket)


def add_users(client: SocketClient, ledger: Ledger, prefix: str) -> None:
    for index in range(10_000):
        name = f"{prefix}-{index}"
        client.invoke("user.add", {"name": name})
        ledger.actions.append(("user.add", name))
        ledger.users.append(name)


def silence_rules(client: SocketClient, ledger: Ledger, prefix: str) -> None:
    """Each silence ends later than the one before, so that the one that is kept tells which was the last."""
    for index in range(10_000):
        rule, minutes = RULES[index % len(RULES)], 60 + (index + 1) / 100
        done = client.invoke("alert.silence", {"rule": rule, "minutes": minutes})
        ledger.actions.append(("alert.silence", f"{rule} {minutes}"))
        ledger.silences[rule] = done["until"]


def look_at_pictures(client: SocketClient, ledger: Ledger, prefix: str) -> None:
    for index in range(10_000):
        picture = Path(os.environ["PRIME_SPARK_HOME"]) / f"{prefix}-{index}.png"
        shutil.copy(picture.with_name("picture.png"), picture)
        job = client.invoke("inference.run", {"paths": [str(picture)]})["job_id"]
        ledger.actions.append(("inference.run", str(picture)))
        ledger.jobs.append(job)
        done = client.invoke("job.wait", {"job_id": job})
        assert done["state"] == "completed", done
        ledger.results.append(done["result"][0]["result"]["result_id"])


def worker(load: Load, where: Paths, ledger: Ledger, prefix: str) -> threading.Thread:
    """One client in a thread; only the end of the appliance may end it."""

    def work() -> None:
        try:
            with closing(SocketClient(where.api_socket)) as client:
                load(client, ledger, prefix)
        except NotRunningError:
            return
        except (ApplianceError, AssertionError) as error:
            ledger.faults.append(f"{prefix}: {error!r}")

    return threading.Thread(target=work, name=prefix, daemon=True)


def kill_under_load(where: Paths, ledger: Ledger, loads: list[Load], round_: int) -> None:
    """Check what is left of the rounds before, then work, then kill."""
    with started() as process:
        with closing(well(process, where)) as client:
            check(client, ledger)
        ledger.jobs.clear()
        before, wanted = len(ledger.actions), random.randrange(1, 30 if add_users in loads else 9)
        workers = [worker(load, where, ledger, f"u{round_}-{number}") for number, load in enumerate(loads)]
        for each in workers:
            each.start()
        wait_for_sync(lambda: ledger.faults or len(ledger.actions) >= before + wanted, 30, "actions are answered")
        time.sleep(random.uniform(0.0, 0.03))
    for each in workers:
        each.join(10)
    assert not any(each.is_alive() for each in workers)
    assert not ledger.faults, ledger.faults
    check_offline(where, ledger)


def kill_while_starting(where: Paths, ledger: Ledger) -> None:
    with started():
        time.sleep(random.uniform(0.0, 1.2))
    check_offline(where, ledger)


def check_offline(where: Paths, ledger: Ledger) -> None:
    """The files as the kill left them."""
    verdict = audit_verify_offline(where, {})
    assert verdict["intact"], verdict
    with closing(sqlite3.connect(f"file:{where.database}?mode=ro", uri=True)) as connection:
        kept = dict(connection.execute("SELECT rule, until FROM silences").fetchall())
    for rule, until in ledger.silences.items():
        assert kept.get(rule, 0.0) >= until, f"the silence of {rule} until {until} is lost: {kept}"


def check(client: SocketClient, ledger: Ledger) -> None:
    """Every action that was answered is in the audit with outcome ok, and did what it said."""
    assert client.invoke("audit.verify", {})["intact"]
    assert not set(ledger.actions) - audited(client)
    assert not set(ledger.users) - {user["name"] for user in client.invoke("user.list", {})}
    ended = {job["job_id"]: job["state"] for job in client.invoke("job.list", {})}
    assert not [job for job in ledger.jobs if ended.get(job) not in {"completed", "interrupted"}]

    def listed() -> bool:
        return set(ledger.results) <= {each["result_id"] for each in client.invoke("inference.results", {"limit": 1000})}

    wait_for_sync(listed, 10, "every result that was told is listed")
    for rule in list(ledger.silences):
        client.invoke("alert.unsilence", {"rule": rule})  # fails where the rule is not silenced any more
        del ledger.silences[rule]


def audited(client: SocketClient) -> set[tuple[str, str]]:
    """(action, what it was about) of all rows with outcome ok."""
    found: set[tuple[str, str]] = set()
    before = None
    while rows := client.invoke("audit.list", {"limit": 10_000, "before": before}):
        found |= {(row["action"], subject(row["action"], row["args"])) for row in rows if row["outcome"] == "ok"}
        before = rows[-1]["seq"]
    return found


def subject(action: str, args: dict[str, Any]) -> str:
    """What an audited action was about, as the ledger says it."""
    if action == "inference.run":
        return str(args["paths"][0])
    return f"{args['rule']} {args['minutes']}" if action == "alert.silence" else str(args.get("name", ""))


def prove(home: Path, loads: list[Load]) -> Ledger:
    """Kill again and again; returns what was acknowledged in all."""
    ledger = Ledger()
    (home / "config.toml").write_text("[ssh]\nport = 0\n")
    where = paths.find({"PRIME_SPARK_HOME": str(home)})
    with started() as process:  # without an administrator, accounts are degraded
        with closing(well(process, where, "degraded")) as client:
            client.invoke("setup.complete", {"admin": "ada", "password": "correct horse battery"})
        ledger.users.append("ada")
    for round_ in range(ROUNDS):
        kill_under_load(where, ledger, loads, round_)
        if round_ % 3 == 2:
            kill_while_starting(where, ledger)
    with started() as process, closing(well(process, where)) as client:
        check(client, ledger)
    assert len(ledger.actions) >= ROUNDS
    return ledger


@pytest.mark.serial
@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_no_acknowledged_user_or_silence_is_lost(home: Path) -> None:
    ledger = prove(home, [add_users, add_users, add_users, silence_rules])
    assert ledger.users


@pytest.mark.serial
@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_no_acknowledged_result_is_lost(home: Path) -> None:
    capability(bool(list(MODELS.glob("*/*.onnx"))), "a model")
    from PIL import Image

    Image.effect_noise((64, 48), 60).convert("RGB").save(home / "picture.png")
    ledger = prove(home, [look_at_pictures, look_at_pictures])
    assert ledger.results
