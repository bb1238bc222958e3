"""
A typed client of the relay's HTTP API, for the command and for programs (the SDK).

    with Client(Context(server="https://relay.example.com:7443", token=..., organization="acme")) as client:
        for cluster in client.clusters():
            print(cluster.name, cluster.state)

Calls are retried while the relay restarts; those that create something carry a key by which it happens once. Answers
become records, refusals become errors of `errors`. This module prints nothing and reads no configuration.
"""

from __future__ import annotations

import random
import secrets
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import httpx

from fairlead_cli.answers import RecordT, is_mistrust, page_of, read_record, reason_of, record_of, refusal_of
from fairlead_cli.config import Context
from fairlead_cli.errors import AnswerInvalid, ApiError, ConfigInvalid, RelayUnreachable
from fairlead_cli.records import (
    AgentOfCluster,
    Application,
    AuditRecord,
    Cluster,
    DeletionPlan,
    Deployment,
    Drift,
    Enrolment,
    Environment,
    HealthCheck,
    Job,
    NewCluster,
    NewToken,
    Organization,
    StoredEvent,
    Token,
    Version,
    Whoami,
)
from fairlead_cli.server_events import parse_events
from fairlead_shared.backoff import full_jitter

BUNDLE_TYPE = "application/vnd.fairlead.bundle.v1+jsonl"

CALL_TIMEOUT = httpx.Timeout(connect=10, read=30, write=30, pool=10)
"""Seconds. A relay answers within milliseconds; a large bundle over a slow line needs each write, not all, in 30 s."""

STREAM_TIMEOUT = httpx.Timeout(connect=10, read=40, write=30, pool=10)
"""Seconds. The relay sends a ping every 15 s: after 40 s two in a row were missed."""

TRIES = 6
RETRY_BASE_SECONDS = 0.25
RETRY_CAP_SECONDS = 5.0
"""Six tries with these wait 7 s on average, 14 s at most: longer than a relay's restart takes."""

_UNDONE_STATUSES = frozenset({429})
"""The relay has done nothing, so that any call may be made again."""
_RETRIED_STATUSES = _UNDONE_STATUSES | {502, 503, 504}
_BUSY_CODE = "idempotency_key_busy"
"""Of the problem that a call gets whose first try is still under way."""
_KEY_BYTES = 24
"""Of randomness in an idempotency key: no two calls ever have the same."""
_PAGE_ITEMS = 500
"""The most that the relay puts into one page."""
LabelChanges = Mapping[str, str | None]
"""Label → its new value; None removes it."""


class Client:
    """One connection pool to one relay, with one token. Use it as a context manager, from one thread."""

    def __init__(
        self,
        context: Context,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Prepare; nothing is sent before the first call.

        Args:
            context: The relay, the token, and the organization if known.
            transport: In place of TCP, for tests.
            sleep: Waits between tries, in seconds.
        Raises: ConfigInvalid: the CA file cannot be used.
        """
        self.context = context
        self._sleep = sleep
        headers = {"Accept": "application/json"}
        if context.token:
            headers["Authorization"] = f"Bearer {context.token}"
        try:
            trust = ssl.create_default_context(cafile=context.ca_file or None)
        except OSError as error:  # SSLError is one
            raise ConfigInvalid(context.ca_file, "is no readable PEM file of certificates") from error
        self._http = httpx.Client(
            base_url=context.server, headers=headers, verify=trust, timeout=CALL_TIMEOUT, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; safe to call twice."""
        self._http.close()

    @cached_property
    def organization(self) -> str:
        """The organization the token is for; asks the relay the first time if the context does not know."""
        return self.context.organization or self.whoami().organization

    # What is there

    def version(self) -> Version:
        """Return what the relay is; needs no token."""
        return self._get(Version, "/v1/version")

    def whoami(self) -> Whoami:
        """Return whom the token speaks for."""
        return self._get(Whoami, "/v1/whoami")

    def organizations(self) -> Iterator[Organization]:
        """Yield the organizations that the token may see."""
        return self._list(Organization, "/v1/organizations")

    def organization_record(self, name: str) -> Organization:
        """Return one organization."""
        return self._get(Organization, f"/v1/organizations/{name}")

    def audit(self, wanted: Mapping[str, str | list[str] | None], limit: int) -> Iterator[AuditRecord]:
        """
        Yield the newest records of the audit log, `limit` at most.

        Args:
            wanted: Of `actor`, `verb`, `outcome` and `since` (RFC 3339) those that matter.
            limit: How many.
        """
        return self._list(AuditRecord, f"{self._root}/audit", limit, wanted)

    def tokens(self) -> Iterator[Token]:
        """Yield the organization's API tokens, without their secrets."""
        return self._list(Token, f"{self._root}/tokens")

    def create_token(
        self, name: str, role: str, *, application: str | None = None, expires_seconds: float | None
    ) -> NewToken:
        """
        Create an API token.

        Args:
            name: Who uses it.
            role: `viewer`, `deployer` or `admin`.
            application: The only one that it is good for; None for all.
            expires_seconds: Its life; None for ever.
        """
        body = {"name": name, "role": role, "application": application, "expires_seconds": expires_seconds}
        return self._send(NewToken, "POST", f"{self._root}/tokens", body)

    def revoke_token(self, token_id: str) -> None:
        """Make a token worthless."""
        self._call("DELETE", f"{self._root}/tokens/{token_id}", is_repeatable=False)

    def clusters(self, selector: str = "") -> Iterator[Cluster]:
        """Yield the organization's clusters whose labels match, as `kubectl -l` has it; all without one."""
        return self._list(Cluster, f"{self._root}/clusters", wanted=_selecting(selector))

    def cluster(self, name: str) -> Cluster:
        """Return one cluster."""
        return self._get(Cluster, f"{self._root}/clusters/{name}")

    def kubernetes_version(self, cluster: str) -> str:
        """Return what a cluster runs, as its agent last said; empty if it never did, or the token may not see it."""
        try:
            agent = self.cluster(cluster).agent
        except ApiError:
            return ""
        return agent.kubernetes_version if agent else ""

    def label_cluster(self, name: str, changes: LabelChanges) -> Cluster:
        """Set labels of a cluster, and remove those whose value is None."""
        return self._label(Cluster, f"{self._root}/clusters/{name}", changes)

    def create_cluster(
        self, name: str, *, require_approval: bool = False, labels: Mapping[str, str] | None = None
    ) -> NewCluster:
        """Create a cluster, with a token its agent enrols with once; perhaps only after a person approved its key."""
        body: dict[str, Any] = {"name": name} | ({"require_approval": True} if require_approval else {})
        return self._send(NewCluster, "POST", f"{self._root}/clusters", body | _labelled(labels))

    def disable_cluster(self, name: str) -> Cluster:
        """Disconnect a cluster's agent and let none in until it is enabled."""
        return self._send(Cluster, "POST", f"{self._root}/clusters/{name}/disable", {}, is_repeatable=True)

    def enable_cluster(self, name: str) -> Cluster:
        """Let the agent of a disabled cluster in again."""
        return self._send(Cluster, "POST", f"{self._root}/clusters/{name}/enable", {}, is_repeatable=True)

    def approve_agent(self, cluster: str, fingerprint: str) -> Cluster:
        """Let the agent in that waits, if its key has this fingerprint."""
        path = f"{self._root}/clusters/{cluster}/approve"
        return self._send(Cluster, "POST", path, {"fingerprint": fingerprint}, is_repeatable=True)

    def agents(self) -> Iterator[AgentOfCluster]:
        """Yield the agents that have enrolled."""
        return self._list(AgentOfCluster, f"{self._root}/agents")

    def agent(self, cluster: str) -> AgentOfCluster:
        """Return the agent of a cluster."""
        return self._get(AgentOfCluster, f"{self._root}/agents/{cluster}")

    def revoke_agent(self, cluster: str) -> AgentOfCluster:
        """Disconnect an agent and make its certificates worthless; it comes back only by a new token."""
        return self._send(AgentOfCluster, "POST", f"{self._root}/agents/{cluster}/revoke", {}, is_repeatable=True)

    def create_enrolment(self, cluster: str) -> Enrolment:
        """Make another enrolment token for a cluster."""
        return self._send(Enrolment, "POST", f"{self._root}/clusters/{cluster}/enrolment-tokens", {})

    def applications(self, selector: str = "") -> Iterator[Application]:
        """Yield the organization's applications whose labels match; all without a selector."""
        return self._list(Application, f"{self._root}/applications", wanted=_selecting(selector))

    def create_application(self, name: str, *, labels: Mapping[str, str] | None = None) -> Application:
        """Create an application."""
        return self._send(Application, "POST", f"{self._root}/applications", {"name": name} | _labelled(labels))

    def label_application(self, name: str, changes: LabelChanges) -> Application:
        """Set labels of an application, and remove those whose value is None."""
        return self._label(Application, f"{self._root}/applications/{name}", changes)

    def environments(self, application: str, selector: str = "") -> Iterator[Environment]:
        """Yield the environments of an application whose labels match; all without a selector."""
        path = f"{self._root}/applications/{application}/environments"
        return self._list(Environment, path, wanted=_selecting(selector))

    def label_environment(self, application: str, name: str, changes: LabelChanges) -> Environment:
        """Set labels of an environment, and remove those whose value is None."""
        return self._label(Environment, self._environment(application, name), changes)

    def environment(self, application: str, name: str) -> Environment:
        """Return one environment, with its cluster's sealing key and its last deployments."""
        return self._get(Environment, self._environment(application, name))

    def drift(self, application: str, name: str) -> Drift:
        """Return what an environment's agent found that is no longer as the last deployment left it."""
        return self._get(Drift, f"{self._environment(application, name)}/drift")

    def create_environment(
        self,
        application: str,
        name: str,
        *,
        environment_type: str,
        cluster: str,
        namespace: str,
        labels: Mapping[str, str] | None = None,
    ) -> Environment:
        """Create an environment: where a copy of the application runs."""
        body = {"name": name, "type": environment_type, "cluster": cluster, "namespace": namespace}
        path = f"{self._root}/applications/{application}/environments"
        return self._send(Environment, "POST", path, body | _labelled(labels))

    def deletion_plan(self, application: str, name: str) -> DeletionPlan:
        """Return what deleting an environment would mean; nothing is changed."""
        return self._get(DeletionPlan, f"{self._environment(application, name)}/deletion")

    def delete_environment(self, application: str, name: str, confirmation: str, *, runs_hooks: bool = True) -> Job:
        """
        Delete an environment, after all that it made in its cluster.

        Args:
            application: The application.
            name: The environment's name.
            confirmation: That of the plan, by whoever means it.
            runs_hooks: Whether what the last deployment left for this runs before and after it.
        Returns: The job that does so.
        """
        body: dict[str, object] = {"confirmation": confirmation, **({} if runs_hooks else {"hooks": False})}
        return self._send(Job, "DELETE", self._environment(application, name), body, is_repeatable=True)

    def orphan_environment(self, application: str, name: str, confirmation: str) -> None:
        """Forget an environment, and leave what it made where it is."""
        path, body = self._environment(application, name), {"confirmation": confirmation}
        self._call("DELETE", path, is_repeatable=False, params={"orphan": "true"}, json=body)

    # Deployments

    def has_bundle(self, sha256: str) -> bool:
        """Tell whether the relay holds a bundle already."""
        try:
            self._call("HEAD", f"{self._root}/bundles/{sha256}", is_repeatable=True)
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return False
            raise
        return True

    def put_bundle(self, sha256: str, content: bytes) -> None:
        """Hand a bundle to the relay; again if it had it."""
        headers = {"Content-Type": BUNDLE_TYPE}
        self._call("PUT", f"{self._root}/bundles/{sha256}", is_repeatable=True, content=content, headers=headers)

    def bundle(self, sha256: str) -> bytes:
        """Return a bundle's bytes."""
        return self._call("GET", f"{self._root}/bundles/{sha256}", is_repeatable=True).content

    def deploy(self, application: str, environment: str, body: Mapping[str, Any]) -> Deployment:
        """
        Ask for a deployment; the relay has it in its store when this returns.

        Args:
            application: The application.
            environment: The environment.
            body: `deployment_id` (see `deployment_ids`), `bundle_sha256`, `origins`, and perhaps `wait_seconds` and
                `deadline_seconds`. The same body may be sent again: it is one deployment.
        """
        path = f"{self._environment(application, environment)}/deployments"
        return self._send(Deployment, "POST", path, body, is_repeatable=True)

    def roll_back(self, application: str, environment: str, body: Mapping[str, Any]) -> Deployment:
        """
        Ask for an older bundle to be deployed again.

        Args:
            application: The application.
            environment: The environment.
            body: As for `deploy`, but in place of bundle and origins perhaps `to`, the deployment to go back to;
                without it, to the last one that succeeded with another bundle than runs.
        """
        path = f"{self._environment(application, environment)}/rollback"
        return self._send(Deployment, "POST", path, body, is_repeatable=True)

    def deployments(self, application: str, environment: str, limit: int) -> Iterator[Deployment]:
        """Yield the newest deployments of an environment, `limit` at most."""
        path = f"{self._environment(application, environment)}/deployments"
        return self._list(Deployment, path, limit)

    def deployment(self, deployment_id: str) -> Deployment:
        """Return one deployment."""
        return self._get(Deployment, f"{self._root}/deployments/{deployment_id}")

    def cancel(self, deployment_id: str) -> Deployment:
        """Ask for a deployment to stop; one that waits is cancelled at once, one that runs winds down."""
        path = f"{self._root}/deployments/{deployment_id}/cancel"
        return self._send(Deployment, "POST", path, {}, is_repeatable=True)

    def retry(self, deployment_id: str) -> Deployment:
        """Try a deployment again that did not succeed, as it was signed, while nothing newer was deployed."""
        return self._send(Deployment, "POST", f"{self._root}/deployments/{deployment_id}/retry", {})

    def plan(self, application: str, environment: str, body: Mapping[str, Any]) -> Job:
        """
        Ask the agent what a deployment would do; follow the job's events for the answer.

        Args:
            application: The application.
            environment: The environment.
            body: `bundle_sha256`, and perhaps `deadline_seconds` and `consents`.
        """
        return self._send(Job, "POST", f"{self._environment(application, environment)}/plans", body)

    def check_health(self, application: str, environment: str, deadline_seconds: float) -> HealthCheck:
        """
        Ask the agent for the health of an environment's objects; follow the job's events for the answer.

        Args:
            application: The application.
            environment: The environment.
            deadline_seconds: How long an absent agent may take to come back, 1 to 3600.
        """
        path = f"{self._environment(application, environment)}/health-checks"
        return self._send(HealthCheck, "POST", path, {"deadline_seconds": deadline_seconds})

    def jobs(self, wanted: Mapping[str, str | list[str] | None], limit: int) -> Iterator[Job]:
        """
        Yield the newest jobs, `limit` at most.

        Args:
            wanted: Of `state` (a list), `kind`, `cluster`, `application` and `environment` those that matter.
            limit: How many.
        """
        return self._list(Job, f"{self._root}/jobs", limit, wanted)

    def cancel_job(self, job_id: str) -> Job:
        """Ask for a job to stop; one that waits is cancelled at once."""
        return self._send(Job, "POST", f"{self._root}/jobs/{job_id}/cancel", {}, is_repeatable=True)

    def job(self, job_id: str) -> Job:
        """Return one job."""
        return self._get(Job, f"{self._root}/jobs/{job_id}")

    # Live streams

    def deployment_events(self, deployment_id: str, after: int = 0, *, follow: bool = True) -> Iterator[StoredEvent]:
        """Yield a deployment's events; see `_stream`."""
        return self._stream(f"{self._root}/deployments/{deployment_id}/events", after, follow=follow)

    def job_events(self, job_id: str, after: int = 0) -> Iterator[StoredEvent]:
        """Yield a job's events until it ends; see `_stream`."""
        return self._stream(f"{self._root}/jobs/{job_id}/events", after, follow=True)

    def organization_events(self, after: int = 0, *, follow: bool = True) -> Iterator[StoredEvent]:
        """Yield the events of all the organization's jobs, without end if followed; see `_stream`."""
        return self._stream(f"{self._root}/events", after, follow=follow)

    def _stream(self, path: str, after: int, *, follow: bool) -> Iterator[StoredEvent]:
        """
        Yield the events after position `after`, over one connection.

        Returns: An iterator that ends where the story does: with `follow`, at the relay's `end` event.
        Raises: RelayUnreachable: the connection broke, or was silent too long; go on from the last event's id.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
        query = {} if follow else {"follow": "false"}
        try:
            with self._http.stream("GET", path, headers=headers, params=query, timeout=STREAM_TIMEOUT) as answer:
                if answer.status_code in _RETRIED_STATUSES:
                    raise RelayUnreachable(self.context.server, f"HTTP status {answer.status_code}")
                if answer.is_error:
                    answer.read()
                    raise refusal_of("GET", path, answer)
                for event in parse_events(answer.iter_lines()):
                    if event.name == "end":
                        return
                    yield read_record(StoredEvent, f"GET {path}", event.data)
        except httpx.TransportError as error:
            raise RelayUnreachable(self.context.server, reason_of(error)) from error
        except ValueError as error:
            raise AnswerInvalid(f"GET {path}", str(error)) from error
        if follow:
            raise RelayUnreachable(self.context.server, "it closed the stream")

    # One call

    @contextmanager
    def open(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:  # noqa: ANN401  (httpx's own)
        """
        Make any call once, and give its answer while it arrives; a refusal is an answer, too.

        Args:
            method: Of HTTP.
            path: Below the relay's URL, beginning with one slash.
            options: `params`, `json`, `content` and `headers`, as httpx has them.
        Raises: RelayUnreachable: no answer, or it broke off.
        """
        try:
            with self._http.stream(method, path, timeout=STREAM_TIMEOUT, **options) as answer:
                yield answer
        except httpx.TransportError as error:
            raise RelayUnreachable(self.context.server, reason_of(error)) from error

    @property
    def _root(self) -> str:
        return f"/v1/organizations/{self.organization}"

    def _environment(self, application: str, name: str) -> str:
        return f"{self._root}/applications/{application}/environments/{name}"

    def _get(self, record: type[RecordT], path: str) -> RecordT:
        return read_record(record, f"GET {path}", self._call("GET", path, is_repeatable=True).content)

    def _send(
        self, record: type[RecordT], method: str, path: str, body: Mapping[str, Any], *, is_repeatable: bool = False
    ) -> RecordT:
        # A key makes the relay carry out a call once, however often it comes: it may be sent again when no answer came.
        headers = {} if is_repeatable else {"Idempotency-Key": secrets.token_urlsafe(_KEY_BYTES)}
        answer = self._call(method, path, is_repeatable=True, json=body, headers=headers)
        return read_record(record, f"{method} {path}", answer.content)

    def _label(self, record: type[RecordT], path: str, changes: LabelChanges) -> RecordT:
        """Change some labels. Others stay, so that it does not matter which version of the record is changed."""
        body, headers = {"labels": dict(changes)}, {"If-Match": "*"}
        answer = self._call("PATCH", path, is_repeatable=True, json=body, headers=headers)
        return read_record(record, f"PATCH {path}", answer.content)

    def _list(
        self,
        record: type[RecordT],
        path: str,
        limit: int | None = None,
        wanted: Mapping[str, str | list[str] | None] | None = None,
    ) -> Iterator[RecordT]:
        """Yield the items of all pages, `limit` at most, that a query chooses."""
        query: dict[str, Any] = dict(wanted or {}) | ({} if limit is None else {"limit": min(limit, _PAGE_ITEMS)})
        left = limit
        while True:
            page = page_of(f"GET {path}", self._call("GET", path, is_repeatable=True, params=query))
            for item in page["items"]:
                if left is not None and left <= 0:
                    return
                left = None if left is None else left - 1
                yield record_of(record, f"GET {path}", item)
            if not page.get("next_cursor"):
                return
            query["cursor"] = page["next_cursor"]

    def _call(self, method: str, path: str, *, is_repeatable: bool, **options: Any) -> httpx.Response:  # noqa: ANN401
        """
        Make a call, with retries if it may be made twice.

        Raises: RelayUnreachable: no answer. ApiError: refused.
        """
        for attempt in range(1, TRIES + 1):
            is_last = attempt == TRIES
            wait = full_jitter(
                attempt,
                base_seconds=RETRY_BASE_SECONDS,
                cap_seconds=RETRY_CAP_SECONDS,
                random_unit=random.random(),  # noqa: S311  (spreads retries, guards nothing)
            )
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if is_last or not is_repeatable or is_mistrust(error):
                    raise RelayUnreachable(self.context.server, reason_of(error)) from error
            else:
                if not answer.is_error:
                    return answer
                if is_last or not _is_worth_another_try(answer, is_repeatable=is_repeatable):
                    raise refusal_of(method, path, answer)
                wait = max(wait, _asked_wait(answer))
            self._sleep(wait)
        raise AssertionError("the last try returns or raises")


def _labelled(labels: Mapping[str, str] | None) -> dict[str, Any]:
    return {"labels": dict(labels)} if labels else {}


def _selecting(selector: str) -> dict[str, str | list[str] | None]:
    return {"selector": selector} if selector else {}


def _is_worth_another_try(answer: httpx.Response, *, is_repeatable: bool) -> bool:
    """Tell whether the same call may be answered otherwise in a moment: the relay is busy, also with its first try."""
    if answer.status_code in (_RETRIED_STATUSES if is_repeatable else _UNDONE_STATUSES):
        return True
    is_busy = answer.status_code == httpx.codes.CONFLICT and _BUSY_CODE in answer.text
    return is_busy and "Idempotency-Key" in answer.request.headers


def _asked_wait(answer: httpx.Response) -> float:
    """Return the seconds of Retry-After, bounded; 0 without one."""
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), RETRY_CAP_SECONDS) if asked.isascii() and asked.isdigit() else 0.0
