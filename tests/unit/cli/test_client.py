"""The API client: what it sends, what it makes of answers, when it tries again."""

import ssl

import httpx
import pytest

from fairlead_cli.client import RETRY_CAP_SECONDS, TRIES
from fairlead_cli.errors import AnswerInvalid, ApiError, ExitCode, RelayUnreachable
from tests.unit.cli.scripted_relay import (
    DEPLOYMENT_ID,
    ENVIRONMENT,
    MOMENT,
    ORGANIZATION,
    STORY,
    TOKEN,
    ScriptedRelay,
    deployment,
    environment,
    problem,
    stream,
)

APPLICATIONS = f"{ORGANIZATION}/applications"
BUNDLE = f"{ORGANIZATION}/bundles/{'ab' * 32}"
EVENTS = f"{ORGANIZATION}/deployments/{DEPLOYMENT_ID}/events"
CLUSTER = {"name": "prod", "state": "pending", "created_at": MOMENT, "agent": None}
ENROLMENT = {"token": "fle1_x", "expires_at": MOMENT, "agent_url": "wss://relay:7444"}


@pytest.fixture
def relay() -> ScriptedRelay:
    """A relay that answers as each test writes down."""
    return ScriptedRelay()


def test_every_call_carries_the_token(relay: ScriptedRelay) -> None:
    """In the header, where no log of URLs has it."""
    relay.answer("GET /v1/whoami", {"organization": "acme", "role": "admin", "token_id": "t", "expires_at": None})
    relay.client().whoami()
    assert relay.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(relay.requests[0].url)


def test_the_organization_is_asked_for_once_if_unknown(relay: ScriptedRelay) -> None:
    """A token from the environment does not say."""
    relay.answer("GET /v1/whoami", {"organization": "acme", "role": "admin"})
    relay.answer(f"GET {APPLICATIONS}", {"items": [], "next_cursor": None})
    client = relay.client(organization="")
    assert list(client.applications()) == list(client.applications()) == []
    assert relay.calls().count("GET /v1/whoami") == 1


def test_reads_and_writes(relay: ScriptedRelay) -> None:
    """Each to its path, with its body."""
    relay.answer("GET /v1/version", {"relay_version": "1", "api_version": "v1", "protocol_versions": [1, 1]})
    relay.answer(f"GET {ORGANIZATION}/clusters", {"items": [CLUSTER], "next_cursor": None})
    relay.answer(f"GET {ORGANIZATION}/clusters/prod", CLUSTER)
    relay.answer(f"POST {ORGANIZATION}/clusters", {"cluster": CLUSTER, "enrolment": ENROLMENT})
    relay.answer(f"POST {ORGANIZATION}/clusters/prod/enrolment-tokens", ENROLMENT)
    relay.answer(f"POST {APPLICATIONS}", {"name": "shop"})
    relay.answer(f"GET {APPLICATIONS}/shop/environments", {"items": [environment()]})
    relay.answer(f"POST {APPLICATIONS}/shop/environments", environment())
    relay.answer(f"GET {ENVIRONMENT}", environment())
    relay.answer(f"POST {ENVIRONMENT}/deployments", deployment())
    relay.answer(f"POST {ENVIRONMENT}/rollback", deployment())
    relay.answer(f"GET {ORGANIZATION}/deployments/{DEPLOYMENT_ID}", deployment("running"))
    relay.answer(f"POST {ORGANIZATION}/deployments/{DEPLOYMENT_ID}/cancel", deployment("cancelling"))
    relay.answer(f"POST {ENVIRONMENT}/health-checks", {"job_id": "job1"})
    relay.answer(f"POST {ENVIRONMENT}/plans", {"id": "job2", "kind": "plan", "state": "queued"})
    relay.answer(f"GET {ORGANIZATION}/jobs/job1", {"id": "job1", "kind": "health", "state": "queued"})
    client = relay.client()
    assert client.version().api_version == "v1"
    assert [one.name for one in client.clusters()] == ["prod"]
    assert client.cluster("prod").state == "pending"
    made = client.create_cluster("prod")
    assert made.enrolment.token == client.create_enrolment("prod").token == "fle1_x"
    assert "fle1_x" not in repr(made)
    assert client.create_application("shop").name == "shop"
    assert [one.name for one in client.environments("shop")] == ["staging"]
    client.create_environment("shop", "staging", environment_type="test", cluster="prod", namespace="n")
    assert relay.bodies(f"POST {APPLICATIONS}/shop/environments") == [
        {"name": "staging", "type": "test", "cluster": "prod", "namespace": "n"}
    ]
    assert client.environment("shop", "staging").namespace == "shop"
    assert client.deploy("shop", "staging", {"a": 1}).id == DEPLOYMENT_ID
    assert client.roll_back("shop", "staging", {"to": "x"}).state == "queued"
    assert client.deployment(DEPLOYMENT_ID).state == "running"
    assert client.cancel(DEPLOYMENT_ID).state == "cancelling"
    assert client.check_health("shop", "staging", 30).job_id == "job1"
    assert relay.bodies(f"POST {ENVIRONMENT}/health-checks") == [{"deadline_seconds": 30}]
    assert client.plan("shop", "staging", {"bundle_sha256": "x"}).kind == "plan"
    assert not client.job("job1").is_final


def test_lists_go_on_over_pages_up_to_the_limit(relay: ScriptedRelay) -> None:
    """A limit is asked for, and kept if the relay gives more."""
    path = f"GET {ENVIRONMENT}/deployments"
    relay.answer(path, {"items": [deployment()] * 2, "next_cursor": "c"}, {"items": [deployment()] * 2})
    assert len(list(relay.client().deployments("shop", "staging", 3))) == 3
    assert [dict(request.url.params) for request in relay.requests] == [{"limit": "3"}, {"limit": "3", "cursor": "c"}]


def test_what_a_cluster_runs_may_be_unknown(relay: ScriptedRelay) -> None:
    """Before its agent came, and to a token that may not see it."""
    cluster = {"name": "prod", "state": "pending", "created_at": MOMENT}
    agent = {"name": "prod", "version": "0.1.0", "kubernetes_version": "v1.37.0"}
    refused = problem(403, "forbidden", "not yours")
    relay.answer(f"GET {ORGANIZATION}/clusters/prod", cluster | {"agent": agent}, cluster, refused)
    assert [relay.client().kubernetes_version("prod") for _ in range(3)] == ["v1.37.0", "", ""]


def test_bundles_come_as_bytes(relay: ScriptedRelay) -> None:
    """Whoever reads them checks them."""
    relay.answer(f"GET {ORGANIZATION}/bundles/{'ab' * 32}", httpx.Response(200, content=b"x\n"))
    assert relay.client().bundle("ab" * 32) == b"x\n"


def test_bundles_are_sent_when_missing(relay: ScriptedRelay) -> None:
    """HEAD has no body to say why."""
    relay.answer(f"HEAD {BUNDLE}", httpx.Response(404), httpx.Response(200), httpx.Response(401))
    relay.answer(f"PUT {BUNDLE}", httpx.Response(201))
    client = relay.client()
    assert not client.has_bundle("ab" * 32)
    client.put_bundle("ab" * 32, b"content")
    assert relay.requests[-1].content == b"content"
    assert relay.requests[-1].headers["Content-Type"] == "application/vnd.fairlead.bundle.v1+jsonl"
    assert client.has_bundle("ab" * 32)
    with pytest.raises(ApiError, match="Unauthorized") as caught:
        client.has_bundle("ab" * 32)
    assert caught.value.exit_code == ExitCode.AUTHENTICATION


@pytest.mark.parametrize(
    "trouble", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.Response(503), httpx.Response(429)]
)
def test_what_may_be_sent_twice_is_tried_again(trouble: httpx.Response | Exception, relay: ScriptedRelay) -> None:
    """A deployment too: its id makes it one. The relay restarts in seconds."""
    relay.answer(f"POST {ENVIRONMENT}/deployments", trouble, trouble, deployment())
    assert relay.client().deploy("shop", "staging", {"deployment_id": DEPLOYMENT_ID}).id == DEPLOYMENT_ID
    assert len(relay.waits) == 2
    bodies = relay.bodies(f"POST {ENVIRONMENT}/deployments")
    assert bodies == [{"deployment_id": DEPLOYMENT_ID}] * 3


def test_what_creates_is_sent_again_with_its_key(relay: ScriptedRelay) -> None:
    """So that it happens once, also when the relay still works on the first try; the next call has another key."""
    busy = problem(409, "idempotency_key_busy", "under way")
    made = {"cluster": CLUSTER, "enrolment": ENROLMENT}
    relay.answer(f"POST {ORGANIZATION}/clusters", httpx.ReadTimeout("slow"), busy, made)
    client = relay.client()
    assert client.create_cluster("prod").cluster.name == "prod"
    first, *again = (request.headers["Idempotency-Key"] for request in relay.requests)
    assert again == [first, first]
    client.create_cluster("prod")
    assert relay.requests[-1].headers["Idempotency-Key"] != first


def test_another_conflict_is_final(relay: ScriptedRelay) -> None:
    """Trying again would change nothing."""
    relay.answer(f"POST {ORGANIZATION}/clusters", problem(409, "conflict", "there is one"))
    with pytest.raises(ApiError, match="there is one"):
        relay.client().create_cluster("prod")
    assert relay.waits == []


def test_what_may_not_be_sent_twice_is_not(relay: ScriptedRelay) -> None:
    """Whether the token was revoked is unknown after a time-out, and the second try would find none."""
    relay.answer(f"DELETE {ORGANIZATION}/tokens/x", httpx.ReadTimeout("slow"))
    with pytest.raises(RelayUnreachable, match="took too long"):
        relay.client().revoke_token("x")
    assert (len(relay.requests), relay.waits) == (1, [])


def test_what_was_asked_too_often_is_asked_again_later(relay: ScriptedRelay) -> None:
    """Nothing was done, so this holds for every call; the relay says how long to wait."""
    busy = httpx.Response(429, headers={"Retry-After": "3"})
    relay.answer(f"POST {ORGANIZATION}/clusters", busy, {"cluster": CLUSTER, "enrolment": ENROLMENT})
    assert relay.client().create_cluster("prod").cluster.name == "prod"
    assert relay.waits == [3.0]


def test_tries_end(relay: ScriptedRelay) -> None:
    """With bounded waits in between; a refusal that is the relay's word is not tried again."""
    relay.answer("GET /v1/version", httpx.Response(503, headers={"Retry-After": "1000"}))
    with pytest.raises(AnswerInvalid, match="HTTP status 503"):
        relay.client().version()
    assert len(relay.requests) == TRIES
    assert relay.waits == [RETRY_CAP_SECONDS] * (TRIES - 1)


def test_an_untrusted_certificate_is_said_at_once(relay: ScriptedRelay) -> None:
    """No retry changes it, and --ca-file may."""
    error = httpx.ConnectError("verify failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed certificate in chain")
    relay.answer("GET /v1/version", error)
    with pytest.raises(RelayUnreachable, match=r"certificate is not trusted .*--ca-file"):
        relay.client().version()
    assert relay.waits == []


def test_refusals_keep_code_and_field(relay: ScriptedRelay) -> None:
    """Programs match on the code."""
    relay.answer(f"POST {APPLICATIONS}", problem(409, "conflict", "shop exists already", field="name"))
    with pytest.raises(ApiError) as caught:
        relay.client().create_application("shop")
    assert (caught.value.status, caught.value.code, caught.value.field) == (409, "conflict", "name")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(502, text="<html>Bad gateway</html>"),
        httpx.Response(400, text="{", headers={"Content-Type": "application/problem+json"}),
        httpx.Response(200, text="<html>hello</html>"),
        httpx.Response(200, json={"role": {"nested": TOKEN}}),
    ],
)
def test_an_answer_that_is_not_the_apis_is_said(answer: httpx.Response, relay: ScriptedRelay) -> None:
    """A proxy or a wrong address, for example; a value is not repeated."""
    relay.answer("GET /v1/whoami", answer)
    with pytest.raises(AnswerInvalid, match="GET /v1/whoami") as caught:
        relay.client().whoami()
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [httpx.Response(200, text="["), httpx.Response(200, json=[]), httpx.Response(200, json={"items": [3]})]
)
def test_a_list_that_is_none_is_said(answer: httpx.Response, relay: ScriptedRelay) -> None:
    """Not taken for an empty one."""
    relay.answer(f"GET {APPLICATIONS}", answer)
    with pytest.raises(AnswerInvalid):
        list(relay.client().applications())


def test_streams_end_where_the_story_does(relay: ScriptedRelay) -> None:
    """And begin after a position."""
    relay.answer(f"GET {EVENTS}", stream(STORY))
    client = relay.client()
    assert [event.id for event in client.deployment_events(DEPLOYMENT_ID, after=0)] == [1, 2, 3, 4, 5, 6, 7]
    assert "Last-Event-ID" not in relay.requests[0].headers
    list(client.deployment_events(DEPLOYMENT_ID, after=3))
    assert relay.requests[1].headers["Last-Event-ID"] == "3"
    assert relay.requests[1].headers["Accept"] == "text/event-stream"


def test_a_stream_that_was_not_followed_ends_without_an_end(relay: ScriptedRelay) -> None:
    """What is stored so far."""
    relay.answer(f"GET {ORGANIZATION}/events", stream(STORY[:2], is_ended=False))
    relay.answer(f"GET {ORGANIZATION}/jobs/job1/events", stream(STORY))
    assert len(list(relay.client().organization_events(follow=False))) == 2
    assert relay.requests[0].url.params["follow"] == "false"
    assert len(list(relay.client().job_events("job1"))) == 7


@pytest.mark.parametrize(
    "answer", [stream(STORY[:2], is_ended=False), httpx.Response(503), httpx.ReadTimeout("silence")]
)
def test_a_stream_that_breaks_is_worth_another_try(answer: httpx.Response | Exception, relay: ScriptedRelay) -> None:
    """`following` makes it again."""
    relay.answer(f"GET {EVENTS}", answer)
    with pytest.raises(RelayUnreachable):
        list(relay.client().deployment_events(DEPLOYMENT_ID))


def test_a_stream_that_is_refused_is_not(relay: ScriptedRelay) -> None:
    """Nor one that holds something else."""
    relay.answer(f"GET {EVENTS}", problem(404, "not_found", "no such deployment"))
    with pytest.raises(ApiError, match="no such deployment"):
        list(relay.client().deployment_events(DEPLOYMENT_ID))
    relay.answer(f"GET {ORGANIZATION}/events", httpx.Response(200, text="data: {}\n\n"))
    with pytest.raises(AnswerInvalid):
        list(relay.client().organization_events())
