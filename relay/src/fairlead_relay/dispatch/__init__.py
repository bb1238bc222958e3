"""
Dispatch: gives queued jobs to connected agents, and takes their answers back into the store.

The dispatcher holds no truth: which job runs where is in the store, so a relay that dies here loses nothing.
"""

from fairlead_relay.dispatch.dispatcher import Dispatcher
from fairlead_relay.dispatch.link import AgentLink, Connected, DispatchHooks, DispatchLimits

__all__ = ["AgentLink", "Connected", "DispatchHooks", "DispatchLimits", "Dispatcher"]
