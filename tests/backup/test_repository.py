"""Backups in real repositories: made, proved, damaged, killed, restored on a fresh machine."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.core.lifecycle.backup import restoring
from appliance.core.lifecycle.backup.faults import NoRepositoryError, TargetAwayError, WrongKeyError
from appliance.core.lifecycle.backup.restic import Repository, Restic
from appliance.core.secrets import Secrets
from appliance.errors import BackupError, ConflictError, DamagedError
from appliance.screens import lifecycle_text as view
from appliance.settingbackup import BackupTarget
from tests.backup import rig
from tests.backup.conftest import Kept
from tests.servers.s3 import Bucket
from tests.support import capability, wait_for

pytestmark = pytest.mark.xdist_group("backup")


def packs(repository: Path) -> list[Path]:
    return sorted(path for path in (repository / "data").rglob("*") if path.is_file())


async def test_a_backup_is_proved_and_comes_back_on_a_fresh_machine(kept: Kept, tmp_path: Path) -> None:
    found = await kept.keeper().list_all()
    assert len(found) == 1
    assert found[0].proof is not None
    assert found[0].proof.good
    assert found[0].parts == ("settings", "secrets", "state", "streams", "models")
    assert "files of models" in {gap.what for gap in found[0].gaps}
    fresh = tmp_path / "fresh"
    keeper = rig.keeper(fresh, None)
    restic = Restic(Repository(str(kept.repository), kept.key, {}, tmp_path / "work"), keeper.ground.environ)
    other = rig.keeper(tmp_path / "other", None, device="other")
    with pytest.raises(ConflictError, match="is of control-pc; this machine is other"):
        await other.stage_repository(restic, "latest", "usb", (), other=False)
    assert not restoring.is_pending(rig.places(tmp_path / "other").data)
    await keeper.stage_repository(restic, "latest", "usb", (), other=False)
    assert restoring.is_pending(rig.places(fresh).data)
    assert not rig.places(fresh).database.exists(), "nothing is applied before the start"
    restoring.apply(rig.places(fresh))
    assert rig.users(fresh) == rig.users(kept.home)
    assert rig.audited(fresh).intact
    assert rig.audited(fresh).rows == 5
    kept_now = Secrets(rig.places(fresh).secrets, {})
    assert kept_now.get("vpn.key") == rig.WIREGUARD
    assert kept_now.get("ssh_host_ed25519_key") == b"host key"
    assert (fresh / "config.toml").read_text() == (kept.home / "config.toml").read_text()
    assert (rig.places(fresh).models / "yolo/1/manifest.toml").exists()
    assert not (rig.places(fresh).models / "yolo/1/model.onnx").exists()


async def test_what_was_not_restored_is_shown_as_not_proved(kept: Kept) -> None:
    (kept.home / "data/backup/book.json").unlink()  # another machine's eyes, or a book that was lost
    found = await kept.keeper().list_all()
    assert found[0].proof is None
    assert found[0].size is None
    assert view.proved(found[0]) == ("not proved", "warn")


async def test_damage_is_found_and_shown(kept: Kept) -> None:
    for pack in packs(kept.repository):
        pack.chmod(0o600)
        content = bytearray(pack.read_bytes())
        content[len(content) // 3] ^= 0xFF
        pack.write_bytes(content)
    keeper = kept.keeper(check_percent=100)
    with pytest.raises(DamagedError, match="is damaged"):
        await keeper.verify("latest")
    shown = keeper.book.targets["usb"].snapshots[0]
    assert view.proved(shown) == ("DAMAGED", "bad")
    assert keeper.book.targets["usb"].last_good is None, "a damaged backup is no proved one"
    assert kept.keeper().book.targets["usb"].snapshots[0].proof == shown.proof, "it is remembered"


async def test_another_key_opens_nothing(kept: Kept) -> None:
    (kept.home / "data/secrets/backup.password").write_bytes(b"AGE-SECRET-KEY-1WRONG")
    with pytest.raises(WrongKeyError, match="opens with another key"):
        await kept.keeper().list_all()


BEGUN = """
import asyncio, os, sys
from dataclasses import replace
from pathlib import Path
from tests.backup import rig
keeper = rig.keeper(Path(sys.argv[1]), Path(sys.argv[2]))
def report(what, share):
    print(what, flush=True)
keeper.ground = replace(keeper.ground, report=report)
asyncio.run(keeper.run())
"""


@pytest.mark.parametrize("moment", ["to usb", "letting old ones go at usb"], ids=["while it is kept", "while old ones go"])
async def test_killed_at_any_moment_the_repository_goes_on(kept: Kept, moment: str) -> None:
    (kept.home / "data/inventory.toml").write_bytes(secrets.token_bytes(2_000_000))
    child = subprocess.Popen([sys.executable, "-c", BEGUN, kept.home, kept.repository], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while (line := await asyncio.to_thread(child.stdout.readline)) and line.strip() != moment:
        pass
    if moment.startswith("letting"):  # restic's exclusive lock
        await wait_for(lambda: any((kept.repository / "locks").iterdir()) or child.poll() is not None, 20)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    keeper = kept.keeper()
    assert not (keeper.home / "tree").exists(), "what was copied is swept"
    assert not (keeper.home / "scratch").exists()
    done = await keeper.run()
    assert done[0].problem == ""
    assert done[0].last_good is not None
    assert all(each.proof is not None and each.proof.good for each in done[0].snapshots[:1])


async def test_a_full_disk_is_told_and_spoils_nothing(kept: Kept, tmp_path: Path) -> None:
    capability(os.geteuid() == 0, "root, to mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=True)
    try:
        shutil.copytree(kept.repository, disk / "repository")
        (kept.home / "data/inventory.toml").write_bytes(secrets.token_bytes(4_000_000))
        keeper = rig.keeper(kept.home, BackupTarget(path=str(disk / "repository"), mount=str(disk)))
        with pytest.raises(BackupError, match="No room"):
            await keeper.run()
        status = keeper.book.targets["usb"]
        assert status.failures == 1
        assert "keep less" in status.next_step
        subprocess.run(["umount", disk], check=True)
        with pytest.raises(BackupError, match="Nothing is mounted"):
            await keeper.run()
        assert not any(disk.iterdir()), "nothing is written to the card in place of the disk"
    finally:
        subprocess.run(["umount", "-q", disk], check=False)


async def test_s3_is_a_target_like_any(kept: Kept, s3: Bucket) -> None:
    where = BackupTarget(kind="s3", endpoint=s3.endpoint, bucket=s3.name, prefix="edge/one", access_key=s3.access_key)
    Secrets(rig.places(kept.home).secrets, {}).put("s3.secret_key", s3.secret_key.encode())
    keeper = rig.keeper(kept.home, where, models=False)
    done = await keeper.run()
    assert done[0].last_good is not None
    assert done[0].snapshots[0].proof is not None
    written = json.dumps(str(keeper.book.targets))
    assert s3.secret_key not in written
    gone = rig.keeper(kept.home, BackupTarget(kind="s3", endpoint="127.0.0.1:1", bucket=s3.name), limit_hours=0.0008)
    with pytest.raises(BackupError):
        await gone.run()
    assert gone.book.targets["usb"].failures == 1


async def test_a_directory_without_a_repository_is_no_backup(tmp_path: Path) -> None:
    keeper = rig.keeper(tmp_path / "home", None)
    (tmp_path / "empty").mkdir()
    restic = Restic(Repository(str(tmp_path / "empty"), b"x", {}, tmp_path / "work"), keeper.ground.environ)
    with pytest.raises(NoRepositoryError, match="There is no repository"):
        await restic.snapshots()
    away = rig.keeper(tmp_path / "home", BackupTarget(path=str(tmp_path / "away")))
    with pytest.raises(TargetAwayError, match="is not there"):
        await away.list_all()
    assert not (tmp_path / "away").exists()
