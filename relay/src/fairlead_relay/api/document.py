"""
The OpenAPI document: what FastAPI reads off the routes, and what only this API knows of them.

That is: the problem documents each operation may answer with, the role it needs, and how a caller proves itself. A
status that is not listed here for an operation is a defect; tests send requests of all kinds to find one.

Must not: hold anything that the routes say themselves.
Source: OpenAPI 3.1; RFC 9457 for problem documents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from fairlead_relay.api.access import role_of
from fairlead_relay.api.problems import MEDIA_TYPE, ApiCode
from fairlead_shared.errors import ErrorCode

SCHEME: Final = "token"
DESCRIPTION: Final = """\
Errors are problem documents (RFC 9457); match on `code`, not on the text. Lists come in pages: pass `next_cursor` as
`cursor` until it is null. Answers may gain fields and problems may gain codes in any version of the relay; see
docs/api.md for what else may change."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """A problem that several operations answer with."""

    name: str
    means: str
    code: ApiCode
    detail: str
    """An example of the sentence."""
    headers: tuple[str, ...] = ()
    """Names among _HEADERS."""


_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "RateLimit-Policy": {
        "description": "The limit `q` within `w` seconds. On every answer to a good token.",
        "schema": {"type": "string", "examples": ['"token";q=30000;w=60']},
    },
    "RateLimit": {
        "description": "Requests `r` that are left for the next `t` seconds. On every answer to a good token.",
        "schema": {"type": "string", "examples": ['"token";r=29998;t=41']},
    },
    "WWW-Authenticate": {"description": "How to prove oneself.", "schema": {"type": "string", "examples": ["Bearer"]}},
}
_ANSWERS: Final = {
    HTTPStatus.BAD_REQUEST: _Answer(
        "Unreadable",
        "The body cannot be read at all; or it is no HTTP, which is said in plain text.",
        ApiCode.INVALID_REQUEST,
        "There was an error parsing the body",
    ),
    HTTPStatus.UNAUTHORIZED: _Answer(
        "Unauthenticated",
        "No token, an unknown one, or one past its expiry.",
        ApiCode.UNAUTHENTICATED,
        "send a token: Authorization: Bearer flt_…",
        ("WWW-Authenticate",),
    ),
    HTTPStatus.FORBIDDEN: _Answer(
        "Forbidden",
        "The token's role or organization does not allow this.",
        ApiCode.FORBIDDEN,
        "this needs the role admin; the token has viewer",
    ),
    HTTPStatus.NOT_FOUND: _Answer(
        "NotFound", "Something that was named does not exist.", ApiCode.NOT_FOUND, "no cluster is named 'harbour'"
    ),
    HTTPStatus.CONFLICT: _Answer(
        "Conflict",
        "It exists already, or its state does not allow this.",
        ApiCode.CONFLICT,
        "cluster 'harbour' exists already",
    ),
    HTTPStatus.PRECONDITION_FAILED: _Answer(
        "Outdated",
        "Somebody else changed it since it was read.",
        ApiCode.PRECONDITION_FAILED,
        "cluster 'harbour' was changed by somebody else; read it again, then change it",
    ),
    HTTPStatus.PRECONDITION_REQUIRED: _Answer(
        "Unconditional",
        "A change must say by `If-Match` what it is a change of.",
        ApiCode.PRECONDITION_REQUIRED,
        "send If-Match with the ETag of what you read, or * to change it whatever it is",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _Answer(
        "TooLarge",
        "The body is over this route's limit.",
        ApiCode.TOO_LARGE,
        "the body is larger than this route takes",
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: _Answer(
        "Invalid",
        "A parameter, a header or the body breaks a rule; `field` names it.",
        ApiCode.INVALID_REQUEST,
        "name: Field required",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: _Answer(
        "TooManyRequests",
        "This token, or this address without a good one, made too many requests within a minute. Temporary.",
        ApiCode.RATE_LIMITED,
        "this token made more than 30000 requests within a minute",
        ("Retry-After", "RateLimit-Policy", "RateLimit"),
    ),
    HTTPStatus.INTERNAL_SERVER_ERROR: _Answer(
        "Internal", "A defect of the relay.", ApiCode.INTERNAL, "the relay failed; its log has the reason"
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: _Answer(
        "Unavailable",
        "The store does not answer, or the relay stops. Temporary.",
        ApiCode.UNAVAILABLE,
        "the relay's store does not answer now; try again in a moment",
        ("Retry-After",),
    ),
}
_PROBLEM: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "An answer other than success (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "`about:blank`: `code` says what it is."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "One sentence for people: what was wrong and what to do."},
        "code": {
            "type": "string",
            "description": "What programs match on. Further ones may appear.",
            "x-extensible-enum": sorted({*map(str, ApiCode), *map(str, ErrorCode)}),
        },
        "field": {"type": "string", "description": "The field to blame, dotted."},
    },
}
_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": (
        "A fresh string, such as a UUID. Sent again within a day by the same token, the same request has its effect "
        "once and the same answer; another request with it is refused."
    ),
    "schema": {"type": "string", "pattern": "^[!#-~]{1,255}$"},
}
_WITH_CHANGE: Final = frozenset({"POST", "DELETE"})


def operation_id(route: APIRoute) -> str:
    """Name an operation for generated clients: its area and what it does."""
    return f"{route.tags[0]}_{route.name}"


def publish(app: FastAPI, path: str) -> None:
    """
    Have an application publish the document of `describe`, made once, and away from the event loop: it takes 0.4 s.

    Args:
        app: With all its routes.
        path: Where anybody gets it; it holds no secret.
    """
    made: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not made:
            made.update(describe(app))
        return made

    async def answer(_request: Request) -> Response:
        content = await run_in_threadpool(lambda: json.dumps(document(), ensure_ascii=False).encode())
        return Response(content, media_type="application/json")

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend the document
    app.add_route(path, answer, include_in_schema=False)


def describe(app: FastAPI) -> dict[str, Any]:
    """
    Return the OpenAPI document of an application, ready to be written as JSON.

    Args:
        app: With all its routes; what serves them need not be there.
    """
    document = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=app.openapi_tags
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    components["responses"] = {answer.name: _response(status, answer) for status, answer in _ANSWERS.items()}
    components["headers"] = _HEADERS
    components["securitySchemes"] = {
        SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "`fairlead-relay token create`, or POST …/tokens, makes one.",
        }
    }
    for path, method, endpoint in routes_of(app):
        _complete(path, method, document["paths"][path][method.lower()], endpoint)
    return document


def routes_of(app: FastAPI) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Yield (path, method, endpoint) of every route that is published."""
    for route in iter_route_contexts(app.routes):
        if not isinstance(route.original_route, APIRoute) or not route.include_in_schema:
            continue
        for method in sorted(route.methods or ()):
            assert route.path_format is not None  # noqa: S101  (an APIRoute has one)
            assert route.endpoint is not None  # noqa: S101  (every route has one)
            yield route.path_format, method, route.endpoint


def _complete(path: str, method: str, operation: dict[str, Any], endpoint: Callable[..., Any]) -> None:
    role = role_of(endpoint)
    operation["security"] = [] if role is None else [{SCHEME: []}]
    if role is not None:
        operation["x-fairlead-role"] = str(role)
    if method == "POST":
        operation["parameters"] = [*operation.get("parameters", ()), _KEY]
    answers = operation["responses"]
    for status in _problems(path, method, operation, needs_token=role is not None):
        answers[str(int(status))] = {"$ref": f"#/components/responses/{_ANSWERS[status].name}"}
    operation["responses"] = dict(sorted(answers.items()))


def _problems(path: str, method: str, operation: dict[str, Any], *, needs_token: bool) -> list[HTTPStatus]:
    """List the problems that an operation may answer with."""
    found = [HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE]
    if needs_token:
        found += [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS]
    if path.count("{") > 1 or "requestBody" in operation:  # a body, too, may name what is not there
        found.append(HTTPStatus.NOT_FOUND)
    if operation.get("parameters") or "requestBody" in operation:
        found.append(HTTPStatus.UNPROCESSABLE_ENTITY)
    if "requestBody" in operation:
        found.append(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if method == "PATCH":
        found += [HTTPStatus.PRECONDITION_FAILED, HTTPStatus.PRECONDITION_REQUIRED]
    elif method in _WITH_CHANGE:
        found.append(HTTPStatus.CONFLICT)
    return found


def _response(status: HTTPStatus, answer: _Answer) -> dict[str, Any]:
    example = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "detail": answer.detail,
        "code": str(answer.code),
    }
    made: dict[str, Any] = {
        "description": answer.means,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
    }
    if status is HTTPStatus.BAD_REQUEST:
        made["content"]["text/plain"] = {"example": "Invalid HTTP request received."}
    if answer.headers:
        made["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in answer.headers}
    return made
