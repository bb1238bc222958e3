"""The `fairlead` command, a client of the relay's API."""

from importlib.metadata import version

__version__ = version("fairlead")
