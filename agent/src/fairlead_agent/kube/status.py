"""
Translate what the API server answers into the agent's errors. Pure: no I/O.

RBAC and admission both answer 403, a stale version and a field conflict both answer 409: the Status object's text and
causes tell them apart, and only here.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from fairlead_agent.errors import (
    AdmissionDenied,
    AlreadyExists,
    Conflict,
    FieldCause,
    FieldConflict,
    InvalidObject,
    KubeError,
    MissingRight,
    NotFound,
    StaleFields,
    Throttled,
    Unauthenticated,
    Unexpected,
    WatchExpired,
)

_DENIED = re.compile(
    r'cannot (?P<verb>[a-z]+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?',
)
"""RBAC's refusal, as k8s.io/apiserver/pkg/endpoints/handlers/responsewriters.ForbiddenMessage writes it."""
_MANAGER = re.compile(r'conflict with "(?P<manager>[^"]*)"')
_UNTYPED = "failed to create typed patch object"
"""How the API server refuses to apply what does not fit the schema: with 500, though nothing of it broke."""
_UNTYPED_CAUSE = re.compile(r"(?:^|: |\n) *\.(?P<field>[^\s:]+): (?P<message>[^\n]+)")
_UNCONVERTED = "unable to convert unstructured object to"
"""How it refuses to apply a value that its schema takes and its own type does not: with 500, too."""
_STALE = re.compile(r"request to convert CR to an invalid group/version: (?P<version>\S+)")
"""How a custom resource is refused whose managed fields name a version that is gone: with 500, again and again."""
_STRICT_CAUSE = re.compile(r'(?P<message>(?:unknown|duplicate) field "(?P<field>[^"]+)")')
_MESSAGE_CHARACTERS = 3000


def error_of(status: int, body: bytes, what: str, retry_after_seconds: float) -> KubeError:
    """
    Return the error for an answer that is no success.

    Args:
        status: HTTP status, ≥ 400.
        body: The answer's body: a `Status` object, or whatever a proxy wrote.
        what: The object or collection asked for, for the sentence.
        retry_after_seconds: Value of the Retry-After header, 0 if there is none.
    """
    answer = _parse(body)
    message = str(answer.get("message") or "no reason given")[:_MESSAGE_CHARACTERS]
    error: KubeError
    match status:
        case HTTPStatus.UNAUTHORIZED:
            error = Unauthenticated()
        case HTTPStatus.FORBIDDEN:
            error = _forbidden(message)
        case HTTPStatus.NOT_FOUND:
            error = NotFound(what)
        case HTTPStatus.CONFLICT:
            error = _conflict(answer, message, what)
        case HTTPStatus.GONE:
            error = WatchExpired()
        case HTTPStatus.TOO_MANY_REQUESTS:
            error = Throttled(retry_after_seconds)
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
            error = InvalidObject(message, _causes(answer) or _strict_causes(message))
        case HTTPStatus.INTERNAL_SERVER_ERROR:
            error = _failed(message)
        case _:
            error = Unexpected(status, message)
    return error


def _parse(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {"message": body[:300].decode(errors="replace").strip()}
    return answer if isinstance(answer, dict) else {}


def _failed(message: str) -> KubeError:
    if message.startswith(_UNTYPED):
        return InvalidObject(message, _untyped_causes(message))
    if _UNCONVERTED in message:
        return InvalidObject(message, [])
    if stale := _STALE.search(message):
        return StaleFields(stale["version"])
    if "webhook" in message:
        return AdmissionDenied(message)
    return Unexpected(HTTPStatus.INTERNAL_SERVER_ERROR, message)


def _forbidden(message: str) -> KubeError:
    denied = _DENIED.search(message)
    if denied is None:
        return AdmissionDenied(message)
    return MissingRight(denied["verb"], denied["group"], denied["resource"], denied["namespace"] or "")


def _conflict(answer: dict[str, Any], message: str, what: str) -> KubeError:
    if answer.get("reason") == "AlreadyExists":
        return AlreadyExists(what)
    causes = _causes(answer, only_reason="FieldManagerConflict")
    if not causes:
        return Conflict(message)
    managers = {found["manager"]: None for cause in causes if (found := _MANAGER.search(cause.message))}
    return FieldConflict(causes, tuple(managers))


def _causes(answer: dict[str, Any], only_reason: str = "") -> list[FieldCause]:
    details = answer.get("details")
    listed = details.get("causes", []) if isinstance(details, dict) else []
    return [
        FieldCause(field=str(cause.get("field", "")).lstrip("."), message=str(cause.get("message", "")))
        for cause in listed
        if isinstance(cause, dict) and (not only_reason or cause.get("reason") == only_reason)
    ]


def _untyped_causes(message: str) -> list[FieldCause]:
    return [FieldCause(found["field"], found["message"]) for found in _UNTYPED_CAUSE.finditer(message)]


def _strict_causes(message: str) -> list[FieldCause]:
    return [FieldCause(found["field"], found["message"]) for found in _STRICT_CAUSE.finditer(message)]
