"""An upgrade that works on its own, in the shells that nodes have: who follows it always hears its end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.core.fleet.operations.kinds.packages import APART, RESTED
from tests.support import capability, wait_for_sync

SHELLS = ("dash", "bash", "busybox sh")
pytestmark = pytest.mark.parametrize("shell", SHELLS)


@contextmanager
def follower(shell: str, home: Path, inner: str) -> Iterator[subprocess.Popen[str]]:
    capability(
        shutil.which(shell.split(maxsplit=1)[0]) is not None, f"{shell}: sudo apt-get install {shell.split(maxsplit=1)[0]}"
    )
    command = [*shell.split(), "-c", APART, "sh", inner, str(home)]
    environment = {**os.environ, "TMPDIR": str(home)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        wait_for_sync(lambda: pids(home))
        yield child
    finally:
        child.kill()
        child.communicate(timeout=10)


def pids(home: Path) -> list[int]:
    return [int(each.read_text()) for each in home.glob("spark-apt.*/pid") if each.read_text().strip()]


def test_another_who_waits_for_its_end_takes_nothing_from_who_follows_it(shell: str, tmp_path: Path) -> None:
    inner = 'echo begun; while [ ! -e "$1/go" ]; do sleep 0.05; done; echo ended; exit 3'
    with follower(shell, tmp_path, inner) as child:
        resting = [
            subprocess.Popen([*shell.split(), "-c", RESTED, "sh"], env={**os.environ, "TMPDIR": str(tmp_path)})
            for _ in range(3)
        ]
        (tmp_path / "go").touch()
        assert [each.wait(20) for each in resting] == [0, 0, 0]
        assert child.communicate(timeout=20) == ("begun\nended\n", "")
        assert child.returncode == 3
    assert not list(tmp_path.glob("spark-apt.*"))


def test_one_that_was_killed_is_told_and_not_waited_for(shell: str, tmp_path: Path) -> None:
    with follower(shell, tmp_path, "sleep 600") as child:
        os.killpg(os.getpgid(pids(tmp_path)[0]), signal.SIGKILL)
        told = child.communicate(timeout=20)[1]
        assert child.returncode == 70
        assert "look at dpkg --audit" in told
    assert not list(tmp_path.glob("spark-apt.*"))


def test_the_folder_of_one_that_nobody_follows_is_cleared_away(shell: str, tmp_path: Path) -> None:
    with follower(shell, tmp_path, 'while [ ! -e "$1/go" ]; do sleep 0.05; done') as child:
        child.kill()
        child.wait(10)
        (tmp_path / "go").touch()
        subprocess.run(
            [*shell.split(), "-c", RESTED, "sh"], env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=20, check=True
        )
        assert not list(tmp_path.glob("spark-apt.*"))
