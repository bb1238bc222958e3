"""`fairlead completion`: the script by which a shell completes commands and options."""

from __future__ import annotations

import click

from fairlead_cli.options import examples

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=examples(
        "source <(fairlead completion bash)",
        "fairlead completion fish > ~/.config/fish/completions/fairlead.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from fairlead_cli.__main__ import fairlead

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(found(fairlead, {}, "fairlead", "_FAIRLEAD_COMPLETE").source())
