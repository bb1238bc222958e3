"""
A relay's answers, written down: what the client's transport gets instead of a network.

It decides nothing: a call nobody wrote an answer for fails the test.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import httpx

from fairlead_cli.client import Client
from fairlead_cli.config import Context

SERVER = "https://relay.example:7443"
TOKEN = "flt_abcdefghjkmnpqrs_0123456789abcdefghjkmnpqrstvwxyz"
DEPLOYMENT_ID = "01k9x0q6v3t1m8c5n7b2d4f6gh"
ORGANIZATION = "/v1/organizations/acme"
ENVIRONMENT = f"{ORGANIZATION}/applications/shop/environments/staging"
MOMENT = "2026-11-24T05:00:00.000Z"

Answer = httpx.Response | Exception


class ScriptedRelay:
    """Gives the answers written for a call in order, the last again and again; remembers every request."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []
        """Seconds that the client waited between tries."""
        self._answers: dict[str, list[Answer]] = defaultdict(list)

    def answer(self, call: str, *answers: Answer | dict[str, Any]) -> None:
        """Write down the answers of one call, `METHOD PATH`; a mapping is JSON with status 200."""
        self._answers[call] += [
            httpx.Response(200, json=answer) if isinstance(answer, dict) else answer for answer in answers
        ]

    def change(self, call: str, *answers: Answer | dict[str, Any]) -> None:
        """Write down other answers of one call than before."""
        self._answers[call].clear()
        self.answer(call, *answers)

    def client(self, organization: str = "acme") -> Client:
        """Return a client that gets these answers."""
        context = Context(SERVER, TOKEN, organization)
        return Client(context, transport=httpx.MockTransport(self._handle), sleep=self.waits.append)

    def bodies(self, call: str) -> list[Any]:
        """Return the JSON bodies of all requests of one call."""
        return [json.loads(request.content) for request in self.requests if _call(request) == call]

    def calls(self) -> list[str]:
        """Return all calls, in order."""
        return [_call(request) for request in self.requests]

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answers = self._answers[_call(request)]
        assert answers, f"nobody wrote an answer for {_call(request)}"
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        # A response can be read once; the last answer may be given many times.
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def _call(request: httpx.Request) -> str:
    return f"{request.method} {request.url.path}"


def problem(status: int, code: str, detail: str, **fields: str) -> httpx.Response:
    """Return a refusal as the relay makes it."""
    body = {"type": "about:blank", "title": "Refused", "status": status, "code": code, "detail": detail} | fields
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


def stream(events: Sequence[dict[str, Any]], *, is_ended: bool = True) -> httpx.Response:
    """Return a stream of events; without its end, as when the relay stops."""
    blocks = [": connected", *(f"id: {event['id']}\ndata: {json.dumps(event)}" for event in events)]
    blocks += ["event: end\ndata: {}"] if is_ended else []
    return httpx.Response(200, text="".join(f"{block}\n\n" for block in blocks))


def stored(position: int, event: dict[str, Any]) -> dict[str, Any]:
    """Return one record of a stream."""
    return {
        "id": position,
        "deployment_id": DEPLOYMENT_ID,
        "job_id": "job1",
        "attempt": 1,
        "recorded_at": MOMENT,
        "event": {"key": str(position), "at": 1000.0 + position} | event,
    }


def deployment(state: str = "queued", **fields: object) -> dict[str, Any]:
    """Return a deployment as the API shows it."""
    return {
        "id": DEPLOYMENT_ID,
        "organization": "acme",
        "application": "shop",
        "environment": "staging",
        "environment_type": "staging",
        "cluster": "prod",
        "bundle_sha256": "ab" * 32,
        "previous_bundle_sha256": None,
        "rollback": False,
        "state": state,
        "reason": "",
        "outcome": None,
        "code": None,
        "cause": "",
        "counts": {},
        "origins": {"Deployment shop/web": "k8s/web.yaml:7"},
        "created_by": "token1",
        "created_at": MOMENT,
        "started_at": None,
        "finished_at": "2026-11-24T05:00:12.000Z",
        "job": {"id": "job1", "attempt": 1, "deadline": MOMENT},
    } | fields


def environment(**fields: object) -> dict[str, Any]:
    """Return an environment as the API shows it."""
    return {
        "application": "shop",
        "name": "staging",
        "type": "staging",
        "cluster": "prod",
        "namespace": "shop",
        "created_at": MOMENT,
        "sealing_key": None,
        "current": None,
        "latest": None,
    } | fields


WEB = {"api_version": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"}

STORY = [
    stored(1, {"type": "job", "state": "running", "attempt": 1, "reason": ""}),
    stored(2, {"type": "step", "step": "apply", "status": "started"}),
    stored(3, {"type": "object", "object": WEB, "action": "created"}),
    stored(4, {"type": "step", "step": "apply", "status": "finished"}),
    stored(5, {"type": "health", "object": WEB, "status": "Healthy"}),
    stored(6, {"type": "result", "outcome": "succeeded", "counts": {"created": 1}}),
    stored(7, {"type": "job", "state": "succeeded", "attempt": 1, "reason": ""}),
]

FAILURE = [
    stored(1, {"type": "job", "state": "running", "attempt": 1, "reason": ""}),
    stored(2, {"type": "object", "object": WEB, "action": "changed"}),
    stored(
        3, {"type": "health", "object": WEB, "status": "Degraded", "cause": "container web: image nope:1 is not there"}
    ),
    stored(4, {"type": "result", "outcome": "failed", "code": "unhealthy", "cause": "Deployment web is not healthy"}),
]
