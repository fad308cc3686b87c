"""The command, and what a conversation stands on while it lasts."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.errors import ConfigError, SwarmError

from .. import _completion, _options
from .._asking import Asking, Choosing, MaxTokensOption, WaitOption
from .._offers import announced
from .._options import JoinOption
from .._parameters import spread
from ..runner import run_async

if TYPE_CHECKING:
    from swarm.client import ModelOptions, RemoteModel, Swarm
    from swarm.invite import Invite

    from .answering import Terms
    from .models import Models
    from .screen import Screen
    from .source import Source


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="chat")(spread(chat))


def chat(
    join: JoinOption,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A Hugging Face repo id, a folder with safetensors, or a .gguf file; by default"
            " the one that the group serves.",
            autocompletion=_completion.models,
        ),
    ] = None,
    system: Annotated[
        str, typer.Option(metavar="TEXT", help="What the model is told before all else.")
    ] = "",
    history: Annotated[
        bool, typer.Option(help="Remember what is typed, for the arrow keys of the next time.")
    ] = True,
    max_tokens: MaxTokensOption = 1024,
    *,
    choosing: Choosing,
    wait: WaitOption = 120.0,
    asking: Asking,
) -> None:
    """Talk with the group's swarm on this terminal; /help there says what can be typed.

    Where standard input is no terminal, each of its lines is a turn.
    """
    from swarm.invite import Invite

    from .._progress import waiting

    invite = Invite.decode(join)
    if model is not None:
        _options.existing_model(model)
    with waiting("starting"):
        from .answering import Terms

        terms = Terms(choosing.sampling(max_tokens), asking.speculation())
        options = asking.options()
    run_async(_chat(invite, options, terms, Setting(model, system, history, wait, asking)))


@dataclass(frozen=True)
class Setting:
    """What is talked to, and under which conditions: as the options say."""

    model: str | None
    system: str
    history: bool
    wait: float
    asking: Asking


async def _chat(invite: Invite, options: ModelOptions, terms: Terms, setting: Setting) -> None:
    from .._progress import JOINING, entering
    from .models import Models
    from .screen import Screen

    screen = Screen()
    joining = setting.asking.joining(invite, setting.wait, lambda error: _say_wait(screen, error))
    async with entering(joining, JOINING) as swarm:
        models = Models(swarm, options)
        with suppress(SwarmError):
            await models.offered()
        model = await _open(swarm, models, setting, options.revision)
        if model is not None:
            await _talk(swarm, models, model, invite, screen, terms, setting)


async def _open(
    swarm: Swarm, models: Models, setting: Setting, revision: str | None
) -> RemoteModel | None:
    """The model that was named, or the only one of the group; None if Ctrl-C gave it up."""
    name = setting.model
    if name is None:
        offers = await announced(swarm, setting.wait)
        if len(offers) > 1:
            names = ", ".join(offer.name for offer in offers)
            raise ConfigError(f"the group serves {names}: choose one with --model")
        name = offers[0].source
    return await models.open(name, revision)


async def _talk(
    swarm: Swarm,
    models: Models,
    model: RemoteModel,
    invite: Invite,
    screen: Screen,
    terms: Terms,
    setting: Setting,
) -> None:
    from .talk import Talk

    source = _source(models, invite, screen, setting)
    if source.interactive:
        name = model.checkpoint.name
        screen.note(f"Talking to {name}. /help says what can be typed; Ctrl-D leaves.")
    await Talk(swarm, models, source, screen, terms).run(model, setting.system)


def _source(models: Models, invite: Invite, screen: Screen, setting: Setting) -> Source:
    """A person where standard input is a terminal on which something can be shown, too."""
    from .source import Pipe

    if not sys.stdin.isatty() or not (sys.stdout.isatty() or sys.stderr.isatty()):
        return Pipe(sys.stdin.fileno())
    from swarm.state import default_folder

    from .history import PrivateHistory
    from .keyboard import Keyboard

    path = default_folder() / "chat" / invite.group.id / "history"
    kept = PrivateHistory(path) if setting.history else None
    return Keyboard(screen.note, lambda: models.names, kept)


def _say_wait(screen: Screen, error: SwarmError | None) -> None:
    if error is None:
        screen.note("Going on.")
    else:
        screen.note(f"Waiting: {error} … Ctrl-C gives up.", "yellow")
