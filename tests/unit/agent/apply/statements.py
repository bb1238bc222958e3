"""Statements for unit tests of the deploy engine: whatever a test does not ask about is the same in all of them."""

from __future__ import annotations

from typing import Any

from fairlead_shared.statement import EMPTY_BUNDLE, DeploymentStatement, Strategy


def statement(**changes: Any) -> DeploymentStatement:  # noqa: ANN401  (fields of a model)
    """Return the statement of a deployment to acme/shop/staging, with some fields changed."""
    fields: dict[str, Any] = {
        "deployment_id": "0123456789abcdef",
        "organization": "acme",
        "application": "shop",
        "environment": "staging",
        "environment_type": "staging",
        "cluster": "private",
        "namespaces": ("shop",),
        "bundle_sha256": EMPTY_BUNDLE.sha256,
        "previous_bundle_sha256": None,
        "strategy": Strategy.ALL_AT_ONCE,
        "not_before": 0,
        "expires": 1,
        "rollback": False,
    }
    return DeploymentStatement(**{**fields, **changes})
