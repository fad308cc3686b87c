"""`swarm fit`: which machine carries how many blocks of which model."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from . import _options
from ._options import CacheOption, RevisionOption


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="fit")(fit)


def fit(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="What this machine carries of it: a Hugging Face repo id, a folder, a .gguf file,"
            " or a name from the table.",
        ),
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Well-known models on well-known machines.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Write the table as the page docs/hardware.md.")
    ] = False,
    free: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="As if so much memory were free, such as 24GB."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps or xpu.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
    revision: RevisionOption = None,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Show how many blocks of MODEL this machine carries, or what others do (--table).

    It computes what a peer computes when it starts. Of a model on the hub it reads config and
    headers, no weights.
    """
    if table == (model is not None):
        raise typer.BadParameter("give --model MODEL, or --table", param_hint="--model")
    if markdown and (as_json or not table):
        raise typer.BadParameter("goes with --table, without --json", param_hint="--markdown")
    console = Console(width=None if Console().is_terminal else 160, soft_wrap=False)
    if model is None:
        # torch and transformers take seconds to import: after what is wrong was told.
        from ._fit.table import FitTable

        with Console(stderr=True).status("Building models without weights …"):
            found = FitTable.compute()
        if markdown:
            typer.echo(found.markdown(), nl=False)
        elif as_json:
            typer.echo(json.dumps(found.as_json(), indent=2))
        else:
            found.show(console)
        return
    num_bytes = _options.size(free)
    from ._fit.here import Here, Source
    from ._progress import progress

    source = Source(_options.existing_model(model), revision, cache)
    here = Here.look(source, device, dtype, num_bytes, progress())
    if as_json:
        typer.echo(json.dumps(here.as_json(), indent=2))
    else:
        here.show(console)
