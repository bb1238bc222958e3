"""The Fairlead relay, which agents dial and people talk to."""

from importlib.metadata import version

__version__ = version("fairlead-relay")
