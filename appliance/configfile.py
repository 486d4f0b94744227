"""Shows the settings with their meaning, and writes them without losing the operator's comments."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel
from tomlkit.exceptions import TOMLKitError

from appliance import config
from appliance.core.secrets import write_private
from appliance.errors import ConfigError
from appliance.paths import Paths
from appliance.settings import Settings


def rows(settings: Settings, paths: Paths, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every setting as {key, value, next_start, default, origin, meaning, env}.

    `value` is what holds now; `next_start` is what will hold then, where that differs, and None elsewhere.
    """
    env = {key: name for name, key in config.env_names().items()}
    files = [path for path in (paths.boot_config, paths.config) if path is not None and path.exists()]
    documents = [(path, config.read(path)[1]) for path in files]
    try:
        coming = config.load(paths, environ)
    except ConfigError:  # it could not start like this; `config check` and the next start say why
        coming = settings
    found = [_row(key, settings, env.get(key, ""), documents, environ) for key in config.all_keys()]
    return [
        {**row, "next_start": _change(_value(settings, key), _value(coming, key))}
        for key, row in zip(config.all_keys(), found, strict=True)
    ]


def _change(now: Any, then: Any) -> Any:
    """What a setting will be, or None where it stays."""
    return None if now == then else "(not set)" if then is None else plain(then)


def _row(
    key: tuple[str, ...], settings: Settings, env: str, documents: list[tuple[Path, dict[str, Any]]], environ: Mapping[str, str]
) -> dict[str, Any]:
    origin = "default"
    if env and environ.get(env):
        origin = f"environment {env}"
    else:
        origin = next((str(path) for path, document in documents if _at(document, key) is not None), origin)
    field = _field(key)
    return {
        "key": ".".join(key),
        "value": plain(_value(settings, key)),
        "default": plain(field.get_default(call_default_factory=True)),
        "origin": origin,
        "meaning": config.meaning(key),
        "env": env,
    }


def plain(value: Any) -> Any:
    """The value as JSON and TOML have it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def template() -> str:
    """A whole configuration file: every key commented out at its default, with its meaning."""
    lines = ["# Prime Spark configuration. Every key stands at its default; take away the # to change one.", ""]
    for name, field in Settings.model_fields.items():
        group = config.group_of(field)
        if group is not None:
            lines += _template_group(name, group)
    return "\n".join(lines)


def _template_group(path: str, group: type[BaseModel]) -> list[str]:
    """A group and those within it."""
    lines = [f"# {(group.__doc__ or '').strip()}", f"[{path}]", *_template_lines(path, group), ""]
    for name, field in group.model_fields.items():
        if (inner := config.group_of(field)) is not None:
            lines += _template_group(f"{path}.{name}", inner)
    return lines


def _template_lines(prefix: str, group: type[BaseModel]) -> Iterator[str]:
    for name, field in group.model_fields.items():
        if config.group_of(field) is not None:
            continue
        yield from (f"# {line}" for line in config.meaning((*prefix.split("."), name)).splitlines())
        value = plain(field.get_default(call_default_factory=True))
        shown = "(not set)" if value is None else tomlkit.item(value).as_string().strip() if value != {} else "{}"
        yield f"# {name} = {shown}"


def write_new(path: Path) -> None:
    """Write the template. Raises ConfigError where the file exists."""
    if path.exists():
        raise ConfigError(f"{path} exists; it is left as it is.", "edit it, or move it away and run this again.")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, template().encode())


def change(paths: Paths, key: str, value: str, environ: Mapping[str, str]) -> None:
    """Set one key in the configuration file, keeping its comments; nothing is written unless all of it is valid.

    Raises:
        ConfigError: Unknown key, wrong value, or an unwritable file.
    """
    parts = tuple(key.split("."))
    text = config.read(paths.config)[0] if paths.config.exists() else ""
    try:
        config.check_keys(functools.reduce(lambda inner, name: {name: inner}, reversed(parts), {}), paths.config, "")
    except ConfigError as error:
        raise _unplaced(error, paths.config, key) from None
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise ConfigError(f"{paths.config} is not valid TOML: {error}.", "mend it first.") from error
    table: Any = document
    for depth, name in enumerate(parts[:-1], 1):
        table = table.setdefault(name, tomlkit.table())
        if not isinstance(table, dict):
            raise ConfigError(f"{'.'.join(parts[:depth])} is a value, not a table.", f"nothing can be set below it: {key}.")
    table[parts[-1]] = tomlkit.value(_literal(value))
    _write_checked(paths, key, tomlkit.dumps(document), environ)


def _unplaced(error: ConfigError, path: Path, key: str) -> ConfigError:
    """The error without file and line, where it is about the key that is not in the file yet."""
    parts = key.split(".")
    names = "|".join(re.escape(".".join(parts[:size])) for size in range(len(parts), 1, -1)) or re.escape(key)
    about = re.match(rf"{re.escape(str(path))}:\d+: (?=(unknown key )?({names})[.:])", error.message)
    return ConfigError(error.message[about.end() :] if about else error.message, error.next_step)


def _write_checked(paths: Paths, key: str, text: str, environ: Mapping[str, str]) -> None:
    trial = paths.config.with_name(f".{paths.config.name}.{os.getpid()}.check")
    try:
        paths.config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(trial, text.encode())
        config.load(Paths(trial, paths.boot_config, paths.data, paths.run, paths.logs), environ)
        trial.replace(paths.config)
    except ConfigError as error:
        error = ConfigError(error.message.replace(str(trial), str(paths.config)), error.next_step)
        raise _unplaced(error, paths.config, key) from None
    except OSError as error:
        raise ConfigError(f"{paths.config} cannot be written: {error.strerror}.", "make it writable for this user.") from error
    finally:
        with contextlib.suppress(OSError):  # where it could not be made, it need not be removed
            trial.unlink(missing_ok=True)


def _literal(value: str) -> str:
    """The text as a TOML value: what parses as one stays, anything else is a string."""
    try:
        tomlkit.value(value)
    except (TOMLKitError, ValueError, IndexError):
        return tomlkit.string(value).as_string()
    return value


def _at(document: Mapping[str, Any], key: tuple[str, ...]) -> Any:
    found: Any = document
    for name in key:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found


def _value(settings: Settings, key: tuple[str, ...]) -> Any:
    found: Any = settings
    for name in key:
        found = getattr(found, name)
    return found


def _field(key: tuple[str, ...]) -> Any:
    model: Any = Settings
    for name in key[:-1]:
        model = config.group_of(model.model_fields[name])
    return model.model_fields[key[-1]]
