"""Whom `swarm invite`, `members` and `revoke` ask: a bootstrap's own folder, or the group."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from ._options import asker

if TYPE_CHECKING:
    from swarm.bootstrap.authority import Authority
    from swarm.directory import Directory
    from swarm.invite import Invite
    from swarm.membership.administration import Administration, Roll
    from swarm.membership.certificate import Role
    from swarm.wire.enrolment import Expelled

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="The folder of a bootstrap on this machine, which may run or not.",
    ),
]

AdminOption = Annotated[
    str | None,
    typer.Option(
        "--join",
        metavar="INVITE",
        help="Elsewhere: the invite with which this machine joins as an admin, or has joined; by"
        " default what HOMESWARM_INVITE says.",
    ),
]


class Registrar(Protocol):
    """Admits, lists and throws out; see `swarm.membership.administration.Administration`."""

    async def invite(self, role: Role, *, name: str, uses: int, expires: float) -> Invite: ...

    async def roll(self) -> Roll: ...

    async def revoke(self, name: str) -> Expelled: ...


@dataclass(frozen=True)
class Place:
    """Where to ask; made by `place`. One of the two is given."""

    folder: Path | None
    invite: Invite | None


def place(folder: Path | None, join: str | None) -> Place:
    """What the options say, or else the environment; `typer.BadParameter` if that is nothing."""
    from swarm.invite import Invite

    if folder is not None and join is not None:
        raise typer.BadParameter("give --dir or --join, not both", param_hint="--dir")
    if folder is not None:
        return Place(folder, None)
    line = join if join is not None else os.environ.get("HOMESWARM_INVITE")
    if line is None:
        raise typer.BadParameter(
            "say who is asked: --dir DIR, a bootstrap's folder on this machine, or --join INVITE,"
            " with which this machine has joined as an admin",
            param_hint="--dir",
        )
    return Place(None, Invite.decode(line))


@asynccontextmanager
async def registrar(place: Place) -> AsyncIterator[Registrar]:
    """Whom to ask, for the length of the block.

    Raises `ConfigError` on a folder of no bootstrap, and as `swarm.member.join` does.
    """
    if place.folder is not None:
        from swarm.bootstrap.authority import Authority

        with Authority.open(place.folder) as authority:
            yield _Local(authority)
        return
    from swarm.member import join
    from swarm.membership.administration import Administration, stations
    from swarm.membership.certificate import Role

    assert place.invite is not None
    async with join(place.invite, asker(Role.ADMIN)) as member:
        known = await stations(member.directory, place.invite)
        yield _Distant(Administration(member.transport, member.membership, known), member.directory)


class _Local:
    """The authority whose folder is on this machine."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def invite(self, role: Role, *, name: str, uses: int, expires: float) -> Invite:
        return self._authority.invite(role, name=name, uses=uses, expires=expires)

    async def roll(self) -> Roll:
        from swarm.membership.administration import Roll

        return Roll(tuple(self._authority.members()), tuple(self._authority.invites()))

    async def revoke(self, name: str) -> Expelled:
        return self._authority.revoke(name)


class _Distant:
    """The authorities somewhere, and what members report to one another."""

    def __init__(self, administration: Administration, directory: Directory) -> None:
        self._administration = administration
        self._directory = directory

    async def invite(self, role: Role, *, name: str, uses: int, expires: float) -> Invite:
        return await self._administration.invite(role, name=name, uses=uses, expires=expires)

    async def roll(self) -> Roll:
        from swarm.auditing.report import num_reporters
        from swarm.directory import Shelf

        roll = await self._administration.roll()
        return replace(roll, reports=num_reporters(await self._directory.read(Shelf.REPORTS)))

    async def revoke(self, name: str) -> Expelled:
        return await self._administration.revoke(name)
