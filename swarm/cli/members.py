"""`swarm members`: who belongs to a group, and who still could."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import _registrar
from ._options import shown
from ._registrar import AdminOption, FolderOption
from ._times import moment
from .runner import run_async

if TYPE_CHECKING:
    from swarm.membership.administration import Roll
    from swarm.wire.enrolment import Entry, OpenInvite

_PLAIN_WIDTH = 140


class Standing(StrEnum):
    """How a member stands with its group."""

    OK = "ok"
    EXPIRED = "expired"
    REVOKED = "revoked"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="members")(members)


def members(
    folder: FolderOption = None,
    join: AdminOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Show who belongs to the group, until when, and which invites are open.

    With --join also how many members report somebody for wrong work.
    """
    where = _registrar.place(folder, join)
    book = Book(run_async(_read(where)), time.time())
    if as_json:
        typer.echo(json.dumps(book.as_json(), indent=2))
    else:
        book.show()


@dataclass(frozen=True)
class Book:
    """A group's members and open invites at the time `now` (seconds since 1970)."""

    roll: Roll
    now: float

    def standing(self, entry: Entry) -> Standing:
        """How this member stands: expired means that it has not renewed itself, being away."""
        if entry.revoked:
            return Standing.REVOKED
        return Standing.OK if entry.expires > self.now else Standing.EXPIRED

    @property
    def invites(self) -> list[OpenInvite]:
        """Those with which somebody could still join, the first to expire first."""
        usable = (
            each
            for each in self.roll.invites
            if each.uses and not each.revoked and each.expires > self.now
        )
        return sorted(usable, key=lambda each: each.expires)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "members": [
                {
                    "name": entry.name,
                    "member": entry.member,
                    "roles": [str(role) for role in entry.roles],
                    "joined": entry.joined,
                    "renewed": entry.renewed,
                    "expires": entry.expires,
                    "revoked": entry.revoked or None,
                    "state": str(self.standing(entry)),
                    "reports": self._reports(entry),
                }
                for entry in self._entries()
            ],
            "invites": [
                {
                    "id": each.number.hex(),
                    "name": each.name,
                    "role": str(each.role),
                    "uses": each.uses,
                    "expires": each.expires,
                }
                for each in self.invites
            ],
            "silent": [station.peer for station in self.roll.silent],
        }

    def show(self) -> None:
        """For people, on standard output."""
        console = Console(width=None if Console().is_terminal else _PLAIN_WIDTH)
        console.print(self._members_table())
        if invites := self.invites:
            console.print(_invites_table(invites))
        else:
            console.print("No invite is open.", highlight=False)
        for station in self.roll.silent:
            away = f"The bootstrap …{station.peer[-6:]} does not answer: its invites are not shown."
            console.print(away, highlight=False, style="yellow")

    def _entries(self) -> list[Entry]:
        return sorted(self.roll.members, key=lambda entry: (entry.joined, entry.name))

    def _members_table(self) -> Table:
        columns = ["name", "id", "roles", "joined", "certificate until", "state"]
        if self.roll.reports is not None:
            columns.append("reported by")
        table = _table("Members", *columns)
        colours = {Standing.EXPIRED: "yellow", Standing.REVOKED: "red"}
        for entry in self._entries():
            standing = self.standing(entry)
            table.add_row(
                shown(entry.name),
                shown(f"…{entry.member[-8:]}"),
                " ".join(str(role) for role in entry.roles),
                moment(entry.joined),
                moment(entry.expires),
                str(standing),
                *(() if self.roll.reports is None else (str(self._reports(entry) or ""),)),
                style=colours.get(standing),
            )
        return table

    def _reports(self, entry: Entry) -> int | None:
        """How many members have caught this one at wrong work, if that can be seen from here."""
        return None if self.roll.reports is None else self.roll.reports.get(entry.member, 0)


def _invites_table(invites: list[OpenInvite]) -> Table:
    table = _table("Open invites", "name", "id", "role", "uses left", "until")
    for each in invites:
        table.add_row(
            shown(each.name or "—"),
            each.number.hex(),
            str(each.role),
            str(each.uses),
            moment(each.expires),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


async def _read(where: _registrar.Place) -> Roll:
    async with _registrar.registrar(where) as registrar:
        return await registrar.roll()
