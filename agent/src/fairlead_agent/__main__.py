"""
The `fairlead-agent` command. Flags override environment variables; secrets come as files, never as arguments.

Exit codes: 0 stopped as asked, 1 any other failure, 2 wrong settings or policy, 4 the relay does not enrol this agent.
Imports are lazy, so that `--help` and `--version` answer at once.
"""

# ruff: noqa: PLC0415  (each command imports what it needs when it runs)
from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairlead_agent import __version__
from fairlead_agent.errors import AgentError, EnrolmentRefused, PolicyInvalid, SettingsInvalid

if TYPE_CHECKING:
    from fairlead_agent.identity_store import Identity
    from fairlead_agent.kube.resources import Right
    from fairlead_agent.settings import Settings
    from fairlead_shared.findings import Finding

EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED = 1, 2, 4
Command = Callable[..., None]


def _setting(flag: str, variable: str, text: str, **more: Any) -> Callable[[Command], Command]:  # noqa: ANN401  (click's)
    return click.option(flag, envvar=variable, show_envvar=True, help=text, **more)


def _cluster_settings(command: Command) -> Command:
    """Add the settings that say how to reach the API server."""
    path = click.Path(path_type=Path)
    for decorate in (
        _setting("--kubernetes-port", "KUBERNETES_SERVICE_PORT", "Port of the API server.", type=int),
        _setting("--kubernetes-host", "KUBERNETES_SERVICE_HOST", "Host of the API server."),
        _setting(
            "--service-account-dir",
            "FAIRLEAD_SERVICE_ACCOUNT_DIR",
            "Directory with token, ca.crt, namespace.",
            type=path,
        ),
        _setting("--state-namespace", "FAIRLEAD_STATE_NAMESPACE", "Namespace of the agent's own objects."),
    ):
        command = decorate(command)
    return command


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serve one private Kubernetes cluster from inside it: dial out to a relay, apply what the operator allows.",
)
@click.version_option(__version__, prog_name="fairlead-agent")
def cli() -> None:
    """Implement `fairlead-agent`."""


@cli.command(help="Run the agent until SIGTERM or SIGINT; jobs under way are resumed at the next start.")
@_setting("--relay-url", "FAIRLEAD_RELAY_URL", "Address of the relay's agent port, wss://HOST:PORT.")
@_setting("--policy-file", "FAIRLEAD_POLICY_FILE", "The operator's rules, YAML.", type=click.Path(path_type=Path))
@_setting(
    "--enrolment-token-file",
    "FAIRLEAD_ENROLMENT_TOKEN_FILE",
    "File with the one-time token; needed until there is a certificate.",
    type=click.Path(path_type=Path),
)
@_setting(
    "--ca-bundle-file",
    "FAIRLEAD_CA_BUNDLE_FILE",
    "Further roots, PEM, of a proxy reached over TLS or of what inspects TLS (HTTPS_PROXY and NO_PROXY are heeded).",
    type=click.Path(path_type=Path),
)
@_setting(
    "--tls-inspection", "FAIRLEAD_TLS_INSPECTION", "Let the network end TLS on the way.", is_flag=True, default=None
)
@_setting("--spool-dir", "FAIRLEAD_SPOOL_DIR", "Directory for journals and bundles.", type=click.Path(path_type=Path))
@_setting("--log-format", "FAIRLEAD_LOG_FORMAT", "json or console.", type=click.Choice(["json", "console"]))
@_setting("--probe-port", "FAIRLEAD_PROBE_PORT", "Port of /healthz and /readyz; 0: none.", type=int)
@_setting("--metrics-port", "FAIRLEAD_METRICS_PORT", "Port of /metrics, for Prometheus; 0: none.", type=int)
@_setting("--token-hold-seconds", "FAIRLEAD_TOKEN_HOLD_SECONDS", "Wait so long for a new token.", type=float)
@_cluster_settings
def run(**values: Any) -> None:  # noqa: ANN401  (click's)
    """Implement `fairlead-agent run`."""
    import uvloop

    from fairlead_agent.app import Agent
    from fairlead_agent.heap import keep_small
    from fairlead_agent.logs import set_up_logs
    from fairlead_agent.proxy import proxy_variables
    from fairlead_agent.settings import read_settings

    settings = read_settings({**values, **proxy_variables(os.environ)})
    logger = set_up_logs(settings.log_format)
    agent = Agent(settings, logger)
    logger.info("agent.start", version=__version__, relay=settings.relay_url, replica=settings.replica)
    keep_small()
    uvloop.run(agent.run())
    logger.info("agent.stopped")


@cli.command(
    help="Walk the way to the relay hop by hop and say what fails. Changes nothing; exit code 1 when something fails."
)
@_setting("--relay-url", "FAIRLEAD_RELAY_URL", "Address of the relay's agent port, wss://HOST:PORT.")
@_setting(
    "--enrolment-token-file",
    "FAIRLEAD_ENROLMENT_TOKEN_FILE",
    "File with the one-time token, for an agent that is not enrolled yet.",
    type=click.Path(path_type=Path),
)
@_setting(
    "--ca-bundle-file",
    "FAIRLEAD_CA_BUNDLE_FILE",
    "Further roots, PEM, of a proxy reached over TLS or of what inspects TLS.",
    type=click.Path(path_type=Path),
)
@_setting(
    "--tls-inspection", "FAIRLEAD_TLS_INSPECTION", "Let the network end TLS on the way.", is_flag=True, default=None
)
@_cluster_settings
@_setting(
    "--rights-file",
    "FAIRLEAD_RIGHTS_FILE",
    "Rights to ask the API server for: a YAML list of {namespace, rules}, rules as in a Role.",
    type=click.Path(path_type=Path),
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the findings.")
def doctor(output: str, rights_file: Path | None, **values: Any) -> None:  # noqa: ANN401  (click's)
    """Implement `fairlead-agent doctor`."""
    import uvloop

    from fairlead_agent.kube.rights import read_rights
    from fairlead_agent.proxy import proxy_variables
    from fairlead_agent.settings import read_settings

    settings = read_settings({**values, **proxy_variables(os.environ), "policy_file": "unused"})
    rights = () if rights_file is None else read_rights(rights_file)
    findings = uvloop.run(_examine(settings, rights))
    is_well = all(finding.passed for finding in findings)
    if output == "json":
        click.echo(json.dumps({"well": is_well, "hops": [finding.as_fields("hop") for finding in findings]}, indent=2))
    else:
        for finding in findings:
            click.echo(finding.line)
    sys.exit(0 if is_well else EXIT_FAILED)


async def _examine(settings: Settings, rights: tuple[Right, ...]) -> list[Finding]:
    from fairlead_agent.app import kube_client
    from fairlead_agent.dialling import Dialler
    from fairlead_agent.doctor import Doctor
    from fairlead_agent.enrolment import read_token
    from fairlead_agent.kube.rights import examine_rights
    from fairlead_shared.findings import Finding

    before: list[Finding] = []
    identity = token = None
    try:
        identity = await _find_identity(settings)
    except AgentError as error:
        remedy = "run it in the agent's pod: kubectl exec deploy/RELEASE -- fairlead-agent doctor"
        before.append(Finding("kubernetes", passed=False, found=f"the stored identity: {error}", remedy=remedy))
    if settings.enrolment_token_file is not None and (identity is None or identity.certificate is None):
        try:
            token = read_token(settings.enrolment_token_file)
        except EnrolmentRefused as error:
            before.append(Finding("token", passed=False, found=error.reason, remedy="make a new one"))
    examination = Doctor(Dialler.of(settings), identity, token)
    await examination.examine()
    granted: list[Finding] = []
    if rights:
        async with kube_client(settings) as client:
            granted = await examine_rights(client, rights)
    return [*before, *examination.findings, *granted]


@cli.command(
    help="Print the agent's public keys and certificate, for comparison with what the relay shows. Changes nothing."
)
@_cluster_settings
def keys(**values: Any) -> None:  # noqa: ANN401  (click's)
    """Implement `fairlead-agent keys`."""
    import uvloop

    from fairlead_agent.settings import read_settings

    # The two others are needed to run, not to look.
    unused = {"relay_url": "wss://unused", "policy_file": "unused"}
    settings = read_settings({**values, **unused})
    identity = uvloop.run(_find_identity(settings))
    if identity is None:
        raise click.ClickException("there is no identity yet: the agent makes its keys when it first runs")
    for line in _describe(identity):
        click.echo(line)


async def _find_identity(settings: Settings) -> Identity | None:
    from fairlead_agent.app import kube_client, state_objects
    from fairlead_agent.identity_store import IdentityStore

    async with kube_client(settings) as client:
        return await IdentityStore(state_objects(client, settings)).find()


def _describe(identity: Identity) -> list[str]:
    from fairlead_shared.identity import (
        certificate_fingerprint,
        identity_fingerprint,
        key_fingerprint,
        public_key_sha256,
    )

    identity_key = identity_fingerprint(public_key_sha256(identity.enrolment_key.public_key()))
    lines = [
        f"identity key:  {identity_key}",
        f"sealing key:   {key_fingerprint(identity.sealing_key.public_key())}",
        f"               {identity.sealing_public}",
    ]
    if identity.certificate is None:
        return [*lines, "certificate:   none yet (not enrolled)"]
    leaf = identity.certificate.leaf
    lines += [
        f"agent:         {identity.certificate.agent}",
        f"certificate:   {certificate_fingerprint(leaf)}",
        f"valid until:   {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
    ]
    if identity.relay_signer is not None:
        lines.append(f"relay signer:  {key_fingerprint(identity.relay_signer)}")
    return lines


def main() -> None:
    """Run the command; failures become one sentence on stderr and an exit code."""
    try:
        cli()
    except (SettingsInvalid, PolicyInvalid) as error:
        _fail(str(error), EXIT_USAGE)
    except EnrolmentRefused as error:
        _fail(str(error), EXIT_REFUSED)
    except AgentError as error:
        _fail(error.explained(), EXIT_FAILED)
    except OSError as error:
        _fail(f"{error.filename or 'a port or file'}: {error.strerror or error}", EXIT_FAILED)


def _fail(sentence: str, code: int) -> None:
    click.echo(f"fairlead-agent: {sentence}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
