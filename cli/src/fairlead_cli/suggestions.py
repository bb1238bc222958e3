"""
What somebody may have meant by a name that the relay does not know.

Asked only after a refusal, and only what the same token may list; when it fails, nobody is told.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice
from urllib.parse import unquote

from fairlead_cli.alarms import TimeIsUp, alarm_after
from fairlead_cli.client import Client
from fairlead_cli.errors import CliError

SUGGEST_SECONDS = 2.0
MAX_NAMES = 1000
_FEW = 5
"""Names that are simply listed when none is like the wrong one."""

_ROOT_SEGMENTS = 4
"""Of `/v1/organizations/NAME`, split at its slashes."""


def suggest(client: Client, path: str) -> str:
    """
    Return the end of a sentence that says what may have been meant.

    Args:
        client: The relay.
        path: Of the call that it answered with `not_found`.
    Returns: Such as `did you mean 'staging'?`; empty if every name is there, or nobody knows.
    """
    segments = [unquote(segment) for segment in path.split("/")][_ROOT_SEGMENTS:]
    above = ""
    try:
        with alarm_after(SUGGEST_SECONDS):
            for collection, name in zip(segments[::2], segments[1::2], strict=False):
                names = list(islice(_names(client, collection, above), MAX_NAMES))
                if names and name not in names:
                    return _sentence(collection, name, names)
                above = name
    except (CliError, TimeIsUp):
        pass
    return ""


def _names(client: Client, collection: str, above: str) -> Iterable[str]:
    match collection:
        case "clusters":
            return (one.name for one in client.clusters())
        case "agents":
            return (one.cluster for one in client.agents())
        case "applications":
            return (one.name for one in client.applications())
        case "environments":
            return (one.name for one in client.environments(above))
        case _:
            return ()


def _sentence(collection: str, name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"{collection} are {', '.join(names)}" if len(names) <= _FEW else ""
