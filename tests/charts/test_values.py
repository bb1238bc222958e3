"""What the charts make of values, as helm renders them; no cluster is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fairlead_agent.policy_file import parse_policy
from tests.charts.cases import CHARTS
from tests.cluster.binaries import binary
from tests.cluster.commands import run
from tests.cluster.errors import CommandFailed
from tests.product.target import CHARTS as FOLDERS
from tests.product.target import render

BINDING: dict[str, Any] = {
    "namespace": "shop",
    "environments": [{"organization": "acme", "application": "shop", "environment": "*", "type": "staging"}],
}
AGENT: dict[str, Any] = {"relay": {"url": "wss://relay.example.com:7444"}, "policy": {"bindings": [BINDING]}}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build helm first, in a fixture, which may take as long as it takes."""
    binary("helm")


def rendered(chart: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Render a chart as release `one` in namespace `fairlead`."""
    return [manifest for manifest in yaml.safe_load_all(render(chart, "one", "fairlead", values)) if manifest]


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Choose manifests by kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def named(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """Return the one manifest of a kind and name."""
    (found,) = [made for made in of_kind(manifests, kind) if made["metadata"]["name"] == name]
    return found


def loose_objects(schema: object, place: str = "") -> Iterator[str]:
    """Yield where a schema lists properties and takes others, too."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("additionalProperties") is not False:
            yield place
        for key, value in schema.items():
            yield from loose_objects(value, f"{place}/{key}")


@pytest.mark.parametrize("chart", CHARTS)
def test_every_object_of_a_schema_refuses_names_it_does_not_know(chart: str) -> None:
    """A misspelt value anywhere is an error, never a setting that is silently not there; and defaults have a schema."""
    schema = json.loads((FOLDERS / chart / "values.schema.json").read_text())
    assert list(loose_objects(schema)) == []
    values = yaml.safe_load((FOLDERS / chart / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)


@pytest.mark.parametrize(
    ("chart", "options"), [("fairlead-agent", ("--set", "relay.url=wss://h:1")), ("fairlead-relay", ())]
)
def test_helm_finds_nothing_to_complain_about(chart: str, options: tuple[str, ...]) -> None:
    """Helm's own lint, with warnings as errors."""
    run([str(binary("helm")), "lint", "--strict", *options, str(FOLDERS / chart)])


@pytest.mark.parametrize(
    ("chart", "values", "complaint"),
    [
        ("fairlead-agent", {"relay": {"url": ""}}, "relay.url"),
        ("fairlead-agent", {"relay": {"url": "https://h:1"}}, "relay/url"),
        ("fairlead-agent", {"relay": {"urll": "wss://h:1"}}, "urll"),
        ("fairlead-agent", AGENT | {"polcy": {}}, "polcy"),
        ("fairlead-agent", AGENT | {"policy": {"bindings": [BINDING | {"namspace": "x"}]}}, "namspace"),
        ("fairlead-agent", AGENT | {"policy": {"bindings": [BINDING | {"namespace": "*"}]}}, "namespace"),
        ("fairlead-agent", AGENT | {"policy": {"bindings": [BINDING | {"namespace": "fairlead"}]}}, "the agent's own"),
        ("fairlead-agent", AGENT | {"policy": {"clusterScoped": [{"group": "", "kind": "*", "names": ["a"]}]}}, "kind"),
        ("fairlead-agent", AGENT | {"policy": {"signers": {"ci": "c2hvcnQ="}}}, "signers/ci"),
        (
            "fairlead-agent",
            AGENT | {"rights": [{"apiGroups": ["*"], "resources": ["x"], "verbs": ["get"]}]},
            "apiGroups",
        ),
        (
            "fairlead-agent",
            AGENT | {"rights": [{"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}]},
            "resources",
        ),
        ("fairlead-agent", AGENT | {"rights": [{"apiGroups": [""], "resources": ["x"], "verbs": ["*"]}]}, "verbs"),
        ("fairlead-agent", AGENT | {"clusterRights": [{"apiGroup": "", "resource": "namespaces"}]}, "names"),
        ("fairlead-agent", AGENT | {"enrolment": {"token": "fle1_a", "existingSecret": "b"}}, "not both"),
        ("fairlead-agent", AGENT | {"replicas": 0}, "replicas"),
        ("fairlead-agent", AGENT | {"proxy": {"url": "http://ann:secret@proxy:3128"}}, "proxy/url"),
        ("fairlead-agent", AGENT | {"proxy": {"url": "socks5://proxy:1080"}}, "proxy/url"),
        ("fairlead-agent", AGENT | {"image": {"digest": "sha256:abc"}}, "digest"),
        ("fairlead-relay", {"agents": {"url": "https://h:1"}}, "agents/url"),
        ("fairlead-relay", {"replicas": 3}, "replicas"),
        ("fairlead-relay", {"api": {"service": {"type": "External"}}}, "type"),
        ("fairlead-relay", {"serverNames": ["a,b"]}, "serverNames"),
    ],
)
def test_wrong_values_are_refused(chart: str, values: dict[str, Any], complaint: str) -> None:
    """A misspelt or impossible value names itself before anything is installed."""
    with pytest.raises(CommandFailed) as refused:
        rendered(chart, values)
    assert complaint in refused.value.output


def test_an_agent_gets_nothing_cluster_wide_by_default() -> None:
    """One Role for itself and one in each bound namespace, without wildcards and without a way to more rights."""
    manifests = rendered("fairlead-agent", AGENT)
    assert not of_kind(manifests, "ClusterRole")
    assert not of_kind(manifests, "ClusterRoleBinding")
    assert sorted(role["metadata"]["namespace"] for role in of_kind(manifests, "Role")) == ["fairlead", "shop"]
    for role in of_kind(manifests, "Role"):
        for rule in role["rules"]:
            assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert "rbac.authorization.k8s.io" not in rule["apiGroups"]
            assert not {"pods/exec", "serviceaccounts/token"} & set(rule["resources"])


def test_an_agent_without_bindings_may_touch_its_own_objects_only() -> None:
    """An installation whose operator allowed nothing yet can connect, and nothing else."""
    roles = of_kind(rendered("fairlead-agent", {"relay": AGENT["relay"]}), "Role")
    assert [role["metadata"]["namespace"] for role in roles] == ["fairlead"]


def test_a_namespace_bound_twice_gets_one_role() -> None:
    """Two bindings of one namespace are one Role, or helm would refuse the second."""
    roles = of_kind(rendered("fairlead-agent", AGENT | {"policy": {"bindings": [BINDING, BINDING]}}), "Role")
    assert len(roles) == 2


def test_rights_outside_namespaces_are_by_name() -> None:
    """They come by a value of their own, one rule for each, limited to its names."""
    rights = [{"apiGroup": "", "resource": "namespaces", "names": ["shop", "bakery"]}]
    (role,) = of_kind(rendered("fairlead-agent", AGENT | {"clusterRights": rights}), "ClusterRole")
    assert [rule["resourceNames"] for rule in role["rules"]] == [["shop", "bakery"]]


def test_the_agent_reads_the_policy_that_the_chart_writes() -> None:
    """The chart's schema and the agent's own parser agree; what an older agent does not know is written only if set."""
    full = {
        "bindings": [BINDING],
        "clusterScoped": [{"group": "", "kind": "Namespace", "names": ["shop-*"]}],
        "signers": {"ci": "A" * 43 + "="},
        "trustRelay": False,
        "thresholds": {"default": {"signers": ["ci"], "count": 1}},
        "adopt": ["kubectl", "helm", "argocd", "flux", "other"],
        "force": [{"group": "apps", "kind": "Deployment", "namespace": "shop", "names": ["web-*"]}],
        "recreate": [{"group": "batch", "kind": "Job"}],
        "prune": {"unconfirmedObjects": 1, "unconfirmedPercent": 2},
        "drift": {
            "mode": "off",
            "environments": [{**BINDING["environments"][0], "mode": "correct"}],
            "ignore": [
                {"group": "", "kind": "Service", "namespace": "shop", "names": ["web-*"], "pointers": ["/spec/ports"]}
            ],
        },
    }
    for policy in ({}, full):
        made = named(rendered("fairlead-agent", AGENT | {"policy": policy}), "ConfigMap", "one-policy")
        parsed = parse_policy(made["data"]["policy.yaml"], "policy.yaml")
        known = {field.alias or name for name, field in type(parsed).model_fields.items()}
        later = set() if policy else {"adopt", "force", "recreate", "prune", "drift"}
        assert set(yaml.safe_load(made["data"]["policy.yaml"])) == known - later
        assert parsed.trust_relay == policy.get("trustRelay", True)
        assert [rule.names for rule in parsed.cluster_scoped] == ([("shop-*",)] if policy else [])


@pytest.mark.parametrize("chart", ["fairlead-agent", "fairlead-relay"])
def test_pods_are_locked_down(chart: str) -> None:
    """No root, no writable root file system, no privileges; only the agent has a token of its ServiceAccount."""
    manifests = rendered(chart, AGENT if chart == "fairlead-agent" else {})
    (workload,) = of_kind(manifests, "Deployment") + of_kind(manifests, "StatefulSet")
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] == (chart == "fairlead-agent")
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]


def test_several_replicas_are_replaced_one_by_one_and_spread() -> None:
    """One stands by before another ends; a lone one has no second beside it."""
    (lone,) = of_kind(rendered("fairlead-agent", AGENT), "Deployment")
    (many,) = of_kind(rendered("fairlead-agent", AGENT | {"replicas": 2}), "Deployment")
    assert (lone["spec"]["replicas"], lone["spec"]["strategy"]["type"]) == (1, "Recreate")
    assert (many["spec"]["replicas"], many["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"]) == (2, 0)
    assert "topologySpreadConstraints" not in lone["spec"]["template"]["spec"]
    assert many["spec"]["template"]["spec"]["topologySpreadConstraints"]


def test_the_lease_right_is_for_one_lease() -> None:
    """Only a creation cannot be limited to a name."""
    (role,) = of_kind(rendered("fairlead-agent", {"relay": AGENT["relay"]}), "Role")
    rules = [rule for rule in role["rules"] if rule["resources"] == ["leases"]]
    assert [(rule.get("resourceNames"), rule["verbs"]) for rule in rules] == [
        (["fairlead-agent"], ["get", "update"]),
        (None, ["create"]),
    ]


def test_a_proxy_reaches_the_agent_as_its_usual_variables() -> None:
    """By value, or with its password by Secret; the CA of the proxy itself as a file."""

    def variables(proxy: dict[str, str]) -> dict[str, Any]:
        (made,) = of_kind(rendered("fairlead-agent", AGENT | {"proxy": proxy}), "Deployment")
        (container,) = made["spec"]["template"]["spec"]["containers"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert ("/etc/fairlead/proxy-ca" in mounts) == ("caConfigMap" in proxy)
        return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}

    assert "HTTPS_PROXY" not in variables({})
    plain = variables({"url": "http://proxy:3128", "noProxy": ".svc,10.0.0.0/8"})
    assert (plain["HTTPS_PROXY"], plain["NO_PROXY"]) == ("http://proxy:3128", ".svc,10.0.0.0/8")
    secret = variables({"existingSecret": "proxy", "caConfigMap": "roots"})
    assert secret["HTTPS_PROXY"] == {"secretKeyRef": {"name": "proxy", "key": "url"}}
    assert secret["FAIRLEAD_CA_BUNDLE_FILE"] == "/etc/fairlead/proxy-ca/ca.crt"


def test_tls_inspection_wants_the_ca_of_what_inspects() -> None:
    """Off unless both sides say so; the agent's side not without the CA."""

    def variables(chart: str, values: dict[str, Any]) -> set[str]:
        manifests = rendered(chart, values)
        (made,) = of_kind(manifests, "Deployment") + of_kind(manifests, "StatefulSet")
        return {entry["name"] for entry in made["spec"]["template"]["spec"]["containers"][0]["env"]}

    allowed = {"proxy": {"tlsInspection": True, "caConfigMap": "roots"}}
    assert "FAIRLEAD_TLS_INSPECTION" not in variables("fairlead-agent", AGENT)
    assert {"FAIRLEAD_TLS_INSPECTION", "FAIRLEAD_CA_BUNDLE_FILE"} <= variables("fairlead-agent", AGENT | allowed)
    assert "FAIRLEAD_RELAY_TLS_INSPECTION" not in variables("fairlead-relay", {})
    assert "FAIRLEAD_RELAY_TLS_INSPECTION" in variables("fairlead-relay", {"agents": {"tlsInspection": True}})
    with pytest.raises(CommandFailed, match="caConfigMap"):
        rendered("fairlead-agent", AGENT | {"proxy": {"tlsInspection": True}})


def test_an_image_is_pinned_by_digest_where_one_is_given() -> None:
    """The digest wins over the tag; without either it is the chart's version."""
    digest = "sha256:" + "0" * 64
    for image, expected in (
        ({}, "fairlead-agent:0.1.0"),
        ({"repository": "r.example.com/a", "tag": "1"}, "r.example.com/a:1"),
        ({"repository": "r.example.com/a", "tag": "1", "digest": digest}, f"r.example.com/a@{digest}"),
    ):
        (made,) = of_kind(rendered("fairlead-agent", AGENT | {"image": image}), "Deployment")
        assert made["spec"]["template"]["spec"]["containers"][0]["image"] == expected


def test_the_relay_uses_a_volume_that_exists() -> None:
    """A claim restored from a backup takes the place of the one the chart would make."""
    (made,) = of_kind(rendered("fairlead-relay", {"persistence": {"existingClaim": "restored"}}), "StatefulSet")
    claims = [
        volume.get("persistentVolumeClaim", {}).get("claimName")
        for volume in made["spec"]["template"]["spec"]["volumes"]
    ]
    assert "restored" in claims
    assert "volumeClaimTemplates" not in made["spec"]


def egress_ports(values: dict[str, Any]) -> list[list[int | None]]:
    """Return the ports of each rule of the agent's policy: DNS, API server, relay, and further ones."""
    (policy,) = of_kind(rendered("fairlead-agent", AGENT | values), "NetworkPolicy")
    return [[port.get("port") for port in rule["ports"]] for rule in policy["spec"]["egress"]]


def test_an_agent_may_dial_dns_its_api_server_and_its_relay() -> None:
    """The relay's port, or the proxy's, comes from the URL; one that a Secret hides is any, unless it is named."""
    assert egress_ports({}) == [[53, 53], [443, 6443, 8443, 16443], [7444]]
    assert egress_ports({"relay": {"url": "wss://relay.example.com/"}})[2] == [443]
    assert egress_ports({"proxy": {"url": "http://proxy:3128/"}})[2] == [3128]
    assert egress_ports({"proxy": {"url": "https://proxy", "noProxy": ".svc"}})[2] == [443, 7444]
    assert egress_ports({"proxy": {"existingSecret": "proxy"}})[2] == [None]
    named = {"proxy": {"existingSecret": "proxy"}, "networkPolicy": {"proxyPorts": [3128, 3129]}}
    assert egress_ports(named)[2] == [3128, 3129]
    (policy,) = of_kind(rendered("fairlead-agent", AGENT), "NetworkPolicy")
    assert policy["spec"]["ingress"] == []
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}


def test_the_test_pod_is_none_of_the_agents_pods_but_under_its_policy() -> None:
    """What selects the agent's pods must not count it; what limits them limits it."""
    manifests = rendered("fairlead-agent", AGENT | {"replicas": 2})
    labels = named(manifests, "Pod", "one-test")["metadata"]["labels"]
    for selector in (
        named(manifests, "Deployment", "one")["spec"]["selector"],
        named(manifests, "PodDisruptionBudget", "one")["spec"]["selector"],
    ):
        assert not selector["matchLabels"].items() <= labels.items()
    chosen = named(manifests, "NetworkPolicy", "one")["spec"]["podSelector"]
    assert chosen["matchLabels"].items() <= labels.items()
    (name,) = chosen["matchExpressions"]
    assert labels[name["key"]] in name["values"]


def test_helm_test_asks_for_every_right_that_the_chart_grants() -> None:
    """The file that the doctor reads holds the rules of all Roles, word for word."""
    rights = [{"apiGroup": "", "resource": "namespaces", "names": ["shop"]}]
    manifests = rendered("fairlead-agent", AGENT | {"clusterRights": rights})
    asked = yaml.safe_load(named(manifests, "ConfigMap", "one-test")["data"]["rights.yaml"])
    granted = [
        {"namespace": role["metadata"].get("namespace", ""), "rules": role["rules"]}
        for kind in ("Role", "ClusterRole")
        for role in of_kind(manifests, kind)
    ]
    by_place = {place["namespace"]: place["rules"] for place in asked}
    assert by_place == {place["namespace"]: place["rules"] for place in granted}
    assert len(asked) == len(granted) == 3


DATABASE: dict[str, Any] = {"database": {"existingSecret": "database"}, "ca": {"existingSecret": "ca"}}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replicas": 2}, "needs a PostgreSQL"),
        ({"database": {"existingSecret": "database"}}, "set ca.existingSecret"),
        ({"database": {"url": "postgresql://ann:secret@db/fairlead"}}, "database/url"),
        (DATABASE | {"database": {"url": "postgresql://db/a", "existingSecret": "b"}}, "not both"),
        (DATABASE | {"ca": {"existingSecret": "ca", "certManager": {"enabled": True}}}, "not both"),
        ({"blobs": {"existingClaim": "a", "existingSecret": "b"}}, "give one of"),
        ({"settings": {"history_dayz": 3}}, "history_dayz"),
        ({"ingress": {"enabled": True}}, "ingress.host"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
    ],
)
def test_values_of_a_relay_that_do_not_fit_together_are_refused(values: dict[str, Any], complaint: str) -> None:
    """With the value to set, before anything is installed."""
    with pytest.raises(CommandFailed) as refused:
        rendered("fairlead-relay", values)
    assert complaint in refused.value.output


def test_several_relays_share_what_they_must_and_drain_one_by_one() -> None:
    """No volume, one authority, a new one before an old one ends; and none of it without a database."""
    alone = rendered("fairlead-relay", {})
    assert of_kind(alone, "Deployment") == of_kind(alone, "PodDisruptionBudget") == []
    assert of_kind(alone, "StatefulSet")
    many = rendered("fairlead-relay", DATABASE | {"replicas": 3})
    assert of_kind(many, "StatefulSet") == []
    (made,) = of_kind(many, "Deployment")
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = made["spec"]["template"]["spec"]
    assert {kind for volume in pod["volumes"] for kind in volume} == {"name", "emptyDir", "projected"}
    names = {entry["name"] for entry in pod["containers"][0]["env"]}
    assert {"FAIRLEAD_RELAY_AUTHORITY_DIR", "FAIRLEAD_RELAY_DATABASE_URL"} <= names
    assert "FAIRLEAD_RELAY_BACKUP_DIR" not in names
    assert named(many, "PodDisruptionBudget", "one")["spec"]["maxUnavailable"] == 1


def test_a_relay_with_its_files_on_a_volume_dials_nobody() -> None:
    """And its counts are for those whom the values name."""
    (policy,) = of_kind(rendered("fairlead-relay", {}), "NetworkPolicy")
    assert policy["spec"]["egress"] == []
    assert [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]] == [7443, 7444]
    peers = [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]
    (policy,) = of_kind(rendered("fairlead-relay", {"metrics": {"from": peers}}), "NetworkPolicy")
    assert policy["spec"]["ingress"][1] == {"ports": [{"protocol": "TCP", "port": 7445}], "from": peers}
