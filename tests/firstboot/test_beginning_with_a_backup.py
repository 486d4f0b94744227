"""A fresh card with a backup on it becomes the machine that there was, its own name, logins and host key included."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from appliance.core.clock import SystemClock
from appliance.core.lifecycle.backup import archive, contents, restoring
from appliance.core.lifecycle.backup.keeper import Ground, Keeper
from appliance.core.lifecycle.backup.model import Manifest
from appliance.core.secrets import Secrets
from appliance.errors import InvalidArgumentsError
from appliance.firstboot import FirstBootParts
from appliance.settingbackup import BackupSettings, BackupTarget
from tests.firstboot import rig
from tests.firstboot.test_applying import files
from tests.support import needs_program

SAME = ("system/identity.json", "system/machine-id", "system/ssh/ssh_host_ed25519_key", "prime-spark/config.toml",
        "prime-spark/data/inventory.toml", "prime-spark/data/secrets/kafka.password")  # fmt: skip


def keeper(box: rig.Box, repository: Path | None = None) -> Keeper:
    """What makes backups on that machine."""
    where = box.places
    targets = {} if repository is None else {"card": BackupTarget(path=str(repository))}
    settings = BackupSettings(targets=targets)
    environ = {"PATH": os.environ["PATH"], "HOME": str(box.base)}
    found = Keeper(Ground(
        settings, box.base / "nas", "spark-7", "0.1.0", where, Secrets(where.secrets, {}), environ, SystemClock()
    ))  # fmt: skip
    found.prepare()
    return found


@pytest.fixture
def fresh(tmp_path: Path) -> rig.Box:
    """Another card, that was never started."""
    found = rig.Box(tmp_path / "fresh").make()
    (found.root / "etc/machine-id").write_text("f" * 32 + "\n")
    return found


@pytest.fixture
def key(used: rig.Box) -> str:
    """The recovery key of the machine that there was."""
    return archive.recovery_key(Secrets(used.places.secrets, {})).decode()


def same(used: rig.Box, fresh: rig.Box) -> bool:
    was, now = files(used.data), files(fresh.data)
    return all(was[name] == now[name] for name in SAME)


async def export(used: rig.Box, fresh: rig.Box) -> None:
    done = await keeper(used).export(fresh.boot / "control-pc.backup.age")
    assert "system" in done.parts
    assert done.proved


def test_everything_comes_back(used: rig.Box, fresh: rig.Box, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(export(used, fresh))
    (fresh.boot / "key.txt").write_text(f"# recovery key\n{key}\n")
    fresh.write('[restore]\nfile = "control-pc.backup.age"\nkey_file = "key.txt"\n')
    monkeypatch.setattr("time.time", lambda: 12.0)  # the clock was never set
    outcome = fresh.apply()
    assert (outcome.state, outcome.parts[0]) == ("applied", "restore"), outcome
    assert "restored system" in outcome.parts
    assert same(used, fresh)
    assert fresh.rows("SELECT * FROM users ORDER BY name") == used.rows("SELECT * FROM users ORDER BY name")
    assert fresh.etc("hostname") == "spark-7\n"
    assert fresh.etc("machine-id") == used.etc("machine-id")
    assert fresh.etc("ssh/ssh_host_ed25519_key") == used.etc("ssh/ssh_host_ed25519_key")
    assert (fresh.boot / "key.txt").read_text().strip("*") == ""
    record, before = fresh.record(), used.record()
    assert record is not None
    assert before is not None
    assert record.masked != before.masked, "that the other card's file was applied is not of this one"
    assert fresh.apply().state == "kept"


def test_what_the_file_says_besides_goes_before_the_backup(used: rig.Box, fresh: rig.Box, key: str) -> None:
    asyncio.run(export(used, fresh))
    fresh.write(f'[system]\nhostname = "spark-8"\n[restore]\nfile = "control-pc.backup.age"\nkey = "{key}"\n')
    assert fresh.apply().state == "applied"
    assert (fresh.etc("hostname"), fresh.identity().timezone) == ("spark-8\n", "Europe/Zurich")
    assert [each.name for each in fresh.identity().logins] == ["ada"]
    assert key.encode() not in fresh.file.read_bytes()


def test_a_backup_that_does_not_open_changes_nothing(used: rig.Box, fresh: rig.Box, key: str) -> None:
    asyncio.run(export(used, fresh))
    other = f"AGE-SECRET-KEY-1{'Q' * 58}"
    for wrong in (f'key = "{other}"', 'passphrase = "not this one"'):
        text = f'[system]\nhostname = "spark-8"\n[restore]\nfile = "control-pc.backup.age"\n{wrong}\n'
        fresh.write(text)
        outcome = fresh.apply()
        assert outcome.state == "broken", outcome
        assert outcome.next_step
        assert fresh.file.read_text() == text
        assert not list(fresh.data.glob("prime-spark*"))
        assert not (fresh.root / "etc/hostname").exists()
    used.write(f'[restore]\nfile = "control-pc.backup.age"\nkey = "{key}"\n')
    shutil.copy(fresh.boot / "control-pc.backup.age", used.boot)
    outcome = used.apply()
    assert (outcome.state, outcome.line) == ("broken", 1)
    assert "has data already" in outcome.message


def test_a_repository_on_the_card_serves_too(used: rig.Box, fresh: rig.Box, key: str) -> None:
    needs_program("restic")
    repository = fresh.boot / "repository"
    repository.mkdir()
    asyncio.run(keeper(used, repository).run())
    fresh.write(f'[restore]\nrepository = "repository"\nkey = "{key}"\n')
    outcome = fresh.apply()
    assert outcome.state == "applied", outcome
    assert same(used, fresh)


def test_the_identity_of_the_machine_comes_back_at_a_first_start_only(used: rig.Box, tmp_path: Path) -> None:
    """The appliance itself does not run as root: what it could put there, whoever breaks into it could too."""
    assert contents.closed(used.places) == (frozenset() if os.access(used.data, os.W_OK) else {"system"})
    elsewhere = FirstBootParts().places(tmp_path / "x/prime-spark")
    assert contents.closed(elsewhere) == {"system"}, "there is no such directory"
    manifest = Manifest(1, "0.1.0", "spark-7", 0.0, ("settings", "system"), {}, {})
    assert restoring.choose(manifest, (), {"system"}) == ("settings",)
    with pytest.raises(InvalidArgumentsError, match="at a first start only"):
        restoring.choose(manifest, ("system",), {"system"})
