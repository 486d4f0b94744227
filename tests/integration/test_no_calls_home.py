"""The appliance speaks to nobody whom its operator has not named: no library of it does either."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import capability, needs_program

PROGRAM = """
import sys
from pathlib import Path
from appliance.hw.onnx import OnnxAccelerator
from appliance.core.inference import manifest
from appliance.core.inference.image import decode, read_file
from appliance.core.inference.tasks import task_for
picture = Path(sys.argv[2])
directory = manifest.find([Path(sys.argv[1])])[0]
told = manifest.load(directory)
task, ready = task_for(told), OnnxAccelerator(1).load(str(manifest.verify(told, directory)))
prepared = task.prepare(decode(read_file(picture, 10**8), picture.name, 10**8))
names = tuple(spec.name for spec in ready.outputs)
print(len(task.finish([ready.infer(prepared.batches[0])], names, prepared, 0.3).boxes))
"""
MODELS = Path(__file__).resolve().parents[2] / ".models"


def test_a_model_runs_without_a_socket_and_without_a_file_in_the_users_home(tmp_path: Path) -> None:
    strace = needs_program("strace")
    picture = MODELS / "samples/bus.jpg"
    capability(picture.exists(), "the photographs (make setup)")
    home = tmp_path / "home"
    home.mkdir()
    trace = tmp_path / "trace"
    command = [
        strace,
        "-f",
        "-e",
        "trace=socket,connect",
        "-o",
        str(trace),
        sys.executable,
        "-c",
        PROGRAM,
        str(MODELS),
        str(picture),
    ]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ORT_"))}
    done = subprocess.run(command, env={**environ, "HOME": str(home)}, check=True, capture_output=True, text=True)
    assert int(done.stdout) > 0
    assert re.findall(r"socket\(AF_INET6?.*", trace.read_text()) == []
    assert sorted(home.rglob("*")) == []
