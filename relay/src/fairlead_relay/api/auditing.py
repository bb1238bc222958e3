"""
What the API writes into the audit log.

A change records itself: its route takes a `TrailOf` and calls `note` in the write that makes the change. Attempts that
came to nothing are recorded here, by the status of their answer, for all routes alike and before the answer is sent:
what a role does not allow as `denied`, looks at things too, and changes that could not be made as `failed`.

Only for known tokens: anybody can send requests without one, and would fill the disk; those are counted in the metrics.
Of one token's attempts so many are recorded within a minute, and the last of them says that others followed. While the
store does not answer (503) nothing can be recorded, and nothing is done.

Must not record a body or a header: some hold secrets.
"""

from __future__ import annotations

import contextlib
import json
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairlead_relay.api.access import Caller, CallerOf, audit_verb_of
from fairlead_relay.api.services import Services, services_of
from fairlead_relay.errors import StoreError
from fairlead_relay.store.audit import Actor, AuditOutcome, Entry, Trail, append_records
from fairlead_relay.store.writer import riding

READ: Final = "read"
"""The verb of a look at something that was denied."""
_UNRECORDED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_LAST: Final = "; more of this token's attempts within the minute are not recorded"
_TARGETS: Final = (
    ("job", ("job_id",)),
    ("deployment", ("deployment_id",)),
    ("token", ("token_id",)),
    ("bundle", ("sha256",)),
    ("environment", ("application", "environment")),
    ("application", ("application",)),
    ("cluster", ("cluster",)),
    ("cluster", ("name",)),
    ("organization", ("organization",)),
)
"""Kind of a target, and the parameters of a path that name it; the first that fits is the narrowest."""


async def trail_of(request: Request, caller: CallerOf) -> Trail:
    """Return what a route records its change with."""
    verb = audit_verb_of(request.scope["endpoint"])
    if verb is None:
        raise LookupError(f"{request.scope['endpoint'].__name__} is not marked with what it is called in the audit log")
    actor = _actor(request.scope, caller)
    return Trail(caller.organization, actor, verb, _target(request.scope, caller), services_of(request).clock())


TrailOf = Annotated[Trail, Depends(trail_of)]
"""The trail, as a parameter of a route that changes something."""


class AttemptRecords:
    """
    ASGI middleware: records the attempts of known tokens that came to nothing.

    Args:
        app: What it wraps: the routes.
        services: The relay's parts.

    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head: Message | None = None

        async def watch(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
                head = message
                return
            if head is not None:
                begun, head = head, None
                # Before the answer: who was denied something and sees it can rely on its being recorded.
                await self._record(scope, HTTPStatus(begun["status"]), message.get("body", b""))
                await send(begun)
            await send(message)

        await self._app(scope, receive, watch)

    async def _record(self, scope: Scope, status: HTTPStatus, body: bytes) -> None:
        services, state = self._services, scope.get("state", {})
        caller: Caller | None = state.get("admitted")
        endpoint = scope.get("endpoint")
        if caller is None or endpoint is None or status in _UNRECORDED:
            return
        verb = audit_verb_of(endpoint)
        is_denied = status is HTTPStatus.FORBIDDEN or state.get("is_denied", False)
        if verb is None and not is_denied:
            return
        left = services.limits.of_audits.take(caller.token_id, services.monotonic()).left
        if left < 0:
            services.metrics.audit_skipped()
            return
        detail = _detail(body) + (_LAST if left == 0 else "")
        outcome = AuditOutcome.DENIED if is_denied else AuditOutcome.FAILED
        actor, target = _actor(scope, caller), _target(scope, caller)
        entry = Entry(caller.organization, actor, verb or READ, target, outcome, detail)
        now = services.clock()
        # The answer is a refusal already; that it could not be recorded makes it no other one.
        # Nor is it the effect of the request, which what rides on a write is about.
        with contextlib.suppress(StoreError), riding(None):
            await services.store.write(lambda connection: append_records(connection, [entry], now))


def _actor(scope: Scope, caller: Caller) -> Actor:
    client = scope.get("client")
    address = client[0] if client else ""
    return Actor(
        "token", caller.token_id, caller.name, str(caller.role), address, scope.get("state", {}).get("request_id", "")
    )


def _target(scope: Scope, caller: Caller) -> str:
    path = scope.get("path_params", {})
    for kind, names in _TARGETS:
        if all(name in path for name in names):
            return f"{kind}/{'/'.join(str(path[name]) for name in names)}"
    return f"organization/{caller.organization}"


def _detail(body: bytes) -> str:
    """Return code and sentence of a problem document; its sentence was made for whoever may read the record, too."""
    try:
        problem = json.loads(body)
        return f"{problem['code']}: {problem['detail']}"
    except (ValueError, LookupError, TypeError):
        return ""
