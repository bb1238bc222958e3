"""The Fairlead agent, which serves one private cluster from inside it."""

from importlib.metadata import version

__version__ = version("fairlead-agent")
