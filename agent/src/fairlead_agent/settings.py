"""
Settings of the agent process: one frozen model, filled from flags and environment variables when the process starts.

What the agent may do is not a setting but the policy file (policy.py), which is read again when it changes. Secrets
come as files; the one exception is a proxy's password, which by custom is in HTTPS_PROXY, and is never shown.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo

from fairlead_agent.errors import SettingsInvalid
from fairlead_agent.proxy import parse_proxy

DEFAULT_SPOOL_DIR = Path("/var/lib/fairlead")
"""Where the chart mounts its size-limited emptyDir."""
DEFAULT_SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def _relay_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "wss" or not parts.hostname:
        raise ValueError("it must look like wss://HOST:PORT, as 'fairlead cluster create' prints it")
    if parts.path.strip("/") or parts.query or parts.username:
        raise ValueError("it must be wss://HOST:PORT without path, query or user")
    return value.rstrip("/")


def _proxy(value: SecretStr) -> SecretStr:
    if value.get_secret_value():
        parse_proxy(value.get_secret_value())
    return value


def _wants_bundle(value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  (pydantic calls it)
    if value and info.data.get("ca_bundle_file") is None:
        raise ValueError("it needs the CA of what inspects TLS here: set FAIRLEAD_CA_BUNDLE_FILE")
    return value


class Settings(BaseModel):
    """Everything the process is told at its start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    relay_url: Annotated[str, AfterValidator(_relay_url)]
    """Address of the relay's agent port, `wss://HOST:PORT`."""
    policy_file: Path
    """The operator's rules, see policy.py."""
    enrolment_token_file: Path | None = None
    """Holds the one-time token; needed only while there is no certificate. None: there is none."""
    https_proxy: Annotated[SecretStr, AfterValidator(_proxy)] = SecretStr("")
    """HTTP proxy on the way to the relay, from HTTPS_PROXY; empty: none. See proxy.py."""
    no_proxy: str = ""
    """Hosts to reach without it, from NO_PROXY."""
    ca_bundle_file: Path | None = None
    """PEM file of further roots: of a proxy that is itself reached over TLS, or of what inspects TLS; None: none."""
    tls_inspection: Annotated[bool, AfterValidator(_wants_bundle)] = False
    """Whether something in the operator's network may end TLS on the way; the relay has to allow it too."""
    state_namespace: str = ""
    """Namespace of the agent's own objects; empty: that of its ServiceAccount."""
    spool_dir: Path = DEFAULT_SPOOL_DIR
    """Directory for event journals and cached bundles. It may be lost: steps are derived again."""
    service_account_dir: Path = DEFAULT_SERVICE_ACCOUNT_DIR
    """Directory with `token`, `ca.crt` and `namespace`, as the kubelet mounts it."""
    kubernetes_host: str
    """Host of the API server."""
    kubernetes_port: int = Field(default=443, ge=1, le=65_535)
    log_format: Literal["json", "console"] = "json"
    probe_port: int = Field(default=0, ge=0, le=65_535)
    """TCP port of /healthz and /readyz; 0 switches them off (for runs outside Kubernetes)."""
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    """TCP port of /metrics, for Prometheus; 0: none."""
    token_hold_seconds: float = Field(default=30, ge=0, le=3600)
    """How long to wait for a new token after one was refused, before the process ends. 30 s keep a restart loop slow
    without hiding the failure; 0 ends at once, for runs by hand."""
    replica: str = Field(default_factory=socket.gethostname)
    """Name of this copy of the agent: the pod's name, which is its host name."""


def read_settings(values: Mapping[str, Any]) -> Settings:
    """
    Check the values of flags and environment.

    Args:
        values: Field name → value; None and empty text mean "not given".
    Raises: SettingsInvalid: a value is missing or wrong; the flag and its variable are named.
    """
    given = {name: value for name, value in values.items() if value not in (None, "")}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0])
        reason = "is not set" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        raise SettingsInvalid(field, variable_of(field), reason) from None


def variable_of(field: str) -> str:
    """Return the environment variable of a setting."""
    given_by_others = {
        "kubernetes_host": "KUBERNETES_SERVICE_HOST",
        "kubernetes_port": "KUBERNETES_SERVICE_PORT",
        "https_proxy": "HTTPS_PROXY",
        "no_proxy": "NO_PROXY",
    }
    return given_by_others.get(field, f"FAIRLEAD_{field.upper()}")
