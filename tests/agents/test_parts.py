"""What an agent is made of: its wheels, its libraries, its configuration, its unit, and the judgement on a machine."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from appliance import __version__, config, paths
from appliance.core.agents import layout, needs, payload, probe, setup, target, wheel, wheelhouse
from appliance.errors import AbsentError, ConfigError
from appliance.settings import Settings
from tests.support import capability

ARM = target.Target("aarch64", "glibc", (2, 36), (3, 12))
KEY = "k" * 43


def settings(**groups: Any) -> Settings:
    return Settings.model_validate({"kafka": {"bootstrap_servers": "192.0.2.9:9092"}, **groups})


def test_the_wheel_of_this_package_is_the_same_each_time_and_has_code_alone(tmp_path: Path) -> None:
    package = tmp_path / "appliance"
    (package / "__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "a.sql", "__pycache__/x.pyc", "secret.key", "notes.txt"):
        (package / name).write_text("x = 1\n")
    (package / "link.py").symlink_to("/etc/hostname")
    name, data = wheel.own(["click==8"], package, "1.2.3")
    assert wheel.own(["click==8"], package, "1.2.3")[1] == data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        found = set(archive.namelist())
        assert b"Requires-Dist: click==8" in archive.read("prime_spark-1.2.3.dist-info/METADATA")
    assert {each for each in found if each.startswith("appliance/")} == {"appliance/__init__.py", "appliance/a.sql"}
    assert name == "prime_spark-1.2.3-py3-none-any.whl"
    (package / "__init__.py").write_text("x = 2\n")
    assert wheel.own(["click==8"], package, "1.2.3")[1] != data


def test_a_library_is_made_anew_as_it_was_installed() -> None:
    name, data = wheel.rebuilt("click")
    assert wheel.rebuilt("click") == (name, data)
    assert name.startswith("click-")
    assert name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert "click/core.py" in archive.namelist()
        assert not [each for each in archive.namelist() if each.endswith((".pyc", "INSTALLER"))]
    with pytest.raises(AbsentError, match="not installed here"):
        wheel.rebuilt("no-such-library")


def test_a_worker_starts_with_nothing_but_what_is_sent(tmp_path: Path) -> None:
    here = target.own()
    made = payload.release(needs.closure(here))
    built = payload.build(made, here, wheelhouse.Cache(tmp_path / "cache", 1 << 30))
    with tarfile.open(built.path) as archive:
        archive.extractall(tmp_path, filter="data")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=100)
    python, pip = tmp_path / "venv/bin/python", next((tmp_path / "pip").glob("pip-*.whl")) / "pip"
    command: list[str | Path] = [python, pip, "--isolated", "-q", "--disable-pip-version-check", "install", "--no-index"]
    command += ["--no-compile"]
    command += ["--find-links", tmp_path / "wheels", "--require-hashes", "--no-deps", "-r", tmp_path / "requirements.txt"]
    subprocess.run(command, check=True, timeout=200, env={"PIP_CONFIG_FILE": "/dev/null", "HOME": str(tmp_path)})
    loads = "import aiokafka, httpx, appliance.cli, appliance.agent.process\n"
    loads += "from appliance.agent import roles; from appliance.core.clock import SystemClock; from pathlib import Path\n"
    loads += (
        "from appliance.settings import Settings; from appliance.core.secrets import Secrets; from appliance import paths\n"
    )
    loads += "s = Settings.model_validate({'kafka': {'bootstrap_servers': '127.0.0.1:1'}, 'tasks': {'folders': ['/tmp']}})\n"
    loads += "secrets = Secrets(Path('s')); secrets.put('tasks.key', b'k' * 43)\n"
    loads += "around = roles.Surroundings(s, paths.find({'PRIME_SPARK_HOME': '.'}), secrets, SystemClock())\n"
    loads += "w = roles.role_of('worker').make(around)\n"
    loads += "print(sorted(each.name for each in w.executor.capabilities()))\n"
    said = subprocess.run([python, "-I", "-c", loads], capture_output=True, text=True, check=False, timeout=100, cwd=tmp_path)
    assert "file_transfer" in said.stdout, said.stderr
    told = subprocess.run(
        [tmp_path / "venv/bin/prime-spark", "--version"], capture_output=True, text=True, check=True, timeout=100
    )
    assert told.stdout == f"prime-spark {__version__}\n"
    assert built.size < 20_000_000
    assert payload.build(made, here, wheelhouse.Cache(tmp_path / "cache", 1 << 30)) == built


def test_the_libraries_are_those_that_the_machine_needs() -> None:
    found = needs.closure(ARM)
    assert {"aiokafka", "pydantic-core", "msgspec", "certifi"} <= set(found)
    assert not {"textual", "duckdb", "onnxruntime", "numpy", "asyncssh", "minio"} & set(found)
    here, missing = wheelhouse.local(ARM, found)
    assert "click" in here
    assert {"msgspec", "pydantic-core", "aiokafka"} <= set(missing)
    own_here, own_missing = wheelhouse.local(target.own(), needs.closure(target.own()))
    assert own_missing == {}
    assert set(own_here) == set(needs.closure(target.own()))


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("cp312-cp312-manylinux_2_28_aarch64", True),
        ("cp312-cp312-manylinux_2_39_aarch64", False),
        ("cp311-abi3-manylinux2014_aarch64", True),
        ("cp312-cp312-manylinux2014_x86_64", False),
        ("cp312-cp312-musllinux_1_2_aarch64", False),
        ("py3-none-any", True),
    ],
)
def test_a_machine_takes_wheels_of_its_kind(tag: str, fits: bool) -> None:
    assert (tag in ARM.tags()) is fits


def test_wheels_for_another_kind_of_machine_come_from_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {
        "thing.py": (b"", False),
        "thing-1.0.dist-info/METADATA": (b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n", False),
        "thing-1.0.dist-info/WHEEL": (b"Wheel-Version: 1.0\nTag: cp312-cp312-manylinux_2_28_aarch64\n", False),
    }
    name = "thing-1.0-cp312-cp312-manylinux_2_28_aarch64.whl"
    (tmp_path / name).write_bytes(wheel.packed(parts, "thing-1.0.dist-info/RECORD"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert list(wheelhouse.fetch(ARM, {"thing": "1.0"})) == [name]
    with pytest.raises(AbsentError, match=r"no wheels of thing for Python 3.13") as told:
        wheelhouse.fetch(target.Target("aarch64", "glibc", (2, 36), (3, 13)), {"thing": "1.0"})
    assert "agents.libraries" in told.value.next_step


def test_the_cache_is_bounded_and_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = wheelhouse.Cache(tmp_path / "c", 100)
    for number, name in enumerate(("a", "b")):
        path = cache.put(name, b"x" * 40)
        os.utime(path, (number, number))
    assert cache.get("a") is not None
    cache.put("c", b"x" * 40)
    assert sorted(each.stem for each in (tmp_path / "c").iterdir()) == ["a", "c"]
    cache.put("d", b"x" * 400)
    assert [each.stem for each in (tmp_path / "c").iterdir()] == ["d"]
    assert cache.get("b") is None


def test_what_a_power_cut_left_of_an_archive_is_not_sent(tmp_path: Path) -> None:
    cache = wheelhouse.Cache(tmp_path / "c", 100)
    path = cache.put("a.tar", b"x" * 40)
    assert cache.get("a.tar") == path
    path.write_bytes(b"x" * 20)
    assert cache.get("a.tar") is None
    assert list((tmp_path / "c").iterdir()) == []


def test_the_configuration_is_one_that_an_agent_takes(tmp_path: Path) -> None:
    mine = settings(
        agents={"commands": {"disk usage".replace(" ", "-"): {"program": "/bin/df", "arguments": ['"quoted" \\ ü']}},
                "http_hosts": ["a.example.org"], "limit": 7},
        tasks={"lease_seconds": 33, "commands": {"own": {"program": "/bin/true"}}}, node={"device_id": "control-pc"},
    )  # fmt: skip
    made = setup.make("node-1", mine, {"tasks.key": KEY, "kafka.password": "p"})
    (tmp_path / "config.toml").write_text(made.config)
    where = paths.find({"PRIME_SPARK_HOME": str(tmp_path / "home"), "PRIME_SPARK_CONFIG": str(tmp_path / "config.toml")})
    theirs = config.load(where, {})
    assert (theirs.node.device_id, theirs.tasks.limit, theirs.tasks.lease_seconds) == ("node-1", 7, 33)
    assert theirs.tasks.commands["disk-usage"].arguments == ('"quoted" \\ ü',)
    assert "own" not in theirs.tasks.commands
    assert theirs.kafka.bootstrap_servers == "192.0.2.9:9092"
    assert made.secrets == {"tasks.key": KEY, "kafka.password": "p"}
    assert KEY not in made.config + made.unit
    assert "LoadCredential=kafka.password:/etc/prime-spark-agent/secrets/kafka.password" in made.unit


def test_backups_go_along_and_only_to_where_an_agent_sees_and_may_write() -> None:
    def with_backup(target: str, folder: str = "/srv/notes") -> setup.Setup:
        kept = {"backups": {"notes": {"folders": [folder], "target": target}}}
        return setup.make("n", settings(agents=kept), {"tasks.key": KEY})

    made = with_backup("/mnt/nas/backups")
    assert tomllib.loads(made.config)["tasks"]["backups"]["notes"]["target"] == "/mnt/nas/backups"
    assert "ReadWritePaths=-/mnt/nas/backups\n" in made.unit
    assert "ReadWritePaths=-/srv/notes" not in made.unit
    for wrong, why in (("s3://bucket/notes", "no key of S3"), ("/home/ada/kept", "do not see /home/ada/kept")):
        with pytest.raises(ConfigError, match=why):
            with_backup(wrong)
    with pytest.raises(ConfigError, match="do not see /root/notes"):
        with_backup("/mnt/nas/backups", "/root/notes")


def test_certificates_go_along_and_the_private_key_is_a_secret(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text(name)
    kafka = {"bootstrap_servers": "192.0.2.9:9092", "tls": True} | {
        f"{each}_file": tmp_path / each for each in ("ca", "cert", "key")
    }
    made = setup.make("n", settings(kafka=kafka), {"tasks.key": KEY})
    assert made.files == {"kafka-ca.pem": "ca", "kafka-cert.pem": "cert"}
    assert made.secrets["kafka.key"] == "key"
    assert 'key_file = "/run/credentials/prime-spark-agent.service/kafka.key"' in made.config
    (tmp_path / "ca").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        setup.make("n", settings(kafka=kafka), {"tasks.key": KEY})


@pytest.mark.parametrize("servers", ["127.0.0.1:9092", "localhost:9092", "192.0.2.9:9092,[::1]:9092", "0.0.0.0:9092"])
def test_a_kafka_that_is_this_machine_is_refused_unless_agents_have_an_address_of_it(servers: str) -> None:
    with pytest.raises(ConfigError) as told:
        setup.brokers(settings(kafka={"bootstrap_servers": servers}))
    assert "agents.kafka_servers" in told.value.next_step
    own = settings(kafka={"bootstrap_servers": servers}, agents={"kafka_servers": "192.0.2.1:9092"})
    assert setup.brokers(own) == "192.0.2.1:9092"
    with pytest.raises(ConfigError, match="No Kafka"):
        setup.brokers(settings(kafka={"bootstrap_servers": ""}))


def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    from shutil import which

    capability(which("systemd-analyze") is not None, "systemd-analyze comes with Debian's systemd")
    text = setup.unit({"tasks.key": KEY}, ["/srv/in and out"], 512)
    assert 'ReadWritePaths=-"/srv/in and out"' in text
    path = tmp_path / layout.UNIT
    path.write_text(text.replace(f"{layout.HOME}/current/venv/bin/prime-spark", "/bin/true"))
    said = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0, said.stderr
    assert layout.UNIT not in said.stderr
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", str(path)]
    rated = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert rated.returncode == 0, rated.stdout[-400:]


def told(**changes: str) -> probe.Found:
    values = {
        "kernel": "Linux", "arch": "x86_64", "libc": "glibc 2.36", "python": "/usr/bin/python3 3.11.2", "systemd": "252.39",
        "LoadState": "not-found", "ActiveState": "inactive", **changes,
    }  # fmt: skip
    return probe.parse("\n".join(f"{name}={value}" for name, value in values.items() if value))


@pytest.mark.parametrize(
    ("changes", "why", "step"),
    [
        ({}, "", ""),
        ({"python": ""}, "there is no Python", "apt-get install python3"),
        ({"python": "/usr/bin/python3 3.9.2"}, "its Python is 3.9.2; 3.11 to 3.13 is needed", "beside it"),
        ({"python": "/usr/bin/python3 3.11.2 incomplete"}, "cannot make virtual environments", "python3-venv"),
        ({"systemd": ""}, "no systemd", "docs/agents.md"),
        ({"systemd": "245 (245.4)"}, "its systemd is 245 (245.4); 247 is the least", "upgrade"),
        ({"fixed": "/opt"}, "nothing can be written in /opt", "remount"),
        ({"unit": "foreign"}, "somebody else's unit", "move it away"),
        ({"FragmentPath": "/lib/systemd/system/prime-spark-agent.service"}, "somebody else's unit", "move it away"),
        ({"home": "foreign"}, "not of us", "move it away"),
        ({"LoadState": "masked"}, "masked", "unmask"),
        ({"lacks": "tar"}, "there is no tar", "install it"),
    ],
)
def test_machines_that_cannot_have_an_agent_are_told_apart(changes: dict[str, str], why: str, step: str) -> None:
    reason, next_step = probe.obstacle(told(**changes))
    assert why in reason
    assert bool(reason) is bool(why)
    assert step in next_step


def test_the_python_is_like_our_own_where_there_is_one() -> None:
    text = "python=/usr/bin/python3.13 3.13.1\npython=/usr/bin/python3.12 3.12.0\nlibc=glibc 2.36\narch=x86_64\n"
    mine = f"python=/opt/own 3.{sys.version_info.minor}.4\n"
    assert probe.parse(text + mine).python == probe.Python("/opt/own", f"3.{sys.version_info.minor}.4", True)
    found = probe.parse("python=/a 3.9.1\npython=/b 3.13.0\nlibc=musl libc (aarch64) Version 1.2.4\narch=aarch64\n")
    assert found.target() == target.Target("aarch64", "musl", (1, 2), (3, 13))
    assert "musllinux_1_2_aarch64" in found.target().platforms


def test_every_library_that_is_named_is_one_of_the_appliance() -> None:
    rows = Path(__file__).resolve().parents[2].joinpath("requirements/run.txt").read_text().splitlines()
    pinned = {Requirement(row).name.lower().replace("_", "-") for row in rows if row and not row.startswith("#")}
    assert {each.replace("_", "-") for each in needs.NEEDED} <= pinned
    assert set(needs.closure(ARM)) <= pinned | {"typing-extensions"}
