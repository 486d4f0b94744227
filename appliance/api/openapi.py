"""The OpenAPI 3.1 document, made from the registry of actions and the table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.routing import BaseRoute, Route

from appliance import __version__
from appliance.api.gate import OPEN
from appliance.api.table import ROWS, Row
from appliance.core.actions import ActionInfo, ActionRegistry

TEXT = {"type": "string"}
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "error"],
    "properties": {
        "type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT, "instance": TEXT, "request_id": TEXT,
        "error": {"type": "object", "properties": dict.fromkeys(("code", "message", "next_step"), TEXT)},
    },
}  # fmt: skip
LOGIN = {
    "type": "object",
    "required": ["username", "password"],
    "properties": {
        "username": {"type": "string", "maxLength": 256},
        "password": {"type": "string", "format": "password", "maxLength": 1024},
        "code": {"type": "string", "maxLength": 64, "description": "Of the second factor, or a recovery code"},
    },
}
REFRESH = {
    "type": "object",
    "required": ["refresh_token"],
    "properties": {"refresh_token": {"type": "string", "maxLength": 4096}},
}
BODIES = {
    ("/api/auth/login", "post"): (LOGIN, {"username": "ada", "password": "correct horse"}),
    ("/api/auth/refresh", "post"): (REFRESH, {"refresh_token": "eyJ…"}),
}
RESULT = {"type": "object", "required": ["result"], "properties": {"result": {}}}
KEY = {
    "name": "Idempotency-Key", "in": "header", "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "A request that is repeated with it is done once",
}  # fmt: skip
PAGES = [
    {"name": "limit", "in": "query", "required": False, "schema": {"type": "integer", "minimum": 1, "maximum": 1000},
     "description": "Rows of a page; all of them where neither this nor a cursor is given"},
    {"name": "cursor", "in": "query", "required": False, "description": "Of the Link header of the page before",
     "schema": {"type": "string", "maxLength": 24, "pattern": "^[A-Za-z0-9_-]*$"}},
]  # fmt: skip
ANY: dict[str, Any] = {"application/json": {"schema": {}}}
FAILED = {
    "description": "It was not done",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def document(registry: ActionRegistry, routes: Iterable[BaseRoute] = ()) -> dict[str, Any]:
    """The whole document.

    Args:
        registry: The actions.
        routes: Of the application that serves it.
    """
    schemas: dict[str, Any] = {"Problem": PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    rows = {(row.path, row.method): row for row in ROWS}
    for route in (each for each in routes if isinstance(each, Route)):
        if "{name}" in route.path and route.path.startswith("/api/v1/actions"):
            continue
        for method in sorted((route.methods or set()) - {"HEAD", "OPTIONS"}):
            row = rows.get((route.path, method))
            made = _of_row(row, registry, schemas) if row else _plain(route, method.lower())
            if (method, route.path) in OPEN:
                made["security"] = []
            paths.setdefault(plain_path(route.path), {})[method.lower()] = made
    for action in registry:
        paths[f"/api/v1/actions/{action.name}"] = {
            "post": operation(action.describe(), schemas),
            "get": _describing(action.name),
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Prime Spark", "version": __version__, "summary": "Every action of the appliance, and its state"},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "Access token, or psk_… token"}},
        },
        "security": [{"bearer": []}],
    }


def operation(action: ActionInfo, schemas: dict[str, Any] | None = None) -> dict[str, Any]:
    """One action as an OpenAPI operation.

    Args:
        action: The action.
        schemas: Where the definitions go that its parameters refer to.
    """
    parameters = hoisted(action.parameters, action.name, schemas if schemas is not None else {})
    parts = {"args": parameters, "confirm": {"type": "boolean", "default": False}}
    body = {"type": "object", "properties": parts, "additionalProperties": False}
    example: dict[str, Any] = {"args": example_of(action.parameters)}
    if action.dangerous:
        example["confirm"] = True
    danger = " Dangerous: needs confirm=true." if action.dangerous else ""
    return {
        "operationId": action.name,
        "summary": action.summary,
        "description": f"Needs the role {action.role}.{danger}",
        "tags": [action.name.partition(".")[0]],
        "parameters": [] if action.query else [KEY],
        "requestBody": {"content": {"application/json": {"schema": body, "example": example}}},
        "responses": {
            "200": {
                "description": "What the action returned, under result",
                "content": {"application/json": {"schema": RESULT}},
            },
            "default": FAILED,
        },
    }  # fmt: skip


def hoisted(schema: Mapping[str, Any], prefix: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """A schema whose definitions stand with the document's own: references inside of it were relative to itself."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: f"#/components/schemas/{prefix}.{item.rpartition('/')[2]}" if key == "$ref" else moved(item)
                for key, item in value.items()
                if key != "$defs"
            }
        return [moved(item) for item in value] if isinstance(value, list | tuple) else value

    for name, definition in schema.get("$defs", {}).items():
        schemas[f"{prefix}.{name}"] = moved(definition)
    return moved(dict(schema))  # type: ignore[no-any-return]


def example_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An example of an object: its required members."""
    required = schema.get("required", [])
    return {name: _value(each) for name, each in schema.get("properties", {}).items() if name in required}


def _value(schema: Mapping[str, Any]) -> Any:
    kind = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    if "enum" in kind:
        return kind["enum"][0]
    plain: dict[str, Any] = {
        "integer": kind.get("minimum", 1),
        "number": kind.get("minimum", 1.0),
        "boolean": True,
        "object": {},
    }
    if kind.get("type") == "array":
        return [_value(kind.get("items", {}))]
    return plain.get(kind.get("type", "string"), "text")


def _plain(route: Route, method: str) -> dict[str, Any]:
    """A route with a handler of its own."""
    summary = (route.endpoint.__doc__ or route.name).strip().partition("\n")[0].rstrip(".")
    made: dict[str, Any] = {
        "summary": summary, "operationId": f"{method} {route.path}", "tags": [_tag(route.path)],
        "parameters": path_parameters(route.path),
        "responses": {"200": {"description": summary}, "default": FAILED},
    }  # fmt: skip
    if (route.path, method) in BODIES:
        schema, example = BODIES[route.path, method]
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}
    return made


def _of_row(row: Row, registry: ActionRegistry, schemas: dict[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    made: dict[str, Any] = {
        "summary": row.summary, "operationId": f"{row.method.lower()} {row.path}", "tags": [_tag(row.path)],
        "parameters": path_parameters(row.path) + (PAGES if row.pages else []),
        "responses": {str(row.status): {"description": row.summary, "content": ANY}, "default": FAILED},
    }  # fmt: skip
    if not row.action:
        return made
    action = registry.get(row.action).describe() if row.action in {each.name for each in registry} else None
    if action is None:
        return made
    made["description"] = f"The action {action.name}; needs the role {action.role}."
    schema = hoisted(row.schema or action.parameters, f"{row.method}{row.path.replace('/', '.')}", schemas)
    for each in made["parameters"]:
        each["schema"] = schema.get("properties", {}).get(each["name"], TEXT)
    if row.method == "POST" and not action.query:
        made["parameters"].append(KEY)
    if row.method == "POST" and row.body:
        needed = bool(schema.get("required"))
        made["requestBody"] = {
            "required": needed, "content": {"application/json": {"schema": schema, "example": example_of(schema)}},
        }  # fmt: skip
    elif row.method == "GET":
        made["parameters"] += _in_query(schema, {each["name"] for each in made["parameters"]})
    if row.upload:
        _with_picture(made, registry.get(row.upload).describe(), schemas)
    return made


def _in_query(schema: Mapping[str, Any], without: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "schema": each, "required": name in schema.get("required", [])}
        for name, each in schema.get("properties", {}).items()
        if name not in set(without)
    ]


def _with_picture(made: dict[str, Any], action: ActionInfo, schemas: dict[str, Any]) -> None:
    """A picture may be the body, or the one file of a form; the action's arguments stand in the query."""
    schema = hoisted(action.parameters, action.name, schemas)
    rows = [{**each, "required": False} for each in _in_query(schema, ("ticket", "name"))]
    made["parameters"] += [each for each in rows if each["name"] not in {known["name"] for known in made["parameters"]}]
    form = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
    content = made.setdefault("requestBody", {"required": True, "content": {}})["content"]
    content["multipart/form-data"] = {"schema": form}
    content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}


def _describing(name: str) -> dict[str, Any]:
    summary = f"What {name} is"
    done = {"200": {"description": summary}, "default": FAILED}
    return {"summary": summary, "operationId": f"describe {name}", "tags": [name.partition(".")[0]], "responses": done}


def plain_path(path: str) -> str:
    """Without what says how a parameter is read, such as `:path`."""
    return re.sub(r"{(\w+):\w+}", r"{\1}", path)


def path_parameters(path: str) -> list[dict[str, Any]]:
    """Those that stand in a path."""
    names = re.findall(r"{(\w+)(?::\w+)?}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part not in {"", "api", "v1"}]
    return parts[0] if parts else "api"
