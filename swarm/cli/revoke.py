"""`swarm revoke`: throws out a member, or takes back an invite."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from . import _completion, _registrar
from ._registrar import AdminOption, FolderOption
from .runner import run_async

if TYPE_CHECKING:
    from swarm.wire.enrolment import Expelled


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="revoke")(revoke)


def revoke(
    name: Annotated[
        str,
        typer.Argument(
            help="A member's name, or an open invite's, or as much of its id as `swarm members`"
            " shows.",
            autocompletion=_completion.members,
        ),
    ],
    folder: FolderOption = None,
    join: AdminOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before.")] = False,
) -> None:
    """Throw out a member, running answers included, or take back an invite.

    What it serves goes on elsewhere. To come back, it needs a new identity and a new invite.
    """
    where = _registrar.place(folder, join)
    # A script has nobody to ask.
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm(f'Remove "{name}" from the group?', abort=True, err=True)
    for line in _told(run_async(_revoke(where, name))):
        typer.echo(line)


async def _revoke(where: _registrar.Place, name: str) -> Expelled:
    async with _registrar.registrar(where) as registrar:
        return await registrar.revoke(name)


def _told(done: Expelled) -> list[str]:
    lines = [
        f"{name} is removed: within a minute nobody of the group deals with it any more."
        for name in done.members
    ]
    if done.invites:
        lines.append(
            "1 invite is void." if done.invites == 1 else f"{done.invites} invites are void."
        )
    return lines
