"""What runs on a machine, in a folder instead of `/` and with a stand-in of systemctl: cut at every step, and mended."""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from appliance.core.agents import layout, probe, scripts, setup
from appliance.core.agents.payload import Release
from appliance.core.fleet.operations.kinds import agent
from appliance.errors import ConfigError
from appliance.settings import Settings

OLD, NEW = "1.0-aaaa", "2.0-bbbb"
PROGRAMS = ("base64", "cat", "chmod", "cp", "cut", "ln", "mkdir", "mv", "readlink", "rm", "sha256sum", "tar")
SYSTEMCTL = 'echo "$*" >>"$ROOT/systemctl"; case $1 in is-active) exit 3 ;; esac'
PYTHON = r"""
mkdir -p "$5/bin" "$5/lib/python3.11/site-packages"
printf '#!/bin/sh\nexit 0\n' >"$5/bin/python"; printf '#!/bin/sh\necho prime-spark %s\n' 2.0 >"$5/bin/prime-spark"
chmod +x "$5/bin/python" "$5/bin/prime-spark"
"""
CUT = 'echo >>"$ROOT/steps"; [ "$(/usr/bin/wc -l <"$ROOT/steps")" -lt "$STEP" ] || kill -9 0; exec {program} "$@"'


class Machine:
    """A folder that the scripts take for the root of a machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for each in ("opt", "etc/systemd/system", "var/lib", "var/tmp", "run", "bin", "cut"):
            (root / each).mkdir(parents=True)
        self._program("bin/systemctl", SYSTEMCTL)
        self._program("bin/python", PYTHON)
        for name in PROGRAMS:
            where = next(path for path in (Path("/usr/bin", name), Path("/bin", name)) if path.exists())
            self._program(f"cut/{name}", CUT.format(program=where))
        self._program("bin/sync", ":")  # of a disk that others write to, it takes seconds
        for name in ("systemctl", "sync"):
            self._program(f"cut/{name}", CUT.format(program=root / "bin" / name))
        with tarfile.open(self.archive, "w") as made:
            for name in ("pip/pip-1-py3-none-any.whl", "own.txt", "requirements.txt", "libraries.txt"):
                made.addfile(tarfile.TarInfo(name), io.BytesIO())

    def _program(self, name: str, text: str) -> None:
        (self.root / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.root / name).chmod(0o755)

    @property
    def archive(self) -> Path:
        return self.root / "var/tmp/archive.tar"

    def run(self, script: str, *arguments: str, stdin: bytes = b"", step: int = 0) -> subprocess.CompletedProcess[bytes]:
        text = re.sub(r"(?<![\w$}/.])/(opt|etc|var|run)/", rf"{self.root}/\1/", script)
        path = f"{self.root}/bin:{os.environ['PATH']}"
        env = {"ROOT": str(self.root), "STEP": str(step), "PATH": f"{self.root}/cut:{path}" if step else path}
        (self.root / "steps").unlink(missing_ok=True)
        return subprocess.run(
            ["sh", "-c", text, "sh", *arguments], env=env, input=stdin, capture_output=True, timeout=60, check=False,
            start_new_session=True,
        )  # fmt: skip

    def unpack(self, release: str, step: int = 0) -> subprocess.CompletedProcess[bytes]:
        sha = hashlib.sha256(self.archive.read_bytes()).hexdigest()
        python = str(self.root / "bin/python")
        return self.run(scripts.UNPACK, str(self.archive), sha, release, python, "sent", "2.0", "key", step=step)

    def switch(self, release: str, told: str, step: int = 0) -> subprocess.CompletedProcess[bytes]:
        return self.run(scripts.SWITCH, release, stdin=lines(told), step=step)

    def install(self, release: str, told: str) -> None:
        for said in (self.unpack(release), self.switch(release, told), self.run(scripts.FINISH, release)):
            assert said.returncode == 0, said.stderr

    def look(self) -> probe.Found:
        return probe.parse(self.run(scripts.PROBE).stdout.decode())

    def tree(self) -> dict[str, str]:
        """All that an agent could leave."""
        found: dict[str, str] = {}
        for top in ("opt", "etc", "var/lib", "run"):
            for path in (self.root / top).rglob("*"):
                name = str(path.relative_to(self.root))
                found[name] = str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""
        return found


def lines(told: str) -> bytes:
    unit = f"{layout.HEAD}\n# {told}\n"
    return setup.Setup(f"# {told}\n", unit, {}, {"tasks.key": told}).lines()


def cuts(tmp_path: Path, part: str) -> list[tuple[Machine, int]]:
    """Machines with an agent, whose upgrade was killed before its first, second, … program."""
    made: list[tuple[Machine, int]] = []
    for step in range(1, 200, 1 if os.environ.get("PRIME_SPARK_LONG_TESTS") else 5):
        machine = Machine(tmp_path / str(step))
        machine.install(OLD, "old")
        if part == "unpack":
            said = machine.unpack(NEW, step)
        else:
            assert machine.unpack(NEW).returncode == 0
            said = machine.switch(NEW, "new", step)
        if said.returncode != -signal.SIGKILL:
            assert said.returncode == 0, said.stderr
            assert step > 8
            return made
        made.append((machine, step))
    raise AssertionError


@pytest.mark.parametrize("part", ["unpack", "switch"])
def test_an_upgrade_that_is_cut_at_any_step_is_mended_taken_back_or_taken_away(tmp_path: Path, part: str) -> None:
    whole = Machine(tmp_path / "whole")
    whole.install(OLD, "old")
    former = {name: text for name, text in whole.tree().items() if not name.startswith("opt/prime-spark-agent/before")}
    whole.install(NEW, "new")
    for machine, step in cuts(tmp_path, part):
        found = machine.look()
        if part == "unpack":
            assert found.release == OLD, step
        elif step % 3 == 0 and found.pending:
            assert found.former == OLD, step
            said = machine.run(scripts.BACK, OLD, "yes", "yes")
            assert said.returncode == 0, (step, said.stderr)
            tree = machine.tree()
            assert {name: each for name, each in tree.items() if "prime-spark-agent/before" not in name} == former, step
        elif step % 3 == 1:
            assert machine.run(scripts.REMOVE).returncode == 0
            left = [name for name in machine.tree() if "prime-spark" in name]
            assert left == [], step
            continue
        machine.install(NEW, "new")
        assert machine.tree() == whole.tree(), step


def test_a_configuration_that_comes_by_half_is_not_put_in_force(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    machine.install(OLD, "old")
    assert machine.unpack(NEW).returncode == 0
    before = machine.tree()
    told = lines("new")
    for end in range(0, len(told) - 1, 7):
        said = machine.run(scripts.SWITCH, NEW, stdin=told[:end])
        assert said.returncode != 0, told[:end]
    machine.run(scripts.SWITCH, NEW, stdin=told[: told.rindex(b"end of-it")])
    assert machine.tree() == before


def test_an_installation_that_never_came_to_its_end_is_neither_done_nor_what_an_undo_goes_back_to(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    machine.install(OLD, "old")
    assert machine.unpack(NEW).returncode == 0
    assert machine.switch(NEW, "new").returncode == 0
    told = setup.Setup("# new\n", f"{layout.HEAD}\n# new\n", {}, {"tasks.key": "new"})
    found = machine.look()
    state = agent._state(found, told)
    assert (found.release, state["release"]) == (NEW, OLD)
    assert agent._diff(found, state, Release(NEW, "2.0", "x.whl", b""), told)
    assert machine.run(scripts.BACK, str(state["release"]), "yes", "yes").returncode == 0
    assert machine.look().release == OLD
    fresh = Machine(tmp_path / "fresh")
    assert fresh.unpack(NEW).returncode == 0
    assert fresh.switch(NEW, "new").returncode == 0
    assert agent._state(fresh.look(), told)["release"] == ""


def test_names_that_anybody_makes_are_no_lines_of_a_look(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    (machine.root / "var/tmp/prime-spark-agent.x\nrelease=9.9-abcd\nwhole=yes\npython=evil 3.11.9").mkdir()
    found = machine.look()
    assert found.release == ""
    assert "evil" not in {each.path for each in found.pythons}
    assert len(found.left) == 1


def test_what_is_unpacked_is_what_was_hashed(tmp_path: Path) -> None:
    """Who owns the folder that it came to swaps it after it was hashed."""
    machine = Machine(tmp_path / "m")
    sums = machine.root / "bin/sha256sum"
    sums.write_text(f"#!/bin/sh\n/usr/bin/sha256sum; echo spoilt >{machine.archive}\n")
    sums.chmod(0o755)
    said = machine.unpack(NEW)
    assert said.returncode == 0, said.stderr
    assert machine.archive.read_text() == "spoilt\n"


def test_the_lock_is_nobody_elses_and_holds_where_a_removal_took_its_file_away(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    lock = machine.root / "run/prime-spark-agent.lock"
    assert machine.unpack(NEW).returncode == 0
    assert lock.stat().st_mode & 0o777 == 0o600
    swapped = machine.root / "bin/flock"  # another waited for the former file meanwhile
    once = f"[ -e {machine.root}/was ] || {{ : >{machine.root}/was; rm {lock}; }}"
    swapped.write_text(f'#!/bin/sh\n{once}\nexec /usr/bin/flock "$@"\n')
    swapped.chmod(0o755)
    script = scripts.PLACES + scripts.ALONE + '[ "$lock" -ef /proc/$$/fd/9 ] && echo held'
    assert machine.run(script).stdout == b"held\n"


def test_an_agent_whose_unit_was_taken_away_is_stopped_by_a_removal(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    machine.install(OLD, "old")
    (machine.root / "etc/systemd/system/prime-spark-agent.service").unlink()
    assert machine.run(scripts.REMOVE).returncode == 0
    assert "stop prime-spark-agent.service" in (machine.root / "systemctl").read_text()


@pytest.mark.parametrize("folder", ["/home/pi/in", "/root", "/tmp/in", "/var/tmp"])
def test_a_folder_that_the_unit_hides_is_refused(folder: str) -> None:
    told = Settings.model_validate({"kafka": {"bootstrap_servers": "192.0.2.9:9092"}, "agents": {"folders": [folder]}})
    with pytest.raises(ConfigError, match="do not see"):
        setup.make("n", told, {"tasks.key": "k"})


def test_a_folder_cannot_bring_lines_into_the_unit() -> None:
    with pytest.raises(ConfigError, match="letter that no unit"):
        setup.unit({}, ["/srv/x\nExecStartPre=+/bin/touch /pwned"], 512)
