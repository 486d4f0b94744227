"""The OpenAPI 3.1 document, made from the registry of actions."""

from __future__ import annotations

from typing import Any

from appliance import __version__
from appliance.core.actions import ActionInfo, ActionRegistry

ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("code", "message", "next_step")},
        }
    },
}


def document(registry: ActionRegistry) -> dict[str, Any]:
    """The whole document."""
    paths = {f"/api/v1/actions/{action.name}": {"post": operation(action.describe())} for action in registry}
    plain = {
        "/health": "Whether every service is well",
        "/api/v1/actions": "Every action with its parameters",
        "/api/v1/state": "The live state, each section with its age in seconds",
        "/api/v1/state/{section}": "One section of the live state",
        "/api/v1/events": "Events as they happen (text/event-stream)",
    }
    for path, summary in plain.items():
        paths[path] = {"get": {"summary": summary, "responses": {"200": {"description": summary}}}}
    return {"openapi": "3.1.0", "info": {"title": "Prime Spark", "version": __version__}, "paths": paths}


def operation(action: ActionInfo) -> dict[str, Any]:
    """One action as an OpenAPI operation."""
    body = {"type": "object", "properties": {"args": action.parameters, "confirm": {"type": "boolean", "default": False}}}
    danger = " Dangerous: needs confirm=true." if action.dangerous else ""
    return {
        "operationId": action.name,
        "summary": action.summary,
        "description": f"Needs the role {action.role}.{danger}",
        "tags": [action.name.partition(".")[0]],
        "requestBody": {"content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "What the action returned, under result"},
            "default": {"description": "It was not done", "content": {"application/json": {"schema": ERROR}}},
        },
    }
