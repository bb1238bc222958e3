"""The policy file: complaints that name the line, and changes that take hold only when they can be used."""

from pathlib import Path

import pytest
import structlog

from fairlead_agent.errors import PolicyInvalid
from fairlead_agent.policy_file import MAX_POLICY_BYTES, PolicyFile, parse_policy

GOOD = """\
bindings:
  - namespace: shop
    environments:
      - {organization: acme, application: shop, environment: staging, type: staging}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bindings: [}", "p.yaml:1: no valid YAML"),
        ("a: 1\nb: &x [1]\nc: *x\n", "p.yaml:2: YAML aliases are not allowed"),
        ("bindings: []\nbindings: []\n", "p.yaml:2: key 'bindings' occurs twice"),
        ("bindngs: []\n", "p.yaml:1: bindngs: unknown key; did you mean 'bindings'?"),
        (GOOD.replace("namespace:", "namspace:"), "p.yaml:2: bindings[0]"),
        (GOOD.replace("type:", "typ:"), "did you mean 'type'?"),
        (GOOD.replace("namespace: shop", "namespace: Shop"), "p.yaml:2: bindings[0].namespace: name 'Shop'"),
        ("cluster_scoped: []\n", "did you mean 'clusterScoped'?"),
        ("zzz: 1\n", "known here: bindings, clusterScoped"),
        ("[]", "p.yaml"),
        ("thresholds: {default: {signers: [relay], count: many}}", "thresholds.default.count"),
        ("#" * (MAX_POLICY_BYTES + 1), "larger than"),
        ("[" * 1000, "p.yaml"),
    ],
)
def test_complaint_names_line_and_key(text: str, expected: str) -> None:
    """One sentence says where the mistake is and, for a misspelt key, what was meant."""
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(text, "p.yaml")
    assert expected in str(caught.value)


def test_empty_file_allows_nothing() -> None:
    """An empty file is a policy: nothing is bound."""
    assert parse_policy("", "p.yaml").bindings == ()
    assert len(parse_policy(GOOD, "p.yaml").bindings) == 1


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    """A good change holds at once; a bad one, or a file that is gone, leaves the last good policy."""
    path = tmp_path / "policy.yaml"
    path.write_text("bindings: []\n")
    policy = PolicyFile(path, structlog.get_logger())
    assert policy.current.bindings == ()
    path.write_text(GOOD)
    assert len(policy.current.bindings) == 1
    path.write_text("bindings: [}\n")
    assert len(policy.current.bindings) == 1
    path.unlink()
    assert len(policy.current.bindings) == 1
    path.write_text("bindings: []\n# fixed\n")
    assert policy.current.bindings == ()


def test_unreadable_file_is_refused_at_the_start(tmp_path: Path) -> None:
    """Without any policy the agent does not start."""
    with pytest.raises(PolicyInvalid, match="No such file"):
        PolicyFile(tmp_path / "none", structlog.get_logger())
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyInvalid, match="UTF-8"):
        PolicyFile(tmp_path / "binary", structlog.get_logger())
