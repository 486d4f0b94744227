"""Settings by nasty files and nasty keys: every fault is told as one of ours, and the file stays what it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance import config, configfile, configfix, paths
from appliance.configfix import fix
from appliance.errors import ConfigError
from appliance.paths import Paths

KEYS = [".".join(key) for key in config.all_keys()]


@pytest.fixture
def where(tmp_path: Path) -> Paths:
    return paths.find({"PRIME_SPARK_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("text", "told", "fix"),
    [
        ("# a\nssh = 5", r"config\.toml:2: ssh is a table, not a value", r"below \[ssh\]"),
        ("[[ssh]]\nport = 1", r"config\.toml:1: ssh is a table", r"below \[ssh\]"),
        ("[alerts]\nrules = 5", r"config\.toml:2: alerts\.rules is a table", "below"),
        ("[alerts.rules.cpuu]\nthreshold = 7", r"config\.toml:1: unknown key alerts\.rules\.cpuu", r"alerts\.rules\.cpu\?"),
        ('"ssh.port" = 5', r"config\.toml:1: unknown key ssh\.port", "without quotes"),
        ("[ssh.port]\nx = 1", r"config\.toml:1: ssh\.port: .*integer", "8022"),
        ("[telemetry]\ninterval_seconds = nan", r"config\.toml:2: telemetry\.interval_seconds", "5.0"),
        ('"" = 1', r"config\.toml:1: unknown key", "lists all keys"),
    ],
)
def test_a_key_in_the_wrong_place_is_told(where: Paths, text: str, told: str, fix: str) -> None:
    where.config.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        config.load(where, {})
    assert re.search(fix, caught.value.next_step), caught.value.next_step


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ('[ssh]\nenabled = "maybe"', "write true or false; the default is true."),
        ("[ssh]\nport = 70000", "write a whole number from 0 to 65535; the default is 8022."),
        ("[telemetry]\ninterval_seconds = 0.1", "write a number from 0.5 to 3600; the default is 5.0."),
        ("[memory]\ndisk_high_percent = 0", "write a number above 0 and up to 100; the default is 95.0."),
        ("[memory]\ndisk_max_mib = 0", "write a whole number of 1 or more; the default is 4096."),
        ("[headless]\nled_pin = 99", "write a whole number from 0 to 27; it may be left out."),
        ('[log]\nlevel = "x"', 'write one of "DEBUG", "INFO", "WARNING", "ERROR"; the default is "INFO".'),
        ('[alerts.rules.cpu]\nseverity = "x"', 'write one of "info", "warning", "critical"; it may be left out.'),
        ("[alerts.rules.cpu]\ntreshold = 5", "did you mean threshold?"),
        ("[alerts.rules]\ncpu = 5", "write its keys below [alerts.rules.cpu]."),
        ('[s3]\nbucket = "a"', 'write a text in quotes of 3 to 63 characters; the default is "prime-spark-ai".'),
        ("[inference]\nmodel_dir = 5", "write a text in quotes; it may be left out."),
        (
            '[voice]\nwake_words = ["hey spark", "1"]',
            "write a word or some to listen for, 3 to 40 letters, such as hey spark, in quotes.",
        ),
    ],
)
def test_the_next_step_of_a_wrong_value_says_what_to_write(where: Paths, text: str, fix: str) -> None:
    where.config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(where, {})
    assert caught.value.next_step == fix


def test_wake_words_are_a_list_or_a_text_with_commas(where: Paths) -> None:
    for text in ('["ok computer", "spark"]', '"ok computer, spark"'):
        where.config.write_text(f"[voice]\nwake_words = {text}")
        assert config.load(where, {}).voice.wake_words == ("ok computer", "spark")
    where.config.write_text('[voice]\nwake_words = ["1"]')
    with pytest.raises(ConfigError, match=r"voice\.wake_words\.0: .*, not '1'"):
        config.load(where, {})
    where.config.unlink()
    assert config.load(where, {"WAKE_WORDS": "ok computer, spark"}).voice.wake_words == ("ok computer", "spark")


def test_a_broken_file_is_not_sent_to_a_command_that_refuses_it(where: Paths) -> None:
    where.config.write_text("[ssh\n")
    with pytest.raises(ConfigError) as caught:
        config.load(where, {})
    assert "config init" not in caught.value.next_step
    assert "KEY = VALUE" in caught.value.next_step


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[node]\ndevice_id = "a b"', "letters, digits, dots, dashes and underscores, in quotes"),
        ('[memory]\nredis_max_memory = "2"', "a whole number followed by kb, mb or gb"),
        ('[sync]\nnamespaces = ["a"]', "such as notes=merge"),
    ],
)
def test_a_form_is_told_in_words_and_not_as_a_pattern(where: Paths, text: str, words: str) -> None:
    where.config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(where, {})
    assert words in caught.value.next_step
    assert "^" not in str(caught.value)


def test_every_setting_has_words_for_what_to_write() -> None:
    for key in config.all_keys():
        text = fix(key, quoted=True)
        assert text.startswith("write "), (key, text)
        assert "\\" not in text, (key, text)
        schema = configfix._at(configfix.of_settings(), key) or {}
        if "pattern" in schema or "pattern" in schema.get("items", {}):
            assert configfix.WORDS.keys() & {key, (*key, "0")}, f"{key} has a pattern and no words"


def test_a_variable_is_told_without_quotes(where: Paths) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(where, {"LOG_LEVEL": "LOUD"})
    assert caught.value.next_step == "write one of DEBUG, INFO, WARNING, ERROR; the default is INFO."


def test_a_file_that_cannot_be_read_is_told(where: Paths) -> None:
    where.config.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        config.load(where, {})
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        configfile.change(where, "ssh.port", "1", {})
    assert where.config.read_bytes() == b"# caf\xe9\n"
    where.config.unlink()
    where.config.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(where, {})


def test_files_that_disagree_about_a_table_are_told_of_the_later_one(where: Paths, tmp_path: Path) -> None:
    where.config.write_text("[ssh]\nport = 1\n")
    (tmp_path / "boot.toml").write_text("\n[ssh.port]\nx = 1\n")
    both = Paths(where.config, tmp_path / "boot.toml", where.data, where.run, where.logs)
    with pytest.raises(ConfigError, match=r"boot\.toml:2: ssh\.port"):
        config.load(both, {})


@pytest.mark.parametrize(
    "key", ["ssh port", "", ".", "ssh..port", "ssh", "ssh.port.x", "alerts.rules.cpuu.threshold", "ssh]\n[x"]
)
def test_a_key_that_is_none_changes_nothing(where: Paths, key: str) -> None:
    text = "[ssh] # mine\nport = 1\n"
    where.config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configfile.change(where, key, "1", {})
    assert caught.value.next_step
    assert where.config.read_text() == text
    assert [path.name for path in where.config.parent.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ssh.port = 5 # hm\n", "ssh.port = 7 # hm\n"),
        ("ssh = {port = 5} # in\n", "ssh = {port = 7} # in\n"),
        ("[ssh]\n# only\n\n[log]\n", "[ssh]\n# only\nport = 7\n\n[log]\n"),
    ],
)
def test_every_way_to_write_a_table_is_kept(where: Paths, before: str, after: str) -> None:
    where.config.write_text(before)
    configfile.change(where, "ssh.port", "7", {})
    assert where.config.read_text() == after


def test_the_threshold_of_a_rule_can_be_changed(where: Paths) -> None:
    configfile.change(where, "alerts.rules.cpu.threshold", "70", {})
    configfile.change(where, "alerts.rules.cpu.for_seconds", "5", {})
    changed = config.load(where, {}).alerts.rules["cpu"]
    assert (changed.threshold, changed.for_seconds) == (70, 5)


def test_where_a_value_comes_from_is_shown(where: Paths) -> None:
    where.config.write_text("[log]\nlevel = 'DEBUG'\nformat = 'json'\n")
    environ = {"LOG_LEVEL": "ERROR"}
    shown = {row["key"]: row for row in configfile.rows(config.load(where, environ), where, environ)}
    assert (shown["log.level"]["value"], shown["log.level"]["origin"]) == ("ERROR", "environment LOG_LEVEL")
    assert (shown["log.format"]["value"], shown["log.format"]["origin"]) == ("json", str(where.config))
    assert (shown["ssh.port"]["value"], shown["ssh.port"]["origin"]) == (8022, "default")
    assert set(shown) == set(KEYS)
    assert all(row["meaning"] for row in shown.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KEYS) | st.text(max_size=20), st.text(max_size=20))
def test_any_change_is_whole_or_refused(where: Paths, key: str, value: str) -> None:
    """Whatever is asked for: the file is valid before and after, and keeps its comment."""
    where.config.write_text("# mine\n[ssh]\nport = 1\n")
    refused: ConfigError | None = None
    try:
        configfile.change(where, key, value, {})
    except ConfigError as error:
        refused = error
    if refused is not None:
        assert refused.next_step
        assert where.config.read_text() == "# mine\n[ssh]\nport = 1\n"
    config.load(where, {})
    assert tomlkit.parse(where.config.read_text()).as_string().startswith("# mine\n")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(alphabet="[]=.\"'\n# ashrulecpoting15{},", max_size=60).map(str.encode))
def test_any_file_loads_or_is_told(where: Paths, body: bytes) -> None:
    where.config.write_bytes(body)
    told = str(where.config)
    try:
        config.load(where, {})
    except ConfigError as error:
        told = error.message
    assert str(where.config) in told
