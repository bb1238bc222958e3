"""
`fairlead-relay ca`: shows the certificate authority, and changes it while the relay serves.

A change is two commands: `rotate` makes the next generation, which the relay takes up within seconds, and shows how the
agents move to it; `finish` ends the trust in the old one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from fairlead_relay.commands.settings_options import data_dir_option, make_settings

if TYPE_CHECKING:
    from fairlead_relay.settings import Settings
    from fairlead_relay.store import Store
    from fairlead_relay.store.access import Moves

LOOK_SECONDS: Final = 1.0
"""How often to look how far the agents have moved."""
SHOWN: Final = 10
"""Agents that have not moved, named; the rest is counted."""
T = TypeVar("T")


@click.group()
def authority() -> None:
    """Show and change the certificate authority."""


@authority.command()
@data_dir_option
def show(data_dir: Path | None) -> None:
    """
    Print the root certificate and its fingerprint, made first if there is none.

    The output is a PEM file as it is: fairlead-relay ca show > relay-ca.pem
    """
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.pki.authority import CertificateAuthority  # noqa: PLC0415

    found = CertificateAuthority.open(_folder_of(settings), time.time)
    click.echo(f"# SHA-256 fingerprint: {found.root_fingerprint}")
    click.echo(found.root_pem, nl=False)


FileType = click.Path(path_type=Path, exists=True, dir_okay=False)


@authority.command(name="use")
@data_dir_option
@click.option("--root-file", type=FileType, required=True, help="Certificate that agents and people trust, PEM.")
@click.option("--issuing-file", type=FileType, required=True, help="Certificate of a CA that the root signed, PEM.")
@click.option("--issuing-key-file", type=FileType, required=True, help="Its key, ECDSA, not encrypted, PEM.")
def use_given(data_dir: Path | None, root_file: Path, issuing_file: Path, issuing_key_file: Path) -> None:
    """
    Use your own CA, before the relay's first start. The root's key stays with you.

    The files are copied with mode 0600.
    """
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.pki.generations import create_given  # noqa: PLC0415
    from fairlead_shared.identity import certificate_fingerprint  # noqa: PLC0415

    folder = _folder_of(settings)
    try:
        content = [file.read_bytes() for file in (root_file, issuing_file, issuing_key_file)]
        made = create_given(folder, *content)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    click.echo(f"the relay will issue under the root {certificate_fingerprint(made.root)}")


@authority.command()
@data_dir_option
@click.option("--keep-root", is_flag=True, help="Make only a new issuing CA; who pinned the root notices nothing.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Show how the agents move, until all have.")
def rotate(data_dir: Path | None, keep_root: bool, wait: bool) -> None:  # noqa: FBT001  (click passes by name)
    """
    Change the CA: a new root and issuing CA from now on, beside the old ones.

    The relay that serves takes them up within seconds. Connected agents renew over their connections and learn the new
    root with that; the others do when they come back. Servers still satisfy who trusts the old root. End the change
    with 'fairlead-relay ca finish'.
    """
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.pki.certificates import from_epoch  # noqa: PLC0415
    from fairlead_relay.pki.generations import begin_change  # noqa: PLC0415

    folder = _folder(settings)
    try:
        made = begin_change(folder, from_epoch(time.time()), keep_root=keep_root)
    except OSError as error:
        raise click.ClickException(f"{folder}: {error.strerror}") from error
    click.echo(f"generation {made.number} of the CA issues from now on")
    if wait:
        _with_store(settings, lambda store: _follow(store, made.issuer))


@authority.command()
@data_dir_option
def status(data_dir: Path | None) -> None:
    """Show whether the CA is being changed, and how many agents have moved."""
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.pki.generations import read_generations  # noqa: PLC0415
    from fairlead_shared.identity import certificate_fingerprint  # noqa: PLC0415

    generations = read_generations(_folder(settings))
    for one in generations:
        role = "issues" if one is generations[-1] else "still counts"
        click.echo(f"generation {one.number} {role}: root {certificate_fingerprint(one.root)}, issuing CA {one.issuer}")
    moves = _with_store(settings, lambda store: _count(store, generations[-1].issuer))
    click.echo(_progress(moves))
    for name in moves.unmoved[:SHOWN]:
        click.echo(f"  not yet: {name}")
    if len(moves.unmoved) > SHOWN:
        click.echo(f"  and {len(moves.unmoved) - SHOWN} more")


@authority.command()
@data_dir_option
@click.option("--leave-behind", is_flag=True, help="Also if agents have not moved: each must then enrol anew.")
def finish(data_dir: Path | None, leave_behind: bool) -> None:  # noqa: FBT001  (click passes by name)
    """
    End a change of the CA: only the new one counts, and the old one's keys are deleted.

    The relay that serves takes it up within seconds.
    """
    settings = make_settings(data_dir=data_dir)
    from fairlead_relay.pki.generations import finish_change, read_generations  # noqa: PLC0415

    folder = _folder(settings)
    moves = _with_store(settings, lambda store: _count(store, read_generations(folder)[-1].issuer))
    if moves.unmoved and not leave_behind:
        names = ", ".join(moves.unmoved[:SHOWN])
        raise click.ClickException(
            f"{_progress(moves)}; not yet: {names}{' …' if len(moves.unmoved) > SHOWN else ''}; wait for them, or give "
            "--leave-behind, after which each must enrol with a new token"
        )
    try:
        last = finish_change(folder)
    except OSError as error:
        raise click.ClickException(f"{folder}: {error.strerror}") from error
    click.echo(f"only generation {last.number} of the CA counts from now on")


def _folder(settings: Settings) -> Path:
    """Return the authority's folder, made first if there is none."""
    from fairlead_relay.pki.authority import CertificateAuthority  # noqa: PLC0415

    folder = _folder_of(settings)
    CertificateAuthority.open(folder, time.time)
    return folder


def _folder_of(settings: Settings) -> Path:
    """Return where the authority's folder is or will be; the data directory is made for it if it is there."""
    from fairlead_relay.data_directory import DataDirectory  # noqa: PLC0415

    if not settings.authority_dir:
        DataDirectory(settings.data_dir)
    return settings.authority


def _with_store(settings: Settings, use: Callable[[Store], Awaitable[T]]) -> T:
    from fairlead_relay.store import Store  # noqa: PLC0415

    async def run() -> T:
        store = Store(settings.database, lambda *_: None)
        await store.start()
        try:
            return await use(store)
        finally:
            await store.stop()

    return asyncio.run(run())


async def _count(store: Store, issuer: str) -> Moves:
    from fairlead_relay.store.access import count_moves  # noqa: PLC0415

    return await store.read(lambda connection: count_moves(connection, issuer))


async def _follow(store: Store, issuer: str) -> None:
    shown = ""
    while True:
        moves = await _count(store, issuer)
        if (line := _progress(moves)) != shown:
            click.echo(line)
            shown = line
        if not moves.unmoved:
            click.echo("all agents have moved; 'fairlead-relay ca finish' ends the trust in the old CA")
            return
        await asyncio.sleep(LOOK_SECONDS)


def _progress(moves: Moves) -> str:
    return f"{moves.moved} of {moves.agents} agents moved"
