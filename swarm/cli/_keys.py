"""`swarm serve keys`: who may ask a gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ._options import shown
from ._times import moment
from .runner import run_async

KeysFolderOption = Annotated[
    Path | None,
    typer.Option("--dir", help="Keeps the gateway's keys; by default this user's own folder."),
]

_Name = Annotated[str, typer.Argument(help="Whose key it is: a person, a program.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    keys = typer.Typer(no_args_is_help=True)
    keys.command()(add)
    keys.command(name="list")(show)
    keys.command()(revoke)
    app.add_typer(keys, name="keys", help="Keys with which programs may ask; at once, everywhere.")


def default_folder() -> Path:
    """Where keys are, if nothing else was said."""
    from swarm import state

    return state.default_folder() / "gateway"


def add(name: _Name, folder: KeysFolderOption = None) -> None:
    """Make a key. It is shown this once: only a hash of it is kept."""
    from swarm.gateway.keys import KeyFile

    typer.echo(run_async(KeyFile(folder or default_folder()).add(name)))
    typer.echo(
        f"That is the key of {name}, which nobody can read again. Running gateways take it now,"
        " and from the first one on ask everybody for one.",
        err=True,
    )


def show(
    folder: KeysFolderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Show whose keys there are, and since when."""
    from swarm.gateway.keys import KeyFile

    known = KeyFile(folder or default_folder()).read()
    if as_json:
        typer.echo(json.dumps([{"name": k.name, "created": k.created} for k in known], indent=2))
    elif not known:
        typer.echo("No key is kept: programs of this machine may ask without one.")
    else:
        table = Table(title="Keys", title_justify="left", title_style="bold")
        table.add_column("name", no_wrap=True)
        table.add_column("since", no_wrap=True)
        for key in known:
            table.add_row(shown(key.name), moment(key.created))
        Console().print(table)


def revoke(name: _Name, folder: KeysFolderOption = None) -> None:
    """Take a key back. Running gateways refuse it from now on."""
    from swarm.gateway.keys import KeyFile

    run_async(KeyFile(folder or default_folder()).revoke(name))
    typer.echo(f"The key of {name} no longer holds.", err=True)
