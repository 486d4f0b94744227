"""Settings: a wrong one is named with file, line, key and fix; nothing is half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import config, configfile, paths
from appliance.core.alerts.rules import effective
from appliance.errors import ConfigError
from appliance.paths import Paths
from appliance.settingalerts import RuleSettings


@pytest.fixture
def where(tmp_path: Path) -> Paths:
    return paths.find({"PRIME_SPARK_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[telemetry\ninterval_seconds = 5", r"config\.toml is not valid TOML: .*line 1"),
        ("[telemetry]\n\ninterval = 5", r"config\.toml:3: unknown key telemetry\.interval.*telemetry\.interval_seconds"),
        ("[telemetri]\nx = 5", r"config\.toml:1: unknown key telemetri.*telemetry"),
        ("# one\n[telemetry]\ninterval_seconds = 'x'", r"config\.toml:3: telemetry\.interval_seconds: .*not 'x'"),
        ("[ssh]\nport = 99999", r"config\.toml:2: ssh\.port: .*65535, not 99999"),
        ("ssh = 5", r"config\.toml:1: "),
        ("[alerts.rules.cpu]\nthreshold = 70\nfoo = 1", r"config\.toml:3: alerts\.rules\.cpu\.foo"),
    ],
)
def test_a_wrong_file_is_told_to_the_line(where: Paths, text: str, told: str) -> None:
    where.config.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        config.load(where, {})
    assert caught.value.exit_code == 2
    assert caught.value.next_step


def test_all_that_is_wrong_in_a_file_is_told_at_once(where: Paths) -> None:
    for text, lines in (("[ssh]\nhots = 1\nprt = 1", (2, 3)), ("[ssh]\nport = 99999\nenabled = 7", (2, 3))):
        where.config.write_text(text)
        with pytest.raises(ConfigError) as caught:
            config.load(where, {})
        told = (caught.value, *caught.value.others)
        assert sorted(each.message.split(": ")[0] for each in told) == [f"{where.config}:{line}" for line in lines]


def test_sources_win_in_order(where: Paths, tmp_path: Path) -> None:
    boot = tmp_path / "boot.toml"
    both = Paths(where.config, boot, where.data, where.run, where.logs)
    where.config.write_text("[log]\nlevel = 'DEBUG'\nformat = 'json'\n[ssh]\nport = 1")
    boot.write_text("[ssh]\nport = 2")
    loaded = config.load(both, {"LOG_LEVEL": "ERROR"})
    assert (loaded.log.level, loaded.log.format, loaded.ssh.port) == ("ERROR", "json", 2)
    with pytest.raises(ConfigError, match="environment variable LOG_LEVEL"):
        config.load(both, {"LOG_LEVEL": "LOUD"})


def test_the_template_is_valid_and_shows_every_key(where: Paths) -> None:
    configfile.write_new(where.config)
    assert config.load(where, {}) == config.load(paths.find({"PRIME_SPARK_HOME": "/nonexistent"}), {})
    text = where.config.read_text()
    assert all(f"# {key[-1]} = " in text for key in config.all_keys())
    assert where.config.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="exists"):
        configfile.write_new(where.config)


def test_a_change_keeps_comments_and_refuses_whole(where: Paths) -> None:
    where.config.write_text("# mine\n[ssh]\nport = 1 # keep\n")
    configfile.change(where, "ssh.port", "2222", {})
    configfile.change(where, "node.device_id", "pc-2", {})
    text = where.config.read_text()
    assert "# mine" in text
    assert "port = 2222 # keep" in text
    assert config.load(where, {}).node.device_id == "pc-2"
    for key, value in (("ssh.port", "abc"), ("ssh.prt", "1"), ("ssh.port", "1\n[log]\nlevel = 'DEBUG'")):
        with pytest.raises(ConfigError):
            configfile.change(where, key, value, {})
    assert where.config.read_text() == text
    assert [path.name for path in where.config.parent.iterdir()] == ["config.toml"]


def test_a_place_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        configfile.change(paths.find({"PRIME_SPARK_HOME": str(tmp_path / "file/home")}), "ssh.port", "2222", {})
    assert caught.value.next_step


def test_variables_that_nothing_reads_are_told() -> None:
    unread = {"MLFLOW_PORT": "5000", "AIRFLOW_PORT": "8081"}
    assert config.unread_variables(unread) == ["AIRFLOW_PORT", "MLFLOW_PORT"]
    assert config.unread_warning(unread) == "set, but not read by this version: AIRFLOW_PORT, MLFLOW_PORT"
    assert config.unread_warning({"LOG_LEVEL": "INFO"}) == ""
    assert config.NOT_YET & set(config.env_names()) == set(), "told as unread, and read"
    assert config.unread_variables({"MLFLOW_PORT": "5000", "LOG_LEVEL": "INFO", "MINIO_BUCKET": ""}) == ["MLFLOW_PORT"]


def test_an_unknown_alert_rule_is_told() -> None:
    with pytest.raises(ConfigError, match="no alert rule is called cpuu"):
        effective({"cpuu": RuleSettings(threshold=1)})
    changed = {rule.name: rule for rule in effective({"cpu": RuleSettings(threshold=1)})}
    assert (changed["cpu"].threshold, changed["cpu"].for_seconds) == (1, 300)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[ssh]\nport = true", "ssh.port: Input should be a valid integer, not True"),
        ('[ssh]\nport = "8022"', "ssh.port: Input should be a valid integer, not '8022'"),
        ("[ssh]\nenabled = 1", "ssh.enabled: Input should be a valid boolean, not 1"),
        ("[telemetry]\ninterval_seconds = true", "telemetry.interval_seconds: Input should be a valid number, not True"),
        ("[node]\ndevice_id = 7", "node.device_id: Input should be a valid string, not 7"),
        ("[ssh]\nport = 8022.5", "ssh.port: Input should be a valid integer"),
    ],
)
def test_no_type_is_taken_for_another(home: Path, line: str, told: str) -> None:
    (home / "config.toml").write_text(line)
    with pytest.raises(ConfigError) as caught:
        config.load(paths.find(), {})
    assert f"{home}/config.toml:2: {told}" in caught.value.message


def test_a_whole_number_does_for_a_number_and_variables_are_read_as_text(home: Path) -> None:
    (home / "config.toml").write_text("[telemetry]\ninterval_seconds = 7\n[nas]\npath = '/srv/nas'")
    found = config.load(paths.find(), {"API_PORT": "9000", "LOG_LEVEL": "DEBUG"})
    assert (found.telemetry.interval_seconds, found.api.port, found.log.level) == (7.0, 9000, "DEBUG")
    assert found.nas.path == Path("/srv/nas")
    with pytest.raises(ConfigError, match="API_PORT"):
        config.load(paths.find(), {"API_PORT": "many"})
