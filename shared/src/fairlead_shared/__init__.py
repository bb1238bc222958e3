"""What both ends of a Fairlead link must agree on; no I/O happens in this package."""

from importlib.metadata import version

__version__ = version("fairlead-shared")
