"""`swarm invite`: writes an invite to a group."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm import state
from swarm.membership.certificate import MAX_NAME, Role

from . import _qr, _registrar, _times, _wording
from ._qr import QrOption
from ._registrar import AdminOption, FolderOption
from .runner import run_async

if TYPE_CHECKING:
    from swarm.invite import Invite

_MAX_USES = 1000


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="invite")(invite)


def invite(
    role: Annotated[
        Role,
        typer.Option(
            help="client asks; peer contributes a machine, and asks; admin also invites and throws"
            " out; authority is a second bootstrap."
        ),
    ] = Role.PEER,
    name: Annotated[
        str,
        typer.Option(help="What the member is called; by default it says that itself."),
    ] = "",
    uses: Annotated[
        int, typer.Option(min=1, max=_MAX_USES, help="How many machines may join with it.")
    ] = 1,
    expires: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="How long it can be used: 30m, 12h, 7d, 2w. Members stay."
        ),
    ] = "7d",
    folder: FolderOption = None,
    join: AdminOption = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Write it into this file, for its owner's eyes only, instead of standard output;"
            " where there is one already, nothing is done."
        ),
    ] = None,
    qr: QrOption = None,
) -> None:
    """Write an invite: one line on standard output, and what it is worth on stderr.

    Give it to one person, over a channel that only the two of you read: whoever uses it first is
    the member.
    """
    if len(name) > MAX_NAME:
        raise typer.BadParameter(f"a name has at most {MAX_NAME} characters", param_hint="--name")
    if file is not None and file.exists():
        typer.echo(f"There is an invite in {file} already.", err=True)
        return
    lifetime = _times.duration(expires)
    where = _registrar.place(folder, join)
    now = time.time()
    written = run_async(_write(where, role, name, uses, now + lifetime))
    line = written.encode()
    if file is None:
        typer.echo(line)
    else:
        state.replace(file, f"{line}\n".encode())
    typer.echo(_wording.meaning(role, uses, written.expires, now, name), err=True)
    for command in _wording.commands(role):
        typer.echo(f"  {command}", err=True)
    if file is None:
        _qr.show(line, qr)


async def _write(
    where: _registrar.Place, role: Role, name: str, uses: int, expires: float
) -> Invite:
    async with _registrar.registrar(where) as registrar:
        return await registrar.invite(role, name=name, uses=uses, expires=expires)
