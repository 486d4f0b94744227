"""Loads the settings, and says exactly where a wrong one stands.

Order: defaults < configuration file < boot partition's file < environment. An error names file, line, key and fix.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_origin

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from appliance.configfix import fix
from appliance.errors import ConfigError
from appliance.paths import Paths
from appliance.settingforms import SettingError
from appliance.settings import Settings, meanings

NOT_YET = frozenset(
    [
        "CONTROL_PC_IP",
        "SPARK_AGENT_IP",
        "EDGE_NAS_IP",
        "EDGE_ROUTER_IP",
        "PRIMECORE1_IP",
        "PRIMECORE2_IP",
        "PRIMECORE3_IP",
        "PRIMECORE4_IP",
        "MLFLOW_PORT",
        "AIRFLOW_PORT",
    ]
)
"""Documented environment names that this version has no reader for; the start and `config check` say so where one is set."""


FAULTS = {"extra_forbidden": "unknown key", "string_pattern_mismatch": "Input should have the form that the next step names"}
"""Faults whose own text helps nobody."""
NAMES = "give one of letters, digits and the signs . _ - that begins with a letter or a digit, such as nas-1."
RULES = ("alerts", "rules")
"""The one table whose keys are names, not settings."""


def load(paths: Paths, environ: Mapping[str, str]) -> Settings:
    """The settings of this machine.

    Raises:
        ConfigError: A file or variable is wrong; the message names it and the fix.
    """
    merged: dict[str, Any] = {}
    origins: dict[tuple[str, ...], str] = {}
    for path in (paths.config, paths.boot_config):
        if path is not None and path.exists():
            text, document = read(path)
            check_keys(document, path, text)
            _merge(merged, document, origins, path, text, ())
    for name, key in env_names().items():
        if environ.get(name):
            _put(merged, key, _from_text(key, environ[name]))
            origins[key] = f"environment variable {name}"
    return _validated(merged, origins)


def read(path: Path) -> tuple[str, dict[str, Any]]:
    """A TOML file as text and as data. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}.", "mend that line: KEY = VALUE below its [TABLE], texts in quotes."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.", "save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "make it readable for this user.") from error


def check_keys(document: Mapping[str, Any], path: Path, text: str, below: tuple[str, ...] = ()) -> None:
    """Refuse unknown keys, naming the line of each and the nearest known one. Raises ConfigError.

    Args:
        document: Settings.
        path: The file with them.
        text: What stands in it.
        below: The table in which they stand there.
    """
    if faults := list(_unknown(document, path, text, below)):
        raise _together(faults)


def _unknown(document: Mapping[str, Any], path: Path, text: str, below: tuple[str, ...]) -> Iterator[ConfigError]:
    known = set(all_keys())
    for key in _leaves(document, ()):
        if _is_rule(key) or (key in known and key != RULES):
            continue
        where, name = f"{path}:{line_of(text, (*below, *key))}", ".".join(key)
        if any(key == full[: len(key)] for full in known):
            yield ConfigError(f"{where}: {name} is a table, not a value.", f"write its keys below [{name}].")
        else:
            yield ConfigError(f"{where}: unknown key {name}.", _nearest(key, known))


def _together(faults: Sequence[ConfigError]) -> ConfigError:
    """All that is wrong, as the first error with the others."""
    first, *others = faults
    first.others = tuple(others)
    return first


def check_part(document: Mapping[str, Any], path: Path, text: str, below: tuple[str, ...]) -> Settings:
    """Settings that stand in a table of another file, checked like the configuration. Arguments and errors of `check_keys`."""
    unknown = list(_unknown(document, path, text, below))
    origins: dict[tuple[str, ...], str] = {}
    _merge({}, document, origins, path, text, below)
    try:
        found = _validated(document, {key[len(below) :]: where for key, where in origins.items()})
    except ConfigError as error:
        if not unknown:
            raise
        told = {each.message.split(": ")[0] for each in unknown}  # their places: they are no settings' forms either
        raise _together([*unknown, *(each for each in _each(error) if each.message.split(": ")[0] not in told)]) from None
    if unknown:
        raise _together(unknown)
    return found


def _each(error: ConfigError) -> list[ConfigError]:
    """An error and its others, each alone."""
    return [each for each in (error, *error.others) if isinstance(each, ConfigError)]


def _nearest(key: tuple[str, ...], known: set[tuple[str, ...]]) -> str:
    name = ".".join(key)
    names = {".".join(full[:size]) for full in known for size in range(1, len(full) + 1)}
    names |= {".".join((*RULES, rule)) for rule in _rule_names()}
    if name in names:
        return f"write {name} without quotes around it."
    near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "remove it; `prime-spark config show` lists all keys."


def unread_variables(environ: Mapping[str, str]) -> list[str]:
    """Documented variables that are set although nothing reads them yet."""
    return sorted(NOT_YET & {name for name, value in environ.items() if value})


def unread_warning(environ: Mapping[str, str]) -> str:
    """One line for the log at the start that names the documented variables without effect; empty where there is none."""
    names = unread_variables(environ)
    return f"set, but not read by this version: {', '.join(names)}" if names else ""


def env_names() -> dict[str, tuple[str, ...]]:
    """Environment variable → key path."""
    found = {}
    for key, field in _fields(Settings, ()):
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "env" in extra:
            found[str(extra["env"])] = key
    return found


def all_keys() -> Iterator[tuple[str, ...]]:
    """Every key path, groups not counted."""
    for key, _ in _fields(Settings, ()):
        yield key


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """The group of settings that a field holds, or None for a plain setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def meaning(key: tuple[str, ...]) -> str:
    """What a setting does; empty for one that is not there."""
    model: type[BaseModel] | None = Settings
    for name in key[:-1]:
        model = group_of(model.model_fields[name]) if model is not None else None
    return meanings().get((model.__name__, key[-1]), "") if model is not None else ""


def _fields(model: type[BaseModel], prefix: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    for name, field in model.model_fields.items():
        group = group_of(field)
        if group is not None:
            yield from _fields(group, (*prefix, name))
        else:
            yield (*prefix, name), field


def _is_rule(key: tuple[str, ...]) -> bool:
    """Whether this is [alerts.rules.NAME] of a rule that exists; what stands in it is checked by validation."""
    return key[:2] == RULES and len(key) == 3 and key[2] in _rule_names()


def _rule_names() -> set[str]:
    from appliance.core.alerts.rules import DEFAULTS

    return {rule.name for rule in DEFAULTS}


def _leaves(document: Mapping[str, Any], prefix: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    groups = {key[: index + 1] for key in all_keys() for index in range(len(key) - 1)} | {RULES}
    for name, value in document.items():
        key = (*prefix, name)
        if isinstance(value, dict) and key in groups:
            yield from _leaves(value, key)
        else:
            yield key


def _merge(
    into: dict[str, Any],
    document: Mapping[str, Any],
    origins: dict[tuple[str, ...], str],
    path: Path,
    text: str,
    prefix: tuple[str, ...],
) -> None:
    for name, value in document.items():
        key = (*prefix, name)
        origins[key] = f"{path}:{line_of(text, key)}"
        if isinstance(value, dict):
            if not isinstance(into.get(name), dict):
                into[name] = {}
            _merge(into[name], value, origins, path, text, key)
        else:
            into[name] = value


def _from_text(key: tuple[str, ...], text: str) -> Any:
    """A variable's text as the setting's type: a text stays one, anything else is read as TOML has it."""
    field = dict(_fields(Settings, ()))[key]
    if field.annotation in (str, Path) or get_origin(field.annotation) is Literal:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(document: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for name in key[:-1]:
        document = document.setdefault(name, {})
    document[key[-1]] = value


def _finite(document: Mapping[str, Any], origins: dict[tuple[str, ...], str], prefix: tuple[str, ...] = ()) -> None:
    """Refuse the numbers that are none; JSON would make "not given" of them. Raises ConfigError."""
    for name, value in document.items():
        key = (*prefix, name)
        if isinstance(value, Mapping):
            _finite(value, origins, key)
        elif any(
            isinstance(item, float) and not math.isfinite(item) for item in (value if isinstance(value, list) else [value])
        ):
            raise ConfigError(f"{origins.get(key, 'settings')}: {'.'.join(key)}: {value} is no number.", fix(key, quoted=True))


def _validated(document: Mapping[str, Any], origins: dict[tuple[str, ...], str]) -> Settings:
    _finite(document, origins)
    try:
        return Settings.model_validate_json(msgspec.json.encode(document, enc_hook=str), strict=True)
    except ValidationError as error:
        raise _together([_fault(each, origins) for each in error.errors(include_url=False)]) from None


def _fault(fault: Any, origins: Mapping[tuple[str, ...], str]) -> ConfigError:
    """What pydantic found, with its place and what to write."""
    key = tuple(str(part) for part in fault["loc"])
    where = next((origins[key[:size]] for size in range(len(key), 0, -1) if key[:size] in origins), "settings")
    reason = fault.get("ctx", {}).get("error")
    if isinstance(reason, SettingError):
        return ConfigError(f"{where}: {'.'.join(key)}: {reason}.", reason.next_step)
    if key[-1:] == ("[key]",):  # of a table whose keys are names
        return ConfigError(f"{where}: {'.'.join(key[:-2])}: {fault['input']!r} is no name.", NAMES)
    given = "" if fault["type"] == "extra_forbidden" else f", not {fault['input']!r}"
    quoted = not where.startswith("environment")
    what = FAULTS.get(fault["type"], fault["msg"])
    return ConfigError(f"{where}: {'.'.join(key)}: {what}{given}.", fix(key, quoted=quoted))


def line_of(text: str, key: tuple[str, ...]) -> int:
    """The line (from 1) where a key or the nearest table above it is written."""
    table: tuple[str, ...] = ()
    best = 1
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            table = _split(header.group(1))
            if table == key[: len(table)]:
                best = number
        elif (pair := re.match(r"\s*([\w.\"'-]+)\s*=", line)) and (*table, *_split(pair.group(1))) == key:
            return number
    return best


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
