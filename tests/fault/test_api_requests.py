"""
Requests that the API's own document allows, and such that it forbids, sent to a running relay by whoever it may be.

Schemathesis makes them; nothing that comes back may be a server's error, or an answer that the document does not list,
in another form than it says. A few examples each in `make test`, hundreds in `make fault`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings

from fairlead_relay.api.bundles import MEDIA_TYPE as BUNDLE
from tests.fault.scale import FULL, scaled
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.polling import PATIENCE_SECONDS
from tests.repository.api_document import FILE

if TYPE_CHECKING:
    from schemathesis import Case
    from schemathesis.schemas import BaseSchema

DOCUMENT: dict[str, Any] = json.loads(FILE.read_text())
OPERATIONS = [f"{method.upper()} {path}" for path, item in DOCUMENT["paths"].items() for method in item]
EXAMPLES = scaled(4, 40)
"""Of each kind, for each operation and caller."""
PHASES = [Phase.generate, *([Phase.shrink] if FULL else [])]
"""Making a failure small takes a hundred requests more."""


@dataclass
class Target:
    """A running relay, one tenant of it, and who may be there."""

    tenant: Tenant
    job_id: str
    deployment_id: str
    bundle_sha256: str

    @cached_property
    def tokens(self) -> dict[str, str]:
        """Callers, each with its token."""
        clients = {"nobody": None, "viewer": self.tenant.viewer, "admin": self.tenant.admin}
        return {who: client.headers["Authorization"] if client else "" for who, client in clients.items()}

    @cached_property
    def session(self) -> requests.Session:
        """Connections to the relay, which are kept."""
        session = requests.Session()
        session.trust_env = False  # it would trust the machine's own list
        session.verify = str(self.tenant.relay.ca_file)
        return session

    def existing(self, path: str) -> dict[str, str]:
        """Return what there is for the parameters of a path."""
        known = {
            "organization": self.tenant.organization,
            "application": "shop",
            "environment": "staging",
            "cluster": "harbour",
            "name": "harbour",
            "deployment_id": self.deployment_id,
            "job_id": self.job_id,
            "sha256": self.bundle_sha256,
        }
        return {name: value for name, value in known.items() if f"{{{name}}}" in path}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Run a relay for all requests, with something of everything in it."""
    relay = RelayProcess(tmp_path_factory.mktemp("relay") / "data").start()
    tenant = make_tenant(relay)
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    deployment: dict[str, Any] = deploy(tenant.deployer, tenant.environment, bundle)
    made = Target(tenant, deployment["job"]["id"], deployment["id"], bundle.sha256)
    yield made
    made.session.close()
    relay.close()


@pytest.fixture(scope="module")
def schema() -> BaseSchema:
    """Load the document; only here, since importing the library takes a second."""
    import schemathesis

    schemathesis.serializer.alias(BUNDLE, "application/octet-stream")
    return schemathesis.openapi.from_dict(DOCUMENT)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("who", ["nobody", "viewer", "admin"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_is_one_that_the_document_lists(name: str, who: str, target: Target, schema: BaseSchema) -> None:
    """Whatever is asked, about what there is and about what is not, in a good form and in bad ones."""
    from schemathesis import GenerationMode
    from schemathesis import checks as all_checks
    from schemathesis.specs.openapi import checks

    wanted = [
        all_checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    method, _, path = name.partition(" ")
    operation = schema[path][method]
    described = DOCUMENT["paths"][path][method.lower()]
    # Nothing can be wrong with a request that has no parts.
    has_parts = described["security"] or described.get("parameters") or "requestBody" in described
    for mode in GenerationMode if has_parts else [GenerationMode.POSITIVE]:
        for path_parameters in (None, target.existing(path)):

            @settings(max_examples=EXAMPLES, database=None, phases=PHASES, suppress_health_check=list(HealthCheck))
            @given(operation.as_strategy(generation_mode=mode, path_parameters=path_parameters))
            def send(case: Case[Any]) -> None:
                headers = {"Authorization": target.tokens[who]} if target.tokens[who] else {}
                if path.endswith("/events"):
                    case.query["follow"] = "false"  # else it is a stream that does not end
                answer = case.call(
                    base_url=target.tenant.relay.api_url,
                    session=target.session,
                    headers=headers,
                    timeout=PATIENCE_SECONDS,
                    verify=target.session.verify,
                )
                case.validate_response(answer, checks=wanted)

            send()


def test_the_relay_has_nothing_to_report_of_all_this(target: Target) -> None:
    """No defect was answered with something else: its log has none, and it serves."""
    assert target.tenant.relay.client().ask("GET", "/readyz") == {"status": "ok"}
    lines = Path(target.tenant.relay.log).read_text().splitlines()
    failed = [line for line in lines if '"level": "error"' in line or "Traceback" in line]
    assert not failed, failed[:3]
