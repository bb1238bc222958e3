"""
The bus: tells the parts of one relay what the store has committed, by whichever relay, so that nobody polls.

A message that is lost or dropped costs latency, never a job and never an event: whoever lags reads from the store
again.
"""

from fairlead_relay.bus.local import LAGGED, WORK, LocalBus, Subscription
from fairlead_relay.bus.postgresql import SharedBus

__all__ = ["LAGGED", "WORK", "LocalBus", "SharedBus", "Subscription"]
