"""
Reach into a cluster's network namespace from a test process, without opening a way in for anybody else.

A socket belongs to the namespace it was made in, whatever its thread does later; and a thread may visit a namespace
while its process stays outside. Both need root. Must not: leave a thread of the caller in another namespace.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohappyeyeballs import AddrInfoType

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def inside(netns: Path) -> Iterator[None]:
    """
    Put the calling thread into a network namespace for the time of a block.

    Sockets made and programs started in the block are inside; sockets made before stay where they were. Never await in
    the block: the event loop's other tasks would run inside too.

    Args:
        netns: File of the namespace, as `Cluster.netns`.
    Raises: OSError: No such namespace, or not root.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(target, netns)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _enter(home, Path("/proc/thread-self/ns/net"))
    finally:
        os.close(home)


def socket_factory(netns: Path) -> Callable[[AddrInfoType], socket.socket]:
    """
    Make the argument of `aiohttp.TCPConnector(socket_factory=...)` whose connections start inside a namespace.

    Args:
        netns: File of the namespace, as `Cluster.netns`.
    """

    def make(address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        with inside(netns):
            fresh = socket.socket(family, kind, protocol)
        fresh.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        return fresh

    return make


def connect(netns: Path, address: str, port: int, *, seconds: float = 5.0) -> socket.socket:
    """
    Open a TCP connection from inside a namespace.

    Args:
        netns: File of the namespace.
        address: IP address as seen from inside.
        port: TCP port.
        seconds: Time limit, also of later reads and writes.
    Returns: A connected socket; the caller closes it.
    Raises: OSError: Refused, unreachable or too slow.
    """
    with inside(netns):
        fresh = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        fresh.settimeout(seconds)
        fresh.connect((address, port))
    except BaseException:
        fresh.close()
        raise
    return fresh


def call_inside(netns: Path, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Run a function in a fresh thread that lives in a namespace, as the official `kubernetes` client wants it.

    The client opens its sockets when it likes; in such a thread all of them, exec and port-forward streams too, start
    inside. Objects that open connections later (a client kept for another call) need another `call_inside`.

    Args:
        netns: File of the namespace, as `Cluster.netns`.
        function: What to run.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.
    Returns: What the function returned.
    Raises: Whatever the function raised.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def visit() -> None:
        try:
            with inside(netns):
                outcome.append(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - carried to the calling thread, which raises it
            failure.append(error)

    thread = threading.Thread(target=visit, name=f"inside {netns.name}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _enter(descriptor: int, name: Path) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"entering the network namespace {name} failed: {os.strerror(number)}")
