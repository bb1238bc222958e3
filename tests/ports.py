"""
Ports whose number is known before their server listens, or that it comes back to: nobody else is given them meanwhile.

The kernel gives a port that is free to whoever asks next, and with several tests at once somebody does.
"""

import os
import socket


class HeldPort:
    """
    A port that is bound and never listened on: a server that sets SO_REUSEADDR, as all do here, listens all the same.

    Args:
        address: IP address of this machine.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        with socket.socket() as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((address, 0))
            self.number: int = held.getsockname()[1]
            # A mere number: a test that forgets it is not to fail by a warning of its socket.
            self._descriptor = held.detach()

    def close(self) -> None:
        """Give it up. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
