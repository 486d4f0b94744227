"""Which version of our agent lies on a machine: the parser, and the script in real shells over a real installation's links."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.core.fleet.facts.fact import Told
from appliance.core.fleet.facts.host.agent import BROKEN, FACT, HOME, NONE

SHELLS = [shell for shell in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])]


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("/opt/prime-spark-agent/versions/0.1.0-3f9a2c1b", "0.1.0"),
        ("versions/0.2.0.dev3+local-77ab01cd/", "0.2.0.dev3+local"),
        ("1.0.0", "1.0.0"),
    ],
)
def test_the_version_is_in_the_name_of_what_is_in_force(said: str, version: str) -> None:
    assert FACT.answer(Told(said)) == ({"agent": version}, "")


@pytest.mark.parametrize("said", ["latest", "versions/", "versions/0.1.0 rm -rf", "0" * 100])
def test_garbage_is_no_version(said: str) -> None:
    fields, why = FACT.answer(Told(said))
    assert not fields
    assert "cannot be read" in why


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_real_shells_follow_a_real_link(shell: list[str], tmp_path: Path) -> None:
    home = tmp_path / "agent"

    def told() -> tuple[dict[str, str], str]:
        script = FACT.script.replace(HOME, str(home))
        said = subprocess.run([*shell, "-c", script], capture_output=True, text=True, check=True, timeout=60)
        assert not said.stderr
        fields, why = FACT.answer(Told(said.stdout))
        return dict(fields), why

    assert told() == ({}, NONE)
    (home / "versions").mkdir(parents=True)
    assert told() == ({}, BROKEN)
    (home / "versions" / "0.1.0-3f9a2c1b").mkdir()
    (home / "current").symlink_to("versions/0.1.0-3f9a2c1b")
    assert told() == ({"agent": "0.1.0"}, "")
    shutil.rmtree(home / "versions" / "0.1.0-3f9a2c1b")
    assert told() == ({}, BROKEN)
