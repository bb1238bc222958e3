"""
Policy: the operator's own rules for this agent, read from one YAML file that the relay has no hand in.

It binds namespaces to the environments that may use them, lists cluster-scoped objects that may be written, says whose
signatures a statement needs, and what becomes of drift. Unknown keys are refused: a misspelt rule must not silently be
no rule. Here is only parsing and answering: verification.py verifies signatures, policy_file.py watches the file.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from fairlead_agent.apply.ignored import parts_of
from fairlead_agent.apply.makers import Maker
from fairlead_shared.drift import DriftMode
from fairlead_shared.errors import NameInvalid
from fairlead_shared.identity import check_name
from fairlead_shared.objects import ObjectRef

RELAY = "relay"
"""The signer name that stands for the relay's own key, pinned at enrolment."""
DEFAULT = "default"
"""The threshold of environment types without one of their own."""
ANY = "*"
NEVER_RECREATED = frozenset(
    {
        ("", "Namespace"),
        ("", "PersistentVolume"),
        ("", "PersistentVolumeClaim"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
    }
)
"""(group, kind) of what holds other things or data: deleting it loses them."""
_ED25519_BYTES = 32
_NOT_IGNORED = (
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "labels", "fairlead.dev/owner"),
    ("metadata", "annotations", "fairlead.dev/environment"),
)
"""Without these an object would be another one, or nobody's."""


def _name(value: str) -> str:
    try:
        return check_name("name", value)
    except NameInvalid as error:
        raise ValueError(str(error)) from None


def _name_or_any(value: str) -> str:
    return value if value == ANY else _name(value)


def _not_any(value: str) -> str:
    if ANY in value:
        raise ValueError("'*' is not allowed here: list each one")
    return value


def _object_name(value: str) -> str:
    if ANY in value[:-1]:
        raise ValueError("'*' may only be the last character")
    if value == ANY:
        raise ValueError("'*' alone would allow every object of the kind: give the names, or a prefix that ends in '*'")
    return value


def _pointer(value: str) -> str:
    parts = parts_of(value)
    for kept in _NOT_IGNORED:
        if parts == kept[: len(parts)] or kept == parts[: len(kept)]:
            raise ValueError(f"{value!r} holds what makes the object this environment's: name the fields below it")
    return value


def _mode(value: object) -> object:
    # YAML reads a bare `off` as false.
    return DriftMode.OFF if value is False else value


def _public_key(value: str) -> str:
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _ED25519_BYTES:
        raise ValueError("it must be the base64 of a raw 32-byte Ed25519 public key")
    return value


def _is_named(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name.startswith(one[:-1]) if one.endswith(ANY) else name == one for one in patterns)


_Name = Annotated[str, AfterValidator(_name)]
_Pattern = Annotated[str, AfterValidator(_name_or_any)]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class EnvironmentRule(_Rule):
    """The environments that a binding lets in."""

    organization: _Name
    application: _Pattern
    environment: _Pattern
    type: _Pattern

    def admits(self, organization: str, application: str, environment: str, environment_type: str | None) -> bool:
        """Tell whether the rule names this environment; a type of None is one the caller does not know."""
        return (
            self.organization == organization
            and self.application in (ANY, application)
            and self.environment in (ANY, environment)
            and (environment_type is None or self.type in (ANY, environment_type))
        )


class Binding(_Rule):
    """One namespace and the environments that may use it."""

    namespace: _Name
    environments: tuple[EnvironmentRule, ...] = Field(min_length=1)


class ClusterScopedRule(_Rule):
    """Cluster-scoped objects of one kind that deployments may write."""

    group: Annotated[str, AfterValidator(_not_any)]
    """API group, empty for the core group."""
    kind: Annotated[str, AfterValidator(_not_any), Field(min_length=1)]
    names: tuple[Annotated[str, AfterValidator(_object_name), Field(min_length=1)], ...] = Field(min_length=1)
    """Exact names, or prefixes that end in `*`."""

    def allows(self, ref: ObjectRef) -> bool:
        """Tell whether the rule names this object."""
        if ref.group != self.group or ref.kind != self.kind:
            return False
        return _is_named(ref.name, self.names)


class ForceRule(_Rule):
    """Objects of one kind whose fields deployments may take over from other field managers."""

    group: Annotated[str, AfterValidator(_not_any)]
    """API group, empty for the core group."""
    kind: Annotated[str, AfterValidator(_not_any), Field(min_length=1)]
    namespace: _Name | Literal[""] = ""
    """Empty for cluster-scoped objects."""
    names: tuple[Annotated[str, AfterValidator(_object_name), Field(min_length=1)], ...] = Field(min_length=1)
    """Exact names, or prefixes that end in `*`."""

    def allows(self, ref: ObjectRef) -> bool:
        """Tell whether the rule names this object."""
        is_meant = (ref.group, ref.kind, ref.namespace) == (self.group, self.kind, self.namespace)
        return is_meant and _is_named(ref.name, self.names)


class IgnoreRule(ForceRule):
    """Fields of objects of one kind that others may have as they like: no drift, and not written against them."""

    pointers: tuple[Annotated[str, Field(max_length=512), AfterValidator(_pointer)], ...] = Field(min_length=1)
    """JSON pointers (RFC 6901) into the manifest; what is below one is ignored, too."""


class DriftEnvironmentRule(EnvironmentRule):
    """What becomes of the drift of some environments."""

    mode: Annotated[DriftMode, BeforeValidator(_mode)]


class DriftRule(_Rule):
    """What becomes of drift."""

    mode: Annotated[DriftMode, BeforeValidator(_mode)] = DriftMode.REPORT
    """For environments without a rule of their own."""
    environments: tuple[DriftEnvironmentRule, ...] = ()
    """The first that names an environment counts."""
    ignore: tuple[IgnoreRule, ...] = ()


class RecreateRule(_Rule):
    """A kind whose objects deployments may delete and make again, where a field cannot be changed in place."""

    group: Annotated[str, AfterValidator(_not_any)]
    kind: Annotated[str, AfterValidator(_not_any), Field(min_length=1)]

    @model_validator(mode="after")
    def _check_kind(self) -> RecreateRule:
        if (self.group, self.kind) in NEVER_RECREATED:
            raise ValueError(f"a {self.kind} is never recreated: what it holds would be lost")
        return self


class PruneRule(_Rule):
    """How much of an environment a deployment may delete without its signers' consent."""

    unconfirmed_objects: int = Field(default=10, ge=0)
    """So many in any case, ..."""
    unconfirmed_percent: int = Field(default=50, ge=0, le=100)
    """... and more, if they are no more than this part of what the environment holds."""

    def needs_consent(self, pruned: int, held: int) -> bool:
        """Tell whether deleting so many of what an environment holds needs consent."""
        return pruned > self.unconfirmed_objects and pruned * 100 > self.unconfirmed_percent * held


class Threshold(_Rule):
    """How many of which signers a statement needs."""

    signers: tuple[str, ...] = Field(min_length=1)
    count: int = Field(default=1, ge=1)


class Policy(_Rule):
    """The whole file."""

    bindings: tuple[Binding, ...] = ()
    cluster_scoped: tuple[ClusterScopedRule, ...] = ()
    adopt: frozenset[Maker] = frozenset()
    """Whose objects deployments with that consent may take over; never another environment's."""
    force: tuple[ForceRule, ...] = ()
    recreate: tuple[RecreateRule, ...] = ()
    """What deployments with that consent may delete and make again."""
    prune: PruneRule = PruneRule()
    drift: DriftRule = DriftRule()
    signers: Mapping[_Name, Annotated[str, AfterValidator(_public_key)]] = Field(default_factory=dict)
    """Signer name → base64 of a raw Ed25519 public key."""
    trust_relay: bool = True
    """Whether the name `relay` stands for the relay's key."""
    thresholds: Mapping[_Name | Literal["default"], Threshold] = Field(
        default_factory=lambda: {DEFAULT: Threshold(signers=(RELAY,))}
    )
    """Environment type → threshold; `default` is for all others."""

    @model_validator(mode="after")
    def _check_signers(self) -> Policy:
        if RELAY in self.signers:
            raise ValueError("signers: 'relay' is the relay's own key; to distrust it, set trustRelay: false")
        known = {*self.signers, *([RELAY] if self.trust_relay else [])}
        for kind, threshold in self.thresholds.items():
            for name in threshold.signers:
                if name not in known:
                    raise ValueError(f"thresholds.{kind}: there is no signer {name!r} (known: {_listed(known)})")
            keys = {self.signers.get(name, name) for name in threshold.signers}
            if threshold.count > len(keys):
                raise ValueError(
                    f"thresholds.{kind}: {threshold.count} signatures are asked for and there are {len(keys)} keys"
                )
        return self

    def threshold(self, environment_type: str) -> Threshold | None:
        """Return what statements for this environment type need; None if nothing would do."""
        return self.thresholds.get(environment_type) or self.thresholds.get(DEFAULT)

    def keys(self, threshold: Threshold, relay_key: Ed25519PublicKey | None) -> dict[str, Ed25519PublicKey]:
        """Return the public keys of a threshold's signers, by name; the relay's only when it is known."""
        keys = {
            name: Ed25519PublicKey.from_public_bytes(base64.b64decode(self.signers[name]))
            for name in threshold.signers
            if name in self.signers
        }
        if RELAY in threshold.signers and self.trust_relay and relay_key is not None:
            keys[RELAY] = relay_key
        return keys

    def binds(self, namespace: str, environment: tuple[str, str, str], environment_type: str) -> bool:
        """Tell whether an environment (organization, application, name) of this type may use a namespace."""
        return any(
            rule.admits(*environment, environment_type)
            for binding in self.bindings
            if binding.namespace == namespace
            for rule in binding.environments
        )

    def knows(self, environment: tuple[str, str, str]) -> bool:
        """Tell whether any namespace is bound to an environment, whatever its type: enough to look at what it owns."""
        return any(rule.admits(*environment, None) for binding in self.bindings for rule in binding.environments)

    def allows_cluster_scoped(self, ref: ObjectRef) -> bool:
        """Tell whether deployments may write this cluster-scoped object."""
        return any(rule.allows(ref) for rule in self.cluster_scoped)

    def may_force(self, ref: ObjectRef) -> bool:
        """Tell whether deployments may take over fields of this object from other field managers."""
        return any(rule.allows(ref) for rule in self.force)

    def drift_mode(self, environment: tuple[str, str, str], environment_type: str) -> DriftMode:
        """Tell what becomes of the drift of an environment (organization, application, name) of this type."""
        rules = (rule.mode for rule in self.drift.environments if rule.admits(*environment, environment_type))
        return next(rules, self.drift.mode)

    def ignored(self, ref: ObjectRef) -> tuple[tuple[str, ...], ...]:
        """Return the paths of an object's fields that others may have as they like."""
        return tuple(parts_of(pointer) for rule in self.drift.ignore if rule.allows(ref) for pointer in rule.pointers)

    def may_recreate(self, ref: ObjectRef) -> bool:
        """Tell whether deployments may delete this object and make it again."""
        return any((rule.group, rule.kind) == (ref.group, ref.kind) for rule in self.recreate)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
