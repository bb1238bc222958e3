"""Compares what is about to be deployed with the bundle that an environment took last; nothing is sent or changed."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead_cli.changes import Changes, compare
from fairlead_cli.client import Client
from fairlead_cli.errors import AnswerInvalid
from fairlead_cli.manifests import Located
from fairlead_cli.records import Environment
from fairlead_cli.terminal import Terminal
from fairlead_shared.bundle import BundleHash, read_bundle
from fairlead_shared.errors import BundleInvalid


def compare_with_current(client: Client, environment: Environment, located: Sequence[Located]) -> Changes:
    """
    Compare objects with those of the deployment that succeeded last.

    Args:
        client: The relay, which has its bundle.
        environment: With its `application` named.
        located: What is to be deployed.
    Raises: AnswerInvalid: the relay's bundle is not the one it names.
    """
    current = environment.current
    before = []
    if current is not None:
        content = client.bundle(current.bundle_sha256)
        try:
            before = list(read_bundle(content, BundleHash(current.bundle_sha256)).objects())
        except BundleInvalid as error:
            raise AnswerInvalid(f"bundle {current.bundle_sha256}", error.reason) from error
    label = f"deployment {current.id}" if current is not None else ""
    return Changes(
        application=environment.application,
        environment=environment.name,
        cluster=environment.cluster,
        compared_with=current.id if current is not None else None,
        objects=compare(before, located, label),
    )


def remark(terminal: Terminal, environment: Environment, changes: Changes) -> None:
    """Say what the comparison cannot know."""
    unknown = changes.counts()["unknown"]
    if unknown:
        secrets = f"{unknown} Secret has" if unknown == 1 else f"{unknown} Secrets have"
        terminal.say(f"{secrets} sealed values, which cannot be compared")
    latest, current = environment.latest, environment.current
    if latest is not None and (current is None or latest.id != current.id):
        terminal.say(f"deployment {latest.id} came after it and is {latest.state}; what it changed is not considered")
