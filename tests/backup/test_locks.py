"""Who holds a lock: a restic that runs, one that was killed and is not collected yet, another program, another machine."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from appliance.core.lifecycle.backup.locks import Lock, dead, read
from appliance.errors import BackupError
from tests.support import needs_program, wait_for_sync


def here(pid: int) -> Lock:
    return Lock(socket.gethostname(), pid)


def test_a_lock_is_dead_when_its_restic_runs_no_more(tmp_path: Path) -> None:
    program = shutil.copy(needs_program("sleep"), tmp_path / "restic")
    child = subprocess.Popen([program, "60"])
    try:
        wait_for_sync(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "restic\n")
        assert not dead(here(child.pid))
        assert not dead(Lock("another-machine", child.pid)), "what cannot be seen is not judged"
        child.kill()
        wait_for_sync(lambda: ") Z " in Path(f"/proc/{child.pid}/stat").read_text())
        assert dead(here(child.pid)), "killed, and not collected by its parent"
    finally:
        child.kill()
        child.wait()
    assert dead(here(child.pid))
    assert dead(here(1)), "its number is another program's by now"


def test_what_restic_says_of_a_lock_is_read() -> None:
    said = b'{\n"time": "2026-11-22T08:45:06.7Z",\n"exclusive": true,\n"hostname": "vm",\n"username": "root",\n"pid": 3693\n}'
    assert read(said) == Lock("vm", 3693)
    with pytest.raises(BackupError, match="cannot be read"):
        read(b"{}")
