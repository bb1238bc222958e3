"""Names of environments, and plans small enough for one object."""

from fairlead_agent.ports import DeployPlan, EnvironmentKey, OwnedObject
from fairlead_shared.objects import ObjectRef


def test_owner_label_is_short_and_different_for_each_environment() -> None:
    """Names that join to the same text are different environments only if their parts differ."""
    key = EnvironmentKey("acme", "shop", "staging")
    assert str(key) == "acme/shop/staging"
    assert len(key.owner) == 12
    assert key.owner != EnvironmentKey("acme", "shop", "production").owner


def test_plan_of_the_largest_bundle_fits_into_one_object() -> None:
    """20,000 objects are 20,000 letters, and it survives its wire form."""
    ref = ObjectRef(api_version="v1", kind="ConfigMap", namespace="shop", name="a")
    plan = DeployPlan(bundle_sha256="a" * 64, actions="cmu" * 6666, prune=(OwnedObject(ref=ref, uid="1"),))
    text = plan.model_dump_json()
    assert len(text) < 512 * 1024
    assert DeployPlan.model_validate_json(text) == plan
