"""What to write instead of a wrong setting, in words; taken from the settings' own schema."""

from __future__ import annotations

import difflib
import functools
import json
from typing import Any

from appliance.settings import Settings

WORDS = {
    ("hailo", "device_id"): "at most 64 letters, digits, dots, colons, dashes and underscores",
    ("node", "device_id"): "1 to 64 letters, digits, dots, dashes and underscores",
    ("memory", "redis_max_memory"): "a whole number followed by kb, mb or gb, such as 512mb, from 1mb to 1024gb",
    ("observe", "traces", "secret"): "a name of letters, digits, dots, dashes and underscores, such as collector",
    ("acme", "names", "0"): "a host name in small letters, such as spark.example.org",
    ("acme", "email"): "an address of mail, such as ada@example.org, or nothing",
    ("acme", "key_id"): "a text without blanks, as the authority gave it",
    ("vault", "mount"): "a path of letters, digits, dots, dashes and underscores, such as secret",
    ("vault", "auth_mount"): "a path of letters, digits, dots, dashes and underscores, such as approle",
    ("vault", "namespace"): "a path of letters, digits, dots, dashes and underscores, or nothing",
    ("vault", "role_id"): "letters, digits and dashes, as Vault gave it",
    ("vpn", "interface"): "1 to 15 letters, digits and _ = + . -, such as wg0",
    ("windows", "group"): "1 to 60 letters, digits, dots, dashes and underscores",
    ("windows", "rules_topic"): "1 to 200 letters, digits, dots, dashes and underscores",
    ("sync", "namespaces", "0"): "NAMESPACE=STRATEGY, where the strategy is one of latest_wins, cloud_wins, edge_wins, merge "
    "and manual, such as notes=merge",
    ("tasks", "http_hosts", "0"): "a host, HOST:PORT or *.DOMAIN, such as nas.lan",
    ("agents", "http_hosts", "0"): "a host, HOST:PORT or *.DOMAIN, such as nas.lan",
    ("deploy", "folder"): "a whole path without blanks, such as /var/lib/prime-spark-deploy",
    ("deploy", "unit_folder"): "a whole path without blanks, such as /etc/systemd/system",
    ("api", "names", "0"): "a host name or an address, such as spark.example.org",
    ("voice", "wake_words", "0"): "a word or some to listen for, 3 to 40 letters, such as hey spark",
    ("voice", "language"): "a language as espeak-ng has it (espeak-ng --voices), such as en-us",
    ("voice", "stt", "0"): "local, or the name of a service of [voice.services]",
    ("voice", "tts", "0"): "local, or the name of a service of [voice.services]",
    ("voice", "wake", "0"): "local, or the name of a service of [voice.services]",
    ("update", "certificates"): "the whole path of a file, such as /etc/prime-spark/updates.pem, or nothing",
    ("update", "window"): "HH:MM-HH:MM, such as 02:00-05:00",
    ("api", "admin_username"): "a name of a to z, 0 to 9, _ and -, 32 characters at most, or nothing",
}
"""Settings whose form is a pattern; of a list, that of each item."""


@functools.cache
def of_settings() -> dict[str, Any]:
    """JSON Schema of all settings; made once, it takes 30 ms."""
    return Settings.model_json_schema()


def fix(key: tuple[str, ...], *, quoted: bool, root: dict[str, Any] | None = None) -> str:
    """What to write for a key.

    Args:
        key: Its path; items of lists are counted.
        quoted: Whether texts stand in quotes there, as in TOML; in the environment they do not.
        root: JSON Schema in which it stands; None for that of the settings.
    """
    root = root or of_settings()
    schema = _at(root, key[:-1])
    if schema is not None and schema.get("properties") and _at(root, key) is None:
        names = list(schema["properties"])
        near = difflib.get_close_matches(key[-1], names, n=1, cutoff=0.5)
        return f"did you mean {near[0]}?" if near else f"remove it; the keys {_of(key)}are {', '.join(names)}."
    schema = _at(root, key)
    if schema is None:
        return "`prime-spark config show` lists every key with its meaning."
    return f"write {_form(key, schema, quoted)}{_default(schema, quoted)}."


def _of(key: tuple[str, ...]) -> str:
    return f"of [{'.'.join(key[:-1])}] " if key[:-1] else ""


def _at(root: dict[str, Any], key: tuple[str, ...]) -> dict[str, Any] | None:
    """The schema of a key; None where there is none."""
    found: dict[str, Any] | None = root
    for name in key:
        if found is None:
            return None
        inner = found.get("properties", {}).get(name) or found.get("additionalProperties") or found.get("items")
        found = _plain(root, inner) if isinstance(inner, dict) else None
    return found


def _plain(root: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without its references, and without the null of one that may be left out."""
    if "$ref" in schema:
        schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    return {**schema, **_plain(root, choices[0])} if choices else schema


def _form(key: tuple[str, ...], schema: dict[str, Any], quoted: bool) -> str:
    words = WORDS.get(tuple("0" if part.isdigit() else part for part in key))
    kind = schema.get("type")
    if "enum" in schema:
        return f"one of {', '.join(json.dumps(choice) if quoted else str(choice) for choice in schema['enum'])}"
    if words is not None:
        return f"{words}, in quotes" if quoted else words
    if kind == "boolean":
        return "true or false"
    if kind in {"integer", "number"}:
        return f"a {'whole ' * (kind == 'integer')}number{_range(schema)}"
    if kind == "array":
        words = WORDS.get((*key, "0"), "")
        return f"a list in brackets{f' of texts in quotes, each {words}' if words else ''}"
    if kind == "object":
        return f"its keys below [{'.'.join(key)}]"
    least, most = schema.get("minLength"), schema.get("maxLength")
    return ("a text in quotes" if quoted else "a text") + (f" of {least} to {most} characters" if most else "")


def _range(schema: dict[str, Any]) -> str:
    least, above, most = (schema.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    if least is not None and most is not None:
        return f" from {least:g} to {most:g}" if most < 1e6 else f" from {least:g} to {most:.0f}"
    low = f" of {least:g} or more" if least is not None else f" above {above:g}" if above is not None else ""
    high = f"{' and' if low else ''} up to {most:.0f}" if most is not None else ""
    return low + high


def _default(schema: dict[str, Any], quoted: bool) -> str:
    if "default" not in schema:
        return ""
    default = schema["default"]
    shown = default if isinstance(default, str) and not quoted else json.dumps(default)
    return "; it may be left out" if default is None else f"; the default is {shown}"
