"""Work that the appliance acknowledged over REST before the power went: all of it must be there afterwards."""

from __future__ import annotations

import json
import subprocess
import threading
from types import TracebackType

from imagelab.guest import Guest

SUBMIT = """
import time
from pathlib import Path
from appliance.verbs.client import SocketClient
client = SocketClient(Path("/run/prime-spark/api.sock"))
number = 0
while True:
    number += 1
    time.sleep(0.1)
    payload = {"do": "set", "namespace": "ledger", "key": "n", "value": number}
    task = client.invoke("task.submit", {"type": "memory_management", "payload": payload})
    print(task["task_id"], flush=True)
"""
MISSING = """
import json
from pathlib import Path
from appliance.verbs.client import SocketClient
from appliance.errors import NotFoundError
client = SocketClient(Path("/run/prime-spark/api.sock"))
missing = []
for each in IDS:
    try:
        client.invoke("task.show", {"task_id": each})
    except NotFoundError:
        missing.append(each)
print(json.dumps({"missing": missing, "audit": client.invoke("audit.verify", {})}))
"""


class Ledger:
    """Submits tasks one after the other, up to ten a second, and keeps the answers here, outside of the machine.

    A task's row is written with its row of the audit; both are synced before the answer.
    """

    def __init__(self) -> None:
        self.known: list[str] = []
        """Ids of all tasks that were acknowledged."""

    def submitting(self, guest: Guest) -> Submitting:
        """Somebody who submits, for `with`."""
        return Submitting(self, guest)

    def lost(self, guest: Guest) -> tuple[list[str], dict[str, object]]:
        """(tasks that were acknowledged and are not there, what the audit's own proof says)."""
        found = json.loads(guest.python(f"IDS = {self.known!r}\n{MISSING}", limit=900))
        return found["missing"], found["audit"]


class Submitting:
    """One connection that submits until the machine is gone."""

    def __init__(self, ledger: Ledger, guest: Guest) -> None:
        self._ledger = ledger
        line = "sudo /opt/prime-spark/bin/python -c '{}'".format(SUBMIT.replace("'", '"'))
        port = guest.machine.port("ssh")
        self._command = guest.login.command(port, f"{guest.login.user}@127.0.0.1", line)

    def __enter__(self) -> Submitting:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, text=True)
        self._reader = threading.Thread(target=self._read, name="ledger", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                self._ledger.known.append(line.strip())
