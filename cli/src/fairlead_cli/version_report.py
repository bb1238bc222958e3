"""What `fairlead version` found, in the form `-o json` prints it."""

from __future__ import annotations

from pydantic import BaseModel


class VersionReport(BaseModel):
    """Versions of the command and, if there is one to talk to, of the relay."""

    fairlead: str
    server: str | None = None
    relay: str | None = None
    api: str | None = None
