"""The data directory: made on the first start, held by one relay at a time, and where it says that it is ready."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from fairlead_relay.errors import DataDirectoryUnusable
from fairlead_relay.pki.private_files import write_private
from fairlead_relay.pki.random_text import random_base32


class DataDirectory:
    """
    A folder and what the relay keeps in it.

    Args:
        folder: Made if its parent exists.

    Raises: DataDirectoryUnusable: it cannot be made or written.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DataDirectoryUnusable(str(folder), error.strerror or str(error)) from error
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise DataDirectoryUnusable(str(folder), "no right to write in it")

    @property
    def server_certificate(self) -> Path:
        """File of the servers' key and certificate chain."""
        return self.folder / "server.pem"

    @property
    def blobs(self) -> Path:
        """Folder of the bundles."""
        return self.folder / "blobs"

    @property
    def ready_file(self) -> Path:
        """File that exists while the relay serves, with its URLs."""
        return self.folder / "ready.json"

    def hold(self) -> None:
        """
        Keep other relays out until release() or the end of the process.

        Raises: DataDirectoryUnusable: another relay runs on it, or the lock cannot be made.
        """
        try:
            lock = os.open(self.folder / "relay.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirectoryUnusable(str(self.folder), error.strerror or str(error)) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise DataDirectoryUnusable(str(self.folder), "another relay runs on it") from error
        self._lock = lock
        # Of a relay that was killed; whoever waits for this one must not find it.
        self.ready_file.unlink(missing_ok=True)

    def release(self) -> None:
        """Say that the relay no longer serves, and let others in; idempotent."""
        if self._lock is not None:
            self.ready_file.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def relay_id(self) -> str:
        """
        Return this relay's name among those that share a store, made on the first start and the same ever after.

        Raises: DataDirectoryUnusable: it cannot be read or written.
        """
        file = self.folder / "relay-id"
        try:
            if not file.exists():
                write_private(file, random_base32(16).encode())
            return file.read_text().strip()
        except OSError as error:
            raise DataDirectoryUnusable(str(self.folder), error.strerror or str(error)) from error

    def say_ready(self, api_url: str, agent_url: str, api_listen: str, agent_listen: str) -> None:
        """
        Write where the relay is reached, for whoever started it and waits.

        Args:
            api_url: For people.
            agent_url: For agents.
            api_listen: Address and port that the API really has, which the URL need not lead to from this machine.
            agent_listen: The same of the agent port.

        """
        content = {
            "api_url": api_url,
            "agent_url": agent_url,
            "api_listen": api_listen,
            "agent_listen": agent_listen,
            "pid": os.getpid(),
        }
        write_private(self.ready_file, json.dumps(content).encode())
