"""The fleet on the command line, against an appliance that runs: files, commands with live output, services, a shell."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from appliance import cli, paths
from appliance.core.fleet.keys import OwnKey
from appliance.core.secrets import Secrets
from appliance.verbs.client import SocketClient
from appliance.verbs.context import Context
from appliance.verbs.fleet_follow import code as exit_code
from tests.fleet.files_rig import quiet_server
from tests.session.test_attach import Pty, pty  # noqa: F401
from tests.support import free_port, wait_for, wait_for_sync

CONFIG = """
[ssh]
enabled = false
[fleet.nodes.agent]
host = "127.0.0.1"
port = {port}
user = "{user}"
host_key = "{key}"
groups = ["edge"]
[fleet.nodes.gone]
host = "127.0.0.1"
port = {free}
user = "{user}"
host_key = "{key}"
groups = ["edge"]
"""


@dataclass
class Machine:
    """An appliance with one node that is this machine, and one that is not there."""

    home: Path
    work: Path
    environ: dict[str, str]

    def run(self, *words: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of a command line."""
        where, out, err = paths.find({"PRIME_SPARK_HOME": str(self.home)}), io.StringIO(), io.StringIO()
        client = SocketClient(where.api_socket, quick=60)
        context = Context(client, where, {"PRIME_SPARK_HOME": str(self.home)}, out, 180, colour=False)
        code = cli.run(words, context, err)
        return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    root = Path(tempfile.mkdtemp(prefix="fleet-"))
    home, work = root / "home", root / "work"
    work.mkdir()
    own = OwnKey(Secrets(home / "data" / "secrets", {}), "prime-spark@control-pc")
    with quiet_server(own) as server:
        given = {"port": server.port, "user": server.user, "key": server.fingerprint, "free": free_port()}
        (home / "config.toml").write_text(CONFIG.format(**given))
        environ = {**os.environ, "PRIME_SPARK_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "180"}
        log = (root / "log").open("wb")
        running = subprocess.Popen(
            [sys.executable, "-m", "appliance", "headless"], env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        made = Machine(home, work, environ)
        try:
            wait_for_sync((home / "run" / "api.sock").exists, 90, "it listens")
            wait_for_sync(lambda: made.run("fleet", "operations")[0] == 0, 90, "it answers")
            before = Path.cwd()
            os.chdir(work)
            yield made
            os.chdir(before)
        finally:
            running.terminate()
            running.wait(20)
            log.close()
    shutil.rmtree(root)


def test_a_file_goes_and_comes_back(machine: Machine) -> None:
    (machine.work / "a file").write_bytes(os.urandom(70_000))
    there = machine.work / "there"
    code, out, err = machine.run("fleet", "put", "a file", f"agent:{there}")
    assert (code, err) == (0, "")
    assert "68.4 KiB" in out
    code, out, _ = machine.run("fleet", "get", f"agent:{there}", "back", "--json")
    (told,) = json.loads(out)
    assert (code, told["sha256"]) == (0, hashlib.sha256((machine.work / "a file").read_bytes()).hexdigest())
    assert (machine.work / "back").read_bytes() == there.read_bytes()


def test_a_node_that_is_not_reached_is_another_exit_code_than_a_failure(machine: Machine) -> None:
    code, out, _ = machine.run("fleet", "run", "-g", "edge", "--", "echo", "hello there")
    assert code == 6, out
    assert "[agent] hello there" in out
    assert "unreachable" in out
    code, out, _ = machine.run("fleet", "run", "-n", "agent", "echo before; exit 3")
    assert code == 1
    assert "[agent] before" in out
    code, out, _ = machine.run("fleet", "run", "-n", "agent", "--save", "kept", "echo all well; echo and more >&2")
    assert code == 0, out
    assert sorted((machine.work / "kept" / "agent.txt").read_text().splitlines()) == ["all well", "and more"]


def test_run_as_json_has_the_output(machine: Machine) -> None:
    code, out, _ = machine.run("fleet", "run", "-n", "agent", "--json", "printf 'one\\ntwo\\n'")
    told = json.loads(out)
    assert (code, told["stage"], told["output"], told["runs"][0]["exit_status"]) == (0, "completed", {"agent": "one\ntwo\n"}, 0)


def test_lines_come_while_the_command_still_runs(machine: Machine) -> None:
    flag = machine.work / "flag"
    script = f"echo first; until [ -e {flag} ]; do sleep 0.05; done; echo last"
    command = [sys.executable, "-m", "appliance", "fleet", "run", "-n", "agent", script]
    with subprocess.Popen(command, env={**machine.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"[agent] first\n"
        flag.touch()
        assert process.stdout.readline() == b"[agent] last\n"
        process.stdout.read()
        assert process.wait(20) == 0


def test_ctrl_c_stops_a_command_there_and_keeps_what_it_said(machine: Machine) -> None:
    command = [
        sys.executable,
        "-m",
        "appliance",
        "fleet",
        "run",
        "-n",
        "agent",
        "--save",
        "cut",
        "echo first; exec sleep 98765",
    ]
    with subprocess.Popen(command, env=machine.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_sync(lambda: (machine.work / "cut/agent.txt").exists() and (machine.work / "cut/agent.txt").read_text(), 60)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert process.returncode not in {0, -signal.SIGINT}
    assert (machine.work / "cut/agent.txt").read_text() == "first\n"
    (last, *_) = json.loads(machine.run("fleet", "operations", "--json")[1])
    assert last["stage"] == "cancelled"
    wait_for_sync(lambda: not _runs("98765"), 20)


def _runs(word: str) -> bool:
    return any(each.info["cmdline"] == ["sleep", word] for each in psutil.process_iter(["cmdline"]))


def test_what_was_taken_back_as_asked_did_well() -> None:
    status = {"stage": "undone", "runs": [{"state": "undone"}]}
    assert (exit_code(status, back=True), exit_code(status), exit_code({**status, "stage": "failed"}, back=True)) == (0, 1, 1)


@pytest.mark.parametrize(
    "words",
    [("fleet", "run", "uptime"), ("fleet", "put", "x", "/tmp"), ("service", "start", "x.service"), ("fleet", "shell", "agent")],
)
def test_what_is_missing_is_told(machine: Machine, words: tuple[str, ...]) -> None:
    code, _, err = machine.run(*words)
    assert (code, "next: " in err) == (2, True), err


def test_folders_are_made_alike_and_nothing_is_deleted_unasked(machine: Machine) -> None:
    here, there = machine.work / "folder", machine.work / "other"
    (here / "sub").mkdir(parents=True)
    (here / "sub" / "file").write_text("content")
    there.mkdir()
    (there / "extra").write_text("only there")
    code, out, _ = machine.run("fleet", "sync", "folder", f"agent:{there}", "--delete", "--dry-run")
    assert (code, "delete" in out, "extra" in out, (there / "sub").exists()) == (0, True, True, False), out
    code, _, err = machine.run("fleet", "sync", "folder", f"agent:{there}", "--delete")
    assert (code, "Delete 1 name" in err, (there / "extra").exists()) == (5, True, True), err
    code, out, _ = machine.run("fleet", "sync", "folder", f"agent:{there}", "--delete", "--yes")
    assert (code, (there / "extra").exists(), (there / "sub" / "file").read_text()) == (0, False, "content"), out


def test_the_appliances_own_data_is_not_copied(machine: Machine) -> None:
    code, out, err = machine.run("fleet", "put", str(machine.home / "data/secrets/audit.key"), f"agent:{machine.work}/stolen")
    assert (code, "own data" in err) == (4, True), out + err
    code, out, _ = machine.run("fleet", "sync", str(machine.home), f"agent:{machine.work}/copy", "--exclude", "run/")
    assert not (machine.work / "copy" / "data").exists()
    assert (machine.work / "copy" / "config.toml").exists(), out


def test_folders_texts_status_and_services(machine: Machine) -> None:
    (machine.work / "text").write_text("line\n" * 3)
    code, out, _ = machine.run("fleet", "files", "agent", str(machine.work))
    assert (code, "text" in out) == (0, True)
    assert machine.run("fleet", "read-file", "agent", str(machine.work / "text")) == (0, "line\nline\nline\n", "")
    code, out, _ = machine.run("fleet", "status")
    assert (code, "agent" in out, "gone" in out) == (0, True, True)
    assert machine.run("fleet", "facts", "agent")[0] == 0
    assert json.loads(machine.run("fleet", "status", "--json")[1])["nodes"][0]["node"] == "agent"
    code, out, _ = machine.run("service", "list")
    assert (code, "analytics" in out) == (0, True)
    code, out, _ = machine.run("service", "list", "--node", "gone")
    assert (code, "gone" in out) == (1, True)


async def test_a_shell_in_this_terminal(machine: Machine, pty: Pty) -> None:  # noqa: F811
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance", "fleet", "shell", "agent"], env={**machine.environ, "TERM": "xterm"},
        stdin=pty.slave, stdout=pty.slave, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        await wait_for(lambda: pty.shows("Ctrl-] comes back"))
        pty.press(b" unset HISTFILE\necho in''side; exit 9\n")
        await wait_for(lambda: pty.shows("inside"))
        await wait_for(lambda: process.poll() is not None)
        assert process.returncode == 9
        assert pty.restored
    finally:
        process.kill()
        process.wait()
