"""`swarm members`: who belongs to a group, and who still could."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from swarm.membership.book import Book, Condition

from . import _registrar
from ._options import shown
from ._registrar import AdminOption, FolderOption
from ._times import moment
from .runner import run_async

if TYPE_CHECKING:
    from swarm.membership.administration import Roll
    from swarm.wire.enrolment import OpenInvite

_PLAIN_WIDTH = 140


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
        _show(book)


def _show(book: Book) -> None:
    """The book for people, on standard output."""
    console = Console(width=None if Console().is_terminal else _PLAIN_WIDTH)
    console.print(_members_table(book))
    if invites := book.invites:
        console.print(_invites_table(invites))
    else:
        console.print("No invite is open.", highlight=False)
    for station in book.roll.silent:
        away = f"The bootstrap …{station.peer[-6:]} does not answer: its invites are not shown."
        console.print(away, highlight=False, style="yellow")


def _members_table(book: Book) -> Table:
    columns = ["name", "id", "roles", "joined", "certificate until", "state"]
    if book.roll.reports is not None:
        columns.append("reported by")
    table = _table("Members", *columns)
    colours = {Condition.EXPIRED: "yellow", Condition.REVOKED: "red"}
    for entry in book.members:
        condition = book.condition(entry)
        table.add_row(
            shown(entry.name),
            shown(f"…{entry.member[-8:]}"),
            " ".join(str(role) for role in entry.roles),
            moment(entry.joined),
            moment(entry.expires),
            str(condition),
            *(() if book.roll.reports is None else (str(book.num_reports(entry) or ""),)),
            style=colours.get(condition),
        )
    return table


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
