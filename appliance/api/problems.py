"""Errors as HTTP answers: problem details (RFC 9457), with our own error below "error" for those who know us."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from appliance.core.access.errors import TooManyError
from appliance.core.llm.faults import LlmError
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

STATUS_CODES = {
    "config": 400, "invalid_arguments": 422, "unknown_action": 404, "not_found": 404, "not_authorized": 403, "auth": 401,
    "second_factor": 401, "too_many": 429, "confirmation_required": 409, "conflict": 409, "precondition": 412, "timeout": 504,
    "absent": 503, "disk_full": 507, "store": 503, "database": 503, "image": 422, "sound": 422, "source": 503, "rule": 422,
    "query": 422, "plan": 422, "queue-full": 503, "deadline": 504, "link_down": 503, "command_refused": 403,
    "tier_unavailable": 503, "tier_absent": 503, "tier_full": 507, "not_running": 503, "port_taken": 409, "unreachable": 502,
    "not_allowed": 502, "shell": 502, "command_failed": 502, "deploy": 502, "body": 400, "too_large": 413, "slow": 408,
    "headers": 400, "encoding": 415, "busy": 503, "delivery": 502,
    "backup": 424, "damaged_backup": 424, "target_away": 424, "wrong_key": 424, "no_lock": 424, "update": 424,
    "acme": 502, "stream": 503, "device": 503, "device-stalled": 503, "tunnel": 502, "memory": 503,
}  # fmt: skip
"""HTTP status by error code (RFC 9110, RFC 4918); any other error is a 500.

What a backup, a bundle or their disk is not good for is no fault of the API: 424, which the alert on its errors does not count.
"""
BUSY = frozenset({"busy", "queue-full"})
"""Errors of a moment: whoever comes again may do better."""
GONE = 499
"""Status of an answer to nobody, as nginx has it."""
MEDIA_TYPE = "application/problem+json"
CHALLENGE = 'Bearer realm="prime-spark"'


class RequestError(ApplianceError):
    """A request that no handler sees: too large, too slow, or malformed.

    Args:
        code: "body", "too_large", "slow", "headers", "encoding" or "busy".
    """

    def __init__(self, code: str, message: str, next_step: str) -> None:
        super().__init__(message, next_step)
        self.code = code


def status_of(error: ApplianceError) -> int:
    """The status of an error."""
    return error.status if isinstance(error, LlmError) else STATUS_CODES.get(error.code, 500)


def _retry_after(error: ApplianceError) -> float | None:
    """Seconds after which another try is of use; None where nobody can tell."""
    if isinstance(error, TooManyError | LlmError):
        return error.retry_after
    return 1.0 if error.code in BUSY else None


def reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(body, enc_hook=str), status, headers, media_type="application/json")


def problem(status: int, code: str, message: str, next_step: str, path: str, request_id: str = "") -> dict[str, Any]:
    """The document of a problem."""
    title = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
    document = {
        "type": f"urn:prime-spark:error:{code}", "title": title, "status": status, "detail": message, "instance": path,
        "error": {"code": code, "message": message, "next_step": next_step},
    }  # fmt: skip
    return {**document, "request_id": request_id} if request_id else document


def answer(error: ApplianceError, path: str, request_id: str = "", status: int | None = None) -> Response:
    """An error of ours as a response."""
    status = status or status_of(error)
    headers = {"WWW-Authenticate": CHALLENGE} if status == 401 else {}
    if isinstance(error, RequestError):
        headers["Connection"] = "close"  # the rest of the body may still come
    if (wait := _retry_after(error)) is not None:
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    document = problem(status, error.code, error.message, error.next_step, path, request_id)
    return Response(msgspec.json.encode(document, enc_hook=str), status, headers, media_type=MEDIA_TYPE)


def _id(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


async def on_error(request: Request, error: Exception) -> Response:
    """One of our errors."""
    if not isinstance(error, ApplianceError):
        raise error
    return answer(error, request.url.path, _id(request))


async def on_no_route(request: Request, error: Exception) -> Response:
    """An address or a method that there is not."""
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (404, None)
    text = f"There is nothing here ({status})." if status != 405 else "This address takes other methods."
    code = "not_found" if status != 405 else "method_not_allowed"
    document = problem(status, code, text, "see /openapi.json.", request.url.path, _id(request))
    return Response(msgspec.json.encode(document), status, dict(headers or {}), media_type=MEDIA_TYPE)


async def on_gone(request: Request, _: Exception) -> Response:
    """Whoever asked went away before the whole request was here: nothing was done, and nobody reads the answer."""
    log.debug("%s %s was not sent whole", request.method, request.url.path)
    return Response(status_code=GONE)


async def on_fault(request: Request, error: Exception) -> Response:
    """A fault of ours: told, and logged with where it was."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    fault = ApplianceError(f"{type(error).__name__}: {error}", "see the log for where.")
    return answer(fault, request.url.path, _id(request))


async def on_bad_body(request: Request, error: Exception) -> Response:
    """A body that is not the JSON it should be."""
    fault = ApplianceError(f"The body is wrong: {error}.", "send the JSON object that /openapi.json describes.")
    fault.code = "invalid_arguments"
    return answer(fault, request.url.path, _id(request), 400)
