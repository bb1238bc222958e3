"""
Rights: asks the API server, one by one, whether the agent's account may do what a file of rules declares.

The answer counts every Role, ClusterRole and other authorizer of the cluster, as a deployment will meet them; so it
finds a Role that somebody removed as well as one that an installation was not allowed to make. Changes nothing: a
review is an object that is never stored. Every account may ask about itself (`system:basic-user`).
Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fairlead_agent.errors import KubeError, SettingsInvalid
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Right
from fairlead_shared.findings import Finding

SUBJECT: Final = "rights"
_TOGETHER: Final = 16
"""Questions under way at once; a dozen kinds with seven verbs are answered within a second."""
_LARGEST_BYTES: Final = 1 << 20
"""As much as a ConfigMap holds."""


class Rule(BaseModel):
    """A rule of a Role, in Kubernetes' own words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_groups: tuple[str, ...] = Field(alias="apiGroups", min_length=1)
    resources: tuple[str, ...] = Field(min_length=1)
    resource_names: tuple[str, ...] = Field(default=(), alias="resourceNames")
    verbs: tuple[str, ...] = Field(min_length=1)


class Place(BaseModel):
    """What is declared for one namespace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str
    """Empty for the whole cluster."""
    rules: tuple[Rule, ...]


def read_rights(file: Path) -> tuple[Right, ...]:
    """
    Read a file of declared rights: a YAML list of `{namespace, rules}`.

    Returns: Every right by itself, each once, in the file's order.
    Raises: SettingsInvalid: it cannot be read, or holds something else.
    """
    try:
        content = file.read_bytes()
        if len(content) > _LARGEST_BYTES:
            raise SettingsInvalid("rights_file", "FAIRLEAD_RIGHTS_FILE", f"{file} is larger than 1 MiB")
        places = TypeAdapter(tuple[Place, ...]).validate_python(yaml.safe_load(content))
    except OSError as error:
        raise SettingsInvalid(
            "rights_file", "FAIRLEAD_RIGHTS_FILE", f"{file} cannot be read: {error.strerror}"
        ) from error
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        reason = f"{file} is no list of namespaces with rules of Roles"
        raise SettingsInvalid("rights_file", "FAIRLEAD_RIGHTS_FILE", reason) from error
    return tuple(dict.fromkeys(right for place in places for rule in place.rules for right in _of_rule(place, rule)))


def _of_rule(place: Place, rule: Rule) -> Iterable[Right]:
    for group in rule.api_groups:
        for resource in rule.resources:
            for name in rule.resource_names or ("",):
                for verb in rule.verbs:
                    yield Right(place.namespace, group, resource, name, verb)


async def examine_rights(client: KubeClient, rights: Iterable[Right]) -> list[Finding]:
    """
    Ask for each right.

    Returns: One finding for each namespace, with the rules that are missing; one alone if the API server fails.
    """
    places: dict[str, list[Right]] = {}
    for right in rights:
        places.setdefault(right.namespace, []).append(right)
    turns = asyncio.Semaphore(_TOGETHER)
    try:
        return [await _examine_place(client, turns, place, declared) for place, declared in places.items()]
    except KubeError as error:
        return [Finding(SUBJECT, passed=False, found=str(error), remedy="let the pod reach its own API server")]


async def _examine_place(client: KubeClient, turns: asyncio.Semaphore, place: str, declared: list[Right]) -> Finding:
    async def ask(right: Right) -> bool:
        async with turns:
            return await client.may(right)

    granted = await asyncio.gather(*map(ask, declared))
    missing = [right for right, has in zip(declared, granted, strict=True) if not has]
    where = f"in namespace {place}" if place else "in the whole cluster"
    if not missing:
        return Finding(SUBJECT, passed=True, found=f"all {len(declared)} that are declared {where} are granted")
    role = f"a Role in namespace {place}" if place else "a ClusterRole"
    return Finding(
        SUBJECT,
        passed=False,
        found=f"{len(missing)} of {len(declared)} that are declared {where} are not granted",
        remedy=f"add to {role}: {'; '.join(_rules_of(missing))}",
    )


def _rules_of(missing: list[Right]) -> list[str]:
    """Return the rules that would grant them, one a resource, as YAML on one line."""
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for right in missing:
        verbs.setdefault((right.group, right.resource, right.name), []).append(right.verb)
    return [
        f"{{apiGroups: [{json.dumps(group)}], resources: [{json.dumps(resource)}], "
        + (f"resourceNames: [{json.dumps(name)}], " if name else "")
        + f"verbs: [{', '.join(which)}]}}"
        for (group, resource, name), which in verbs.items()
    ]
