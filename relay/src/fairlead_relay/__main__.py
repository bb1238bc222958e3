"""Entry point of `fairlead-relay` and of `python -m fairlead_relay`."""

from __future__ import annotations

from fairlead_relay.commands.root import cli


def main() -> None:
    """Run the command line."""
    cli(prog_name="fairlead-relay")


if __name__ == "__main__":
    main()
