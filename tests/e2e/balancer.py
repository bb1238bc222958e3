"""
A TCP balancer in front of relays or API servers, as a Service of Kubernetes is: one address, whoever answers.

It forwards bytes and looks into none, so TLS ends behind it. Connections go to the first target that takes them.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK_BYTES = 64 * 1024
_CONNECT_SECONDS = 2.0


class Balancer:
    """
    Balances from its making until it is closed.

    Args:
        targets: Ports; the order may be changed at any time.
        dial: Opens a connection to one; None: those of this machine's loopback interface.
    """

    def __init__(self, targets: list[int], dial: Callable[[int], socket.socket] | None = None) -> None:
        self.targets = targets
        self._dial_one = dial or _dial_loopback
        self._listener = socket.create_server(("0.0.0.0", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="balancer", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave the thread in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), name="balanced", daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        """Carry bytes both ways until either side ends: nobody here closes half of one."""
        with contextlib.suppress(OSError), client, self._dial() as target, selectors.DefaultSelector() as waiting:
            waiting.register(client, selectors.EVENT_READ, target)
            waiting.register(target, selectors.EVENT_READ, client)
            while True:
                for key, _ in waiting.select():
                    content = key.fileobj.recv(_CHUNK_BYTES)  # type: ignore[union-attr]  # sockets are registered
                    if not content:
                        return
                    key.data.sendall(content)

    def _dial(self) -> socket.socket:
        """Connect to the first target that takes it. Raises: OSError: none does."""
        for port in self.targets[:-1]:
            with contextlib.suppress(OSError):
                return self._dial_one(port)
        return self._dial_one(self.targets[-1])


def _dial_loopback(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), _CONNECT_SECONDS)
