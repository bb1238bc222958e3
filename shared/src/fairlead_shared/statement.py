"""
Deployment statements: the exact bytes that people and CI sign.

Fixed at plan time; jobs refer to a statement, retries reuse it. The cluster is part of it beside what the design
lists, so that a statement signed for one cluster is useless in another of the same organization
(docs/decisions/0004).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairlead_shared.bundle import make_bundle
from fairlead_shared.canonical import canonical_json
from fairlead_shared.errors import StatementInvalid

PAYLOAD_TYPE = "application/vnd.fairlead.deployment-statement.v1+json"
MAX_NAMESPACES = 256
"""That one statement may name."""
EMPTY_BUNDLE = make_bundle([])
"""What a destroyed environment runs."""
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
_Id = Annotated[str, Field(pattern=r"^[0-9a-z]{16,40}$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strategy(StrEnum):
    """How a deployment replaces what runs. A peer that does not know a value refuses the statement."""

    ALL_AT_ONCE = "all-at-once"
    DESTROY = "destroy"
    """Nothing is to be left: the bundle is the empty one, and everything that the environment owns is pruned."""
    DESTROY_WITHOUT_HOOKS = "destroy-without-hooks"
    """The same, and what was to run before and after it does not run."""
    PLAN = "plan"
    """Nothing is to change: what is signed so is good for jobs of kind `plan` and for no other."""


class Consent(StrEnum):
    """
    What a deployment does only if its signers said so, and the cluster's operator too.

    A peer that does not know a value refuses the statement.
    """

    ADOPT = "adopt"
    """Take over objects that are there already and were not made by Fairlead."""
    PRUNE = "prune"
    """Delete a large part of what the environment holds."""
    RECREATE = "recreate"
    """Delete and make again what cannot be changed in place."""


class DeploymentStatement(BaseModel):
    """One change of one environment to one bundle, in the words its signers agreed to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["fairlead.statement/1"] = "fairlead.statement/1"
    deployment_id: _Id
    """Made by the client; the agent's replay mark."""
    organization: _Name
    application: _Name
    environment: _Name
    environment_type: _Name
    cluster: _Name
    namespaces: tuple[_Name, ...] = Field(max_length=MAX_NAMESPACES)
    """Every namespace the bundle writes to, sorted; the agent's own binding must allow each."""
    bundle_sha256: _Sha256
    previous_bundle_sha256: _Sha256 | None
    """What the environment runs, as the signer saw it; None for the first deployment."""
    strategy: Strategy
    not_before: int
    """Seconds since the epoch, inclusive."""
    expires: int
    """Seconds since the epoch, exclusive."""
    rollback: bool
    """Marks a deliberate return to an older bundle."""
    consents: tuple[Consent, ...] = ()
    """Sorted, each once. Not written while empty, so that an agent that knows none reads what needs none."""

    @property
    def destroys(self) -> bool:
        """Whether nothing of the environment is to be left."""
        return self.strategy in {Strategy.DESTROY, Strategy.DESTROY_WITHOUT_HOOKS}

    def to_bytes(self) -> bytes:
        """Return the canonical bytes, those that are signed."""
        return canonical_json(self.model_dump(mode="json", exclude=None if self.consents else {"consents"}))

    @classmethod
    def from_bytes(cls, content: bytes) -> DeploymentStatement:
        """
        Read a statement, and refuse any bytes that this version would not have written itself.

        Raises: StatementInvalid: a field is missing, unknown or malformed, or the bytes are not canonical.
        """
        try:
            statement = cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "statement"
            raise StatementInvalid(f"{where}: {first['msg']}") from None
        if statement.to_bytes() != content:
            raise StatementInvalid("its bytes are not canonical")
        if list(statement.consents) != sorted(set(statement.consents)):
            raise StatementInvalid("consents: each once, in order")
        return statement
