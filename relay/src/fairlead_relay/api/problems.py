"""
Problem documents: how every error of the API looks, whoever raised it.

Source: RFC 9457. `code` is what programs match on: an ErrorCode of the protocol or one of ApiCode. The text may change
between versions. Internal detail never leaves; it is in the log under the request's id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairlead_relay.errors import (
    Conflict,
    NotFound,
    Outdated,
    RelayError,
    StoreDamaged,
    StoreUnavailable,
    StoreUnusable,
)
from fairlead_shared.errors import BundleInvalid, ErrorCode, NameInvalid

MEDIA_TYPE = "application/problem+json"
_log = structlog.get_logger(__name__)
_UNUSABLE_SECONDS = 30
"""When to try again what a person must mend first."""


class ApiCode(StrEnum):
    """Codes of the API beside those of the protocol. Retired codes stay reserved."""

    INVALID_REQUEST = "invalid_request"
    """A parameter, a header or the body breaks a rule; `field` names it. Permanent."""
    UNAUTHENTICATED = "unauthenticated"
    """No token, an unknown one, or one past its expiry. Permanent."""
    FORBIDDEN = "forbidden"
    """The token's role or organization does not allow it. Permanent."""
    NOT_FOUND = "not_found"
    """No such thing. Permanent until it is created."""
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    """It exists already, or it changed meanwhile. Permanent."""
    PRECONDITION_FAILED = "precondition_failed"
    """Somebody else changed it since it was read. Permanent: read it again."""
    PRECONDITION_REQUIRED = "precondition_required"
    """A change without `If-Match`. Permanent."""
    TOO_LARGE = "too_large"
    """The body is over its limit. Permanent."""
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    """The key was used for another request. Permanent: make a fresh one."""
    IDEMPOTENCY_KEY_BUSY = "idempotency_key_busy"
    """The same request is under way. Temporary."""
    IDEMPOTENCY_ANSWER_LOST = "idempotency_answer_lost"
    """The request was carried out, and its answer was lost with the relay that served it. Permanent."""
    RATE_LIMITED = "rate_limited"
    """Too many requests within a minute. Temporary: wait for `Retry-After`."""
    UNAVAILABLE = "unavailable"
    """The store cannot answer. Temporary."""
    INTERNAL = "internal"
    """A defect of the relay; its log has the detail."""


class Problem(Exception):
    """
    An answer other than success.

    Args:
        status: HTTP status.
        code: What programs match on.
        detail: One sentence for people: what was wrong and what to do.
        field: The field to blame, dotted; empty for none.
        headers: Further headers of the answer.

    """

    def __init__(
        self,
        status: HTTPStatus,
        code: ApiCode | ErrorCode,
        detail: str,
        *,
        field: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = dict(headers or {})
        super().__init__(status, code, detail)

    def __str__(self) -> str:
        return self.detail

    def response(self) -> JSONResponse:
        """Render the document."""
        body: dict[str, object] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            "code": self.code,
        }
        if self.field:
            body["field"] = self.field
        return JSONResponse(body, self.status, self.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(NameInvalid, _on_name)
    app.add_exception_handler(BundleInvalid, _on_bundle)
    app.add_exception_handler(RelayError, _on_relay)
    app.add_exception_handler(Exception, _on_defect)


def _on_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101  (registered for this class)
    return error.response()


def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    status = HTTPStatus(error.status_code)
    match status:
        case HTTPStatus.NOT_FOUND:
            return Problem(status, ApiCode.NOT_FOUND, f"{request.url.path[:200]} does not exist").response()
        case HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"{request.method} is not allowed here"
            return Problem(status, ApiCode.METHOD_NOT_ALLOWED, detail, headers=error.headers).response()
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return _too_large().response()
        case _:
            code = ApiCode.INTERNAL if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ApiCode.INVALID_REQUEST
            return Problem(status, code, str(error.detail), headers=error.headers).response()


def _on_validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        detail = f"the body is no JSON, from character {first['loc'][-1]} on"
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ApiCode.INVALID_REQUEST, detail).response()
    field = ".".join(str(part) for part in first["loc"][1:])
    detail = f"{field or first['loc'][0]}: {first['msg']}"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ApiCode.INVALID_REQUEST, detail, field=field).response()


def _on_name(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NameInvalid)  # noqa: S101
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ApiCode.INVALID_REQUEST, str(error), field=error.what).response()


def _on_bundle(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BundleInvalid)  # noqa: S101
    large = error.code is ErrorCode.TOO_LARGE
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if large else HTTPStatus.UNPROCESSABLE_ENTITY
    return Problem(status, error.code, str(error)).response()


def _on_relay(request: Request, error: Exception) -> JSONResponse:
    match error:
        case NotFound():
            return Problem(HTTPStatus.NOT_FOUND, ApiCode.NOT_FOUND, str(error)).response()
        case Conflict():
            return Problem(HTTPStatus.CONFLICT, ApiCode.CONFLICT, str(error)).response()
        case Outdated():
            return Problem(HTTPStatus.PRECONDITION_FAILED, ApiCode.PRECONDITION_FAILED, str(error)).response()
        case StoreUnavailable() | StoreUnusable():
            return store_failed(error, request.method, request.url.path).response()
        case _:
            return _on_defect(request, error)


def store_failed(error: StoreUnavailable | StoreUnusable, method: str, path: str) -> Problem:
    """Return what a client gets when the store failed, and write the reason down, which is not for clients."""
    if isinstance(error, StoreDamaged):
        # The store has said so once, with the reason: every request would say it again.
        detail = "the relay's database is damaged; its operator must restore it from a backup"
    elif isinstance(error, StoreUnusable):
        _log.error("store unusable", method=method, path=path, reason=error.reason)
        detail = "the relay's store cannot be used until its operator sees to it; try again later"
    else:
        _log.warning("store unavailable", method=method, path=path, reason=error.reason)
        detail = "the relay's store does not answer now; try again in a moment"
    headers = {"Retry-After": str(math.ceil(error.retry_after_seconds or _UNUSABLE_SECONDS))}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, ApiCode.UNAVAILABLE, detail, headers=headers)


def _on_defect(_request: Request, _error: Exception) -> JSONResponse:
    # Says nothing of the defect to the outside. The framework raises it once more, for RequestLog to write down.
    detail = "the relay failed; its log has the reason"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, ApiCode.INTERNAL, detail).response()


def _too_large() -> Problem:
    detail = "the body is larger than this route takes"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ApiCode.TOO_LARGE, detail)


class LargeBodies:
    """
    ASGI middleware: the framework refuses large bodies in plain text, outside its own error handlers.

    Args:
        app: What it wraps.

    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; swap a plain refusal for the document."""
        is_refused = False

        async def swap(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start":
                media_type = dict(message.get("headers", ())).get(b"content-type", b"")
                is_refused = message["status"] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and media_type.startswith(
                    b"text/"
                )
                if is_refused:
                    await _too_large().response()(scope, receive, send)
            if not is_refused:
                await send(message)

        await self._app(scope, receive, swap)
