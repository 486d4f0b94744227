"""systemctl and journalctl of a node, by what real ones print."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.client import Lab, LabError
from tests.lab.inside.unitfile import Folders, UnitError, parse, span
from tests.support import wait_for_sync

UNIT = """[Unit]
Description=A probe of the lab
[Service]
Type={kind}
User={user}
Environment="WORD=two words" OTHER=%n
WorkingDirectory=/var/tmp
ExecStart={start}
{more}
[Install]
WantedBy=multi-user.target
"""
TALKS = "/bin/sh -c 'echo hello from $$(id -un) in $$(pwd), ${WORD}, ${OTHER}; exec sleep 1000'"


@pytest.fixture
def node(lab: Lab) -> Iterator[str]:
    yield "primecore4"
    script = "systemctl disable --now probe; systemctl unmask probe; rm -f /etc/systemd/system/probe.service; "
    script += "systemctl daemon-reload; systemctl reset-failed"
    lab.exec("primecore4", "sh", "-c", script, check=False)


def install(lab: Lab, node: str, start: str = TALKS, kind: str = "simple", user: str = "nobody", more: str = "") -> None:
    text = UNIT.format(kind=kind, user=user, start=start, more=more)
    lab.exec(node, "sh", "-c", "cat > /etc/systemd/system/probe.service && systemctl daemon-reload", text=text)


def said(lab: Lab, node: str, *command: str) -> tuple[int, str]:
    done = subprocess.run(lab.inside(node, command), capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def shown(lab: Lab, node: str, *names: str) -> dict[str, str]:
    told = lab.exec(node, "systemctl", "show", "probe", "-p", ",".join(names))
    return dict(line.split("=", 1) for line in told.splitlines())


def test_a_service_is_installed_enabled_started_and_told_of(lab: Lab, node: str) -> None:
    install(lab, node)
    assert said(lab, node, "systemctl", "is-active", "probe") == (3, "inactive")
    assert said(lab, node, "systemctl", "is-enabled", "probe") == (1, "disabled")
    assert (
        "Created symlink /etc/systemd/system/multi-user.target.wants/probe.service → /etc/systemd/system/probe.service."
        in said(lab, node, "systemctl", "enable", "--now", "probe")[1]
    )
    assert said(lab, node, "systemctl", "is-active", "probe.service") == (0, "active")
    row = next(
        line
        for line in lab.exec(node, "systemctl", "list-units", "--type=service", "--all", "--plain", "--no-legend").splitlines()
        if "probe" in line
    )
    assert row.split(None, 4) == ["probe.service", "loaded", "active", "running", "A probe of the lab"]
    told = json.loads(lab.exec(node, "systemctl", "list-units", "-o", "json", "probe*"))
    assert told == [
        {"unit": "probe.service", "load": "loaded", "active": "active", "sub": "running", "description": "A probe of the lab"}
    ]
    assert "probe.service enabled enabled" in " ".join(
        lab.exec(node, "systemctl", "list-unit-files", "--no-legend", "probe.service").split()
    )
    values = shown(lab, node, "ActiveState", "SubState", "MainPID", "UnitFileState")
    assert values | {"MainPID": "n"} == {
        "ActiveState": "active",
        "SubState": "running",
        "MainPID": "n",
        "UnitFileState": "enabled",
    }
    assert lab.exec(node, "ps", "-o", "user=,args=", "-p", values["MainPID"]).split() == ["nobody", "sleep", "1000"]
    status = lab.exec(node, "systemctl", "status", "probe", "--no-pager")
    assert "● probe.service - A probe of the lab" in status
    assert "Active: active (running) since" in status
    assert "hello from nobody in /var/tmp, two words, probe.service" in lab.exec(
        node, "journalctl", "-u", "probe", "-o", "cat", "-n", "5"
    )


def test_stopping_ends_all_its_processes(lab: Lab, node: str) -> None:
    install(lab, node, "/bin/sh -c 'sleep 991 & setsid sleep 992 & exec sleep 993'")
    lab.exec(node, "systemctl", "start", "probe")
    wait_for_sync(lambda: lab.exec(node, "ps", "-eo", "args").count("sleep 99") == 3, message="three of them")
    lab.exec(node, "systemctl", "stop", "probe")
    assert "sleep 99" not in lab.exec(node, "ps", "-eo", "args")
    assert shown(lab, node, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}


def test_a_service_that_falls_is_started_again_until_it_falls_too_often(lab: Lab, node: str) -> None:
    install(lab, node, "/bin/sh -c 'sleep 0.05; exit 7'", more="Restart=on-failure\nRestartSec=10ms")
    lab.exec(node, "systemctl", "start", "probe")
    wait_for_sync(lambda: said(lab, node, "systemctl", "is-failed", "probe")[0] == 0, 20, "it failed for good")
    assert shown(lab, node, "Result", "NRestarts")["Result"] == "start-limit-hit"
    assert "status=7/FAILURE" in lab.exec(node, "journalctl", "-u", "probe", "--no-pager")


def test_a_start_that_fails_is_told_as_systemd_tells_it(lab: Lab, node: str) -> None:
    install(lab, node, "/bin/false", kind="oneshot")
    code, text = said(lab, node, "systemctl", "start", "probe")
    assert code == 1
    assert 'See "systemctl status probe.service" and "journalctl -xeu probe.service" for details.' in text
    assert said(lab, node, "systemctl", "start", "nothing") == (
        5,
        "Failed to start nothing.service: Unit nothing.service not found.",
    )
    assert said(lab, node, "systemctl", "status", "nothing") == (4, "Unit nothing.service could not be found.")
    assert said(lab, node, "systemctl", "mask", "probe")[0] == 1
    assert said(lab, node, "systemctl", "mask", "redis-server")[0] == 0
    masked = "Failed to start redis-server.service: Unit redis-server.service is masked."
    assert said(lab, node, "systemctl", "start", "redis-server") == (1, masked)
    lab.exec(node, "systemctl", "unmask", "redis-server")
    install(lab, node, "/nonexistent/program")
    assert said(lab, node, "systemctl", "start", "probe")[0] == 1
    assert shown(lab, node, "ExecMainStatus") == {"ExecMainStatus": "203"}


def test_enabled_services_come_back_with_the_node_and_the_journal_stays(lab: Lab, node: str) -> None:
    install(lab, node)
    lab.exec(node, "systemctl", "enable", "--now", "probe", check=False)
    spoken = ("journalctl", "-u", "probe", "-o", "cat")
    wait_for_sync(lambda: "hello from nobody" in lab.exec(node, *spoken), message="it spoke")
    before = lab.exec(node, *spoken).count("hello from nobody")
    boots = lab.node(node)["boots"]
    lab.exec(node, "systemctl", "reboot")
    wait_for_sync(lambda: lab.node(node)["boots"] > boots, 30, "it is back")
    wait_for_sync(lambda: said(lab, node, "systemctl", "is-active", "probe") == (0, "active"), message="it runs")
    assert lab.exec(node, *spoken).count("hello from nobody") == before + 1
    assert lab.exec(node, "journalctl", "-u", "probe", "-b", "-o", "cat").count("hello from nobody") == 1


def test_the_journal_is_followed(lab: Lab, node: str) -> None:
    install(lab, node, "/bin/sh -c 'while :; do date +tick-%%s.%%N; sleep 0.05; done'")
    following = subprocess.Popen(
        lab.inside(node, ["journalctl", "-fu", "probe", "-n", "0", "-o", "short-iso"]), stdout=subprocess.PIPE, text=True
    )
    try:
        lab.exec(node, "systemctl", "start", "probe")
        assert following.stdout is not None
        lines = [following.stdout.readline() for _ in range(8)]
    finally:
        following.kill()
        following.wait()
    ticks = [line for line in lines if "tick-" in line]
    assert len(ticks) > 4, lines
    assert " primecore4 date[" in ticks[3] or " primecore4 sh[" in ticks[3]


def test_people_who_are_not_root_change_nothing(lab: Lab, node: str) -> None:
    boots = lab.node(node)["boots"]
    for command in (["reboot"], ["systemctl", "stop", "ssh"], ["systemctl", "poweroff"]):
        with pytest.raises(LabError, match="authentication required"):
            lab.exec(node, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *command)
    asked = "import json, socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/systemd/lab.sock'); "
    asked += "s.sendall(json.dumps({'program': 'shutdown', 'what': 'poweroff', 'delay': 0}).encode() + b'\\n'); "
    asked += "print(s.recv(4096).decode())"
    told = lab.exec(node, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", "python3", "-c", asked)
    assert "authentication required" in told
    assert (lab.node(node)["boots"], lab.node(node)["state"]) == (boots, "on")


def test_unit_files_are_read_as_systemd_reads_them(tmp_path: Path) -> None:
    own = tmp_path / "etc/systemd/system"
    (own / "a.service.d").mkdir(parents=True)
    (tmp_path / "lib/systemd/system").mkdir(parents=True)
    text = "# c\n[Unit]\nDescription=A\n[Service]\nExecStart=/bin/a \\\n  b\nEnvironment=X=1\n[Install]\nWantedBy=m.target\n"
    (own / "a.service").write_text(text)
    (own / "a.service.d/10.conf").write_text("[Service]\nExecStart=\nExecStart=/bin/c %n\n")
    (tmp_path / "lib/systemd/system/w@.service").write_text("[Service]\nExecStart=/bin/up %i\n")
    (own / "masked.service").symlink_to("/dev/null")
    folders = Folders(tmp_path)
    assert folders.load("a.service").all("ExecStart") == ["/bin/c a.service"]
    assert folders.load("w@x0.service").all("ExecStart") == ["/bin/up x0"]
    names = ("a.service", "w@.service", "masked.service", "none.service")
    assert [folders.state(name) for name in names] == ["disabled", "static", "masked", ""]
    assert folders.load("masked.service").load == "masked"
    with pytest.raises(UnitError):
        parse("[Service]\nnonsense\n")
    assert [span(text, 9.0) for text in ("500ms", "1min 30s", "5", "")] == [0.5, 90.0, 5.0, 9.0]
