"""`swarm status`: what a group serves, and what is missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from swarm.directory import Announcement, Shelf
from swarm.errors import NoRouteError
from swarm.overview import Overview, Ranges

from . import _board, _completion, _options
from ._belonging import Belonging, look
from ._options import JoinOption, asker, shown
from .runner import Stopped, run_async

if TYPE_CHECKING:
    from swarm.directory import Directory
    from swarm.invite import Invite

_POLL = 0.5
_BAR_LEN = 24


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="status")(status)


def status(
    join: JoinOption,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Only this model; by default all.",
            autocompletion=_completion.models,
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0, help="Wait until every block of MODEL is served; else fail."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Go on looking until Ctrl-C: in place on a terminal, else a block for every"
            " change, or with --json a line.",
        ),
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.2, help="How often --watch looks.")
    ] = 2.0,
) -> None:
    """Show the group's models, who serves which blocks, gaps and speeds; and who we are in it."""
    from swarm.invite import Invite

    if wait is not None and model is None:
        raise typer.BadParameter("--wait needs --model", param_hint="--wait")
    if watch and wait is not None:
        raise typer.BadParameter("--watch shows what --wait waits for", param_hint="--watch")
    if model is not None:
        _options.existing_model(model)
    if watch:
        with suppress(Stopped):
            run_async(_watched(Invite.decode(join), model, every, as_json))
        return
    view = run_async(_look(Invite.decode(join), model, wait))
    if as_json:
        typer.echo(json.dumps(view.as_json(), indent=2))
    else:
        view.show()
    if wait is not None and (lacking := view.missing()):
        known = lacking if lacking[-1][1] else ()
        raise NoRouteError(known, f"waited {wait:g} s for {model}")


@dataclass(frozen=True)
class Wanted:
    """A model that was asked for: by its fingerprint where that is known, else by its name."""

    name: str
    fingerprint: str | None = None
    num_blocks: int = 0

    def matches(self, entry: Announcement) -> bool:
        """Whether a peer serves this model."""
        if self.fingerprint is not None:
            return entry.model == self.fingerprint
        return self.name in (entry.model_name, entry.model)


@dataclass(frozen=True)
class View:
    """Announcements at one moment; of one model only where one was `wanted`."""

    entries: tuple[Announcement, ...]
    wanted: Wanted | None
    belonging: Belonging | None = None
    reporters: Mapping[str, int] = field(default_factory=dict)
    """How many members report a peer for wrong work, by peer."""

    @cached_property
    def overview(self) -> Overview:
        """What these announcements make up, model by model."""
        return Overview.of(self.entries, self.reporters)

    def missing(self) -> Ranges:
        """The blocks of the wanted model that nobody serves: all, where nobody announces it."""
        models = self.overview.models
        if not models:
            return ((0, self.wanted.num_blocks if self.wanted else 0),)
        # Two revisions under one name are two models: one that is whole is enough.
        return min((model.missing for model in models), key=len)

    def as_json(self) -> dict[str, Any]:
        """The view for programs."""
        belonging = {} if self.belonging is None else self.belonging.as_json()
        return {**belonging, **self.overview.as_json()}

    def show(self) -> None:
        """The view for people, on standard output."""
        console = Console(width=None if Console().is_terminal else 200, soft_wrap=False)
        if self.belonging is not None:
            self.belonging.show(console)
        if not self.entries:
            what = (
                f"Nobody serves {shown(self.wanted.name)}."
                if self.wanted
                else "Nobody serves anything."
            )
            console.print(what, highlight=False)
        for model in self.overview.models:
            for part in _board.parts(model, console.width):
                console.print(part)
        if self.entries:
            console.print(f"{_board.summed(self.entries)}.", highlight=False)


async def _watched(invite: Invite, model: str | None, every: float, as_json: bool) -> None:
    from swarm.member import join

    from ._progress import JOINING, entering
    from ._watch import watch

    async with entering(join(invite, asker()), JOINING) as member:
        wanted = None if model is None else await asyncio.to_thread(_wanted, model)
        matches = (lambda entry: True) if wanted is None else wanted.matches
        await watch(member, invite, matches, every, as_json)


async def _look(invite: Invite, model: str | None, wait: float | None) -> View:
    from swarm.member import join

    from ._progress import JOINING, entering

    async with entering(join(invite, asker()), JOINING) as member:
        wanted = None if model is None else await asyncio.to_thread(_wanted, model)
        view = await _view(member.directory, wanted)
        if wait and view.missing():
            view = await _wait(member.directory, view, wait)
        return replace(view, belonging=await look(member, invite))


async def _wait(directory: Directory, view: View, seconds: float) -> View:
    """The first view without a gap, or the last one in time; says meanwhile what is missing."""
    console = Console(stderr=True)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    with console.status("") as shown:
        said = ""
        while (lacking := view.missing()) and loop.time() < deadline:
            line = f"Waiting for {_names(lacking) if lacking[-1][1] else 'a first peer'} …"
            if line != said:
                said = line
                shown.update(line) if console.is_terminal else typer.echo(line, err=True)
            await asyncio.sleep(_POLL)
            view = await _view(directory, view.wanted)
    return view


def _names(ranges: Sequence[tuple[int, int]]) -> str:
    return "blocks " + ", ".join(f"{start}:{end}" for start, end in ranges)


async def _view(directory: Directory, wanted: Wanted | None) -> View:
    from swarm.auditing.report import num_reporters

    found = await directory.find()
    reporters = num_reporters(await directory.read(Shelf.REPORTS))
    shown = tuple(e for e in found if wanted is None or wanted.matches(e))
    return View(shown, wanted, reporters=reporters)


def _wanted(model: str) -> Wanted:
    """What to look for; a model on this disk is known by more than its name."""
    if not Path(model).expanduser().exists():
        return Wanted(model)
    from swarm.checkpoint import open_checkpoint

    from ._progress import progress

    with open_checkpoint(model, progress=progress()) as checkpoint:
        return Wanted(checkpoint.name, checkpoint.fingerprint, checkpoint.num_blocks)
