"""
A real relay in a process of its own, for tests: started on free ports, killed, started again.

It is the installed command with nothing replaced; tests talk to it over TLS, with its own certificate authority.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner

from fairlead_relay.commands.root import cli
from tests.polling import PATIENCE_SECONDS, wait_until
from tests.ports import HeldPort


@dataclass
class RelayProcess:
    """One relay and its data directory, which outlives the process."""

    data_dir: Path
    api_port: int = 0
    agent_port: int = 0
    agent_host: str = "127.0.0.1"
    """Address of the agent port; clusters in namespaces of their own cannot dial this machine's loopback."""
    environment: dict[str, str] = field(default_factory=dict)
    """Further FAIRLEAD_RELAY_… settings."""
    module: str = "fairlead_relay"
    """What to run: the relay, or one that also counts something."""
    process: subprocess.Popen[bytes] | None = None
    clients: list[Api] = field(default_factory=list)
    held: list[HeldPort] = field(default_factory=list)
    """Its ports, once it was started."""

    @property
    def log(self) -> Path:
        """File of everything the relay wrote, over all its lives."""
        return self.data_dir.parent / f"{self.data_dir.name}.log"

    @property
    def ca_file(self) -> Path:
        """The root certificate."""
        return Path(self.environment.get("FAIRLEAD_RELAY_AUTHORITY_DIR", self.data_dir / "pki")) / "root.pem"

    @property
    def api_url(self) -> str:
        """Address of the API."""
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def agent_url(self) -> str:
        """Address that agents dial."""
        return f"wss://localhost:{self.agent_port}"

    def start(self) -> RelayProcess:
        """Start the relay, on the ports of its former life if it had one, and wait until it is ready."""
        if not self.held:
            api, agents = self.held = [HeldPort(), HeldPort(self.agent_host)]
            self.api_port, self.agent_port = api.number, agents.number
        command = [sys.executable, "-m", self.module, "serve", "--data-dir", str(self.data_dir)]
        command += [
            "--api-listen",
            f"127.0.0.1:{self.api_port}",
            "--agent-listen",
            f"{self.agent_host}:{self.agent_port}",
        ]
        ready = self.data_dir / "ready.json"
        ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | self.environment
            )
        self.process = process
        wait_until(lambda: ready.exists() or process.poll() is not None, "the relay to be ready")
        if process.poll() is not None:
            raise RuntimeError(f"the relay ended while it started:\n{self.log.read_text()}")
        return self

    def kill(self) -> None:
        """End the process without any warning."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_SECONDS)
            self.process = None

    def stop(self) -> int:
        """Ask the process to end, and return its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()

    def token(self, role: str = "admin", organization: str = "acme", expires: str = "1h") -> str:
        """Create an API token by the relay's own command. Not from within a running event loop."""
        arguments = ["token", "create", "--data-dir", str(self.data_dir), "--organization", organization]
        result = CliRunner().invoke(cli, [*arguments, "--role", role, "--expires", expires], env=self.environment)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    def client(self, token: str | None = None) -> Api:
        """Return a client of the API; it lives as long as the relay's fixture."""
        self.clients.append(Api(self, token))
        return self.clients[-1]

    def close(self) -> None:
        """End the process and everything that was connected to it."""
        self.kill()
        for client in self.clients:
            client.close()
        for port in self.held:
            port.close()


class Api(httpx.Client):
    """A client of one relay's API, with its certificate authority and a token."""

    def __init__(self, relay: RelayProcess, token: str | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        context = ssl.create_default_context(cafile=str(relay.ca_file))
        super().__init__(base_url=relay.api_url, headers=headers, verify=context, timeout=PATIENCE_SECONDS)

    def ask(self, method: str, path: str, body: object = None, expect: int = 200) -> Any:  # noqa: ANN401  (JSON)
        """Send JSON and return JSON, after checking the status."""
        answer = self.request(method, path, json=body) if body is not None else self.request(method, path)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None
