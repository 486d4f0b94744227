"""The package's maintainer scripts, run with every program in them replaced: what they ask of systemd."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from filetree import FIRMWARE, PACKAGE

PROGRAMS = ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "udevadm", "deb-systemd-helper")


class Scripts:
    """Runs them; nothing of this machine can be reached by the programs that they call.

    Args:
        top: A directory.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        for name in PROGRAMS:
            (top / name).write_text(
                f'#!/bin/sh\necho "{name} $*" >>{top}/calls\n[ "$2" != was-enabled ] || [ ! -e {top}/off ]\n'
            )
            (top / name).chmod(0o755)

    def run(self, name: str, *words: str) -> list[str]:
        """What a script called."""
        calls = self._top / "calls"
        calls.write_text("")
        command = ["/bin/sh", str(FIRMWARE / "packaging/DEBIAN" / name), *words]
        subprocess.run(command, env={"PATH": str(self._top)}, check=True, capture_output=True)
        return calls.read_text().splitlines()

    def switch_off(self) -> None:
        """The administrator disabled the service."""
        (self._top / "off").touch()


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    """Them."""
    return Scripts(tmp_path)


@pytest.mark.parametrize("before", ["", "0.1.0"])
def test_the_service_is_enabled_also_where_it_comes_back(scripts: Scripts, before: str) -> None:
    assert "deb-systemd-helper enable prime-spark.service" in scripts.run("postinst", "configure", before)


def test_a_service_that_was_disabled_stays_so(scripts: Scripts) -> None:
    scripts.switch_off()
    called = scripts.run("postinst", "configure", "0.1.0")
    assert "deb-systemd-helper enable prime-spark.service" not in called
    assert "deb-systemd-helper update-state prime-spark.service" in called


def test_what_is_removed_leaves_no_console_and_what_is_upgraded_keeps_it(scripts: Scripts) -> None:
    removed = scripts.run("prerm", "remove")
    assert "systemctl disable prime-spark-console@.service" in removed
    assert "systemctl disable prime-spark.service" not in removed, "what comes back would be off"
    assert scripts.run("prerm", "upgrade", "0.2.0") == []


def test_the_accounts_need_a_systemd_that_the_package_asks_for() -> None:
    """`u!`, an account that nobody can log in to, is of systemd 257."""
    assert "\nu! prime-spark " in (PACKAGE / "usr/lib/sysusers.d/prime-spark.conf").read_text()
    assert "systemd (>= 257)" in (FIRMWARE / "packaging/depends.txt").read_text().splitlines()


@pytest.mark.parametrize("may", [True, False])
def test_the_command_stays_where_its_user_may_be(tmp_path: Path, may: bool) -> None:
    tools, here = tmp_path / "bin", tmp_path / "here"
    tools.mkdir()
    here.mkdir()
    heard = tmp_path / "heard"
    for name, text in {
        "id": "echo root",
        "setpriv": f'case "$*" in *" test -x .") {str(may).lower()} ;; *) pwd >{heard} && echo "$*" >>{heard} ;; esac',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    command = ["/bin/sh", str(PACKAGE / "usr/bin/prime-spark"), "backup", "restore", "a file.age"]
    subprocess.run(command, env={"PATH": str(tools)}, cwd=here, check=True)
    where, said = heard.read_text().splitlines()
    assert where == (str(here) if may else "/")
    assert said.endswith("--init-groups /opt/prime-spark/bin/prime-spark backup restore a file.age")


def test_who_is_neither_root_nor_the_service_is_told_and_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("#!/bin/sh\necho ada\n")
    (tmp_path / "id").chmod(0o755)
    command = ["/bin/sh", str(PACKAGE / "usr/bin/prime-spark"), "status"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert "Next: sudo prime-spark status\n" in done.stderr
