"""`swarm revoke`: throws out a member, or takes back an invite."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.errors import RequestError

from . import _registrar
from ._registrar import AdminOption, FolderOption
from .members import Book
from .runner import run_async

if TYPE_CHECKING:
    from swarm.wire.enrolment import Entry, Expelled, OpenInvite

_LEAST_ID = 6
"""Characters of an id that are taken for it: fewer are mistyped too easily."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="revoke")(revoke)


def revoke(
    name: Annotated[
        str, typer.Argument(help="A member's name, or an open invite's; or a part of its id.")
    ],
    folder: FolderOption = None,
    join: AdminOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before.")] = False,
) -> None:
    """Throw out a member, running answers included, or take back an invite.

    What a member serves goes on elsewhere; it can only come back with a new invite.
    """
    where = _registrar.place(folder, join)
    asks = not yes and sys.stdin.isatty() and sys.stderr.isatty()
    done = run_async(_revoke(where, name, _confirm if asks else _go_on))
    for line in _told(done):
        typer.echo(line)


@dataclass(frozen=True)
class Found:
    """What a name means: members, or invites, or a member that joined with one that is open."""

    members: tuple[Entry, ...]
    invites: tuple[OpenInvite, ...]

    @property
    def lines(self) -> list[str]:
        """Whom and what, for a question."""
        return [f'the member "{each.name}" (…{each.member[-8:]})' for each in self.members] + [
            f'the invite {each.number.hex()} for "{each.name or "anybody"}"'
            for each in self.invites
        ]

    @property
    def ids(self) -> list[str]:
        """What the authority knows them by."""
        found = [each.member for each in self.members]
        return found + [each.number.hex() for each in self.invites]


def find(book: Book, name: str) -> Found:
    """Members and open invites of that name; if there are none, the one with such an id.

    Raises `RequestError` if there is none, or if a part of an id is one of several.
    """
    members = [each for each in book.roll.members if not each.revoked]
    named = Found(
        tuple(each for each in members if each.name == name),
        tuple(each for each in book.invites if each.name == name),
    )
    if named.ids:
        return named
    part = name.removeprefix("…")
    by_id = Found(
        tuple(each for each in members if _is_part(part, each.member)),
        tuple(each for each in book.invites if _is_part(part.lower(), each.number.hex())),
    )
    if len(by_id.ids) > 1:
        raise RequestError(f"{name!r} is a part of several ids: {', '.join(by_id.ids)}")
    if by_id.ids:
        return by_id
    if any(name == each.name or _is_part(part, each.member) for each in book.roll.members):
        raise RequestError(f"{name!r} was removed from the group before")
    raise RequestError(f"no member and no open invite is called {name!r}; see `swarm members`")


def _is_part(part: str, whole: str) -> bool:
    # All ids of members begin alike: the end is what one sees of them.
    return len(part) >= _LEAST_ID and (whole.startswith(part) or whole.endswith(part))


async def _revoke(
    where: _registrar.Place, name: str, confirm: Callable[[Found], None]
) -> list[Expelled]:
    async with _registrar.registrar(where) as registrar:
        found = find(Book(await registrar.roll(), time.time()), name)
        confirm(found)
        return [await registrar.revoke(each) for each in found.ids]


def _confirm(found: Found) -> None:
    typer.confirm(f"Remove {' and '.join(found.lines)}?", abort=True, err=True)


def _go_on(found: Found) -> None:
    """A script has nobody to ask."""


def _told(done: list[Expelled]) -> list[str]:
    lines = [
        f"{name} is removed: within a minute nobody of the group deals with it any more."
        for each in done
        for name in each.members
    ]
    if num_invites := sum(each.invites for each in done):
        lines.append(
            "The invite is void." if num_invites == 1 else f"{num_invites} invites are void."
        )
    return lines
