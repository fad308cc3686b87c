"""Which models a gateway serves, and what its clients call them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from swarm.errors import ConfigError, NoRouteError

from . import _options

if TYPE_CHECKING:
    from swarm.client import Swarm
    from swarm.directory import Announcement

_NAME = re.compile(r"[A-Za-z0-9][\w.:@/-]{0,199}", re.ASCII)
_POLL = 0.5
MOST = 16
"""Models that are served without being named: members announce what they like."""


@dataclass(frozen=True)
class Offer:
    """A model, as `open_checkpoint` finds it, and a name by which clients ask for it."""

    name: str
    source: str


def parse(texts: Iterable[str]) -> tuple[Offer, ...]:
    """Reads each `MODEL` or `NAME=MODEL`; raises `ConfigError` and `typer.BadParameter`."""
    offers = tuple(_offer(text) for text in texts)
    names = [offer.name for offer in offers]
    for name in names:
        if names.count(name) > 1:
            raise typer.BadParameter(f"two models are called {name}: write --model NAME=MODEL")
    return offers


def _offer(text: str) -> Offer:
    name, equals, source = text.partition("=")
    if not equals or Path(text).expanduser().exists():
        return Offer(_default_name(text), _options.existing_model(text))
    if not _NAME.fullmatch(name):
        raise typer.BadParameter(f"{name!r} is no name for a model: letters, digits, . _ : @ / -")
    return Offer(name, _options.existing_model(source))


def _default_name(source: str) -> str:
    """A repo id as it is; of what lies here the last part alone, without the file's kind."""
    path = Path(_options.existing_model(source)).expanduser()
    if not path.exists():
        return source
    name = path.resolve().name
    return name[: -len(".gguf")] if name.lower().endswith(".gguf") else name


async def announced(swarm: Swarm, wait: float) -> tuple[Offer, ...]:
    """The models that the group's peers serve and that have a repo id, waiting for a first one.

    Raises `NoRouteError` if nobody serves any, `ConfigError` if all are files of the peers.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while not (entries := _first_of_each(await swarm.announcements())):
        if loop.time() >= deadline:
            raise NoRouteError((), f"waited {wait:g} s; start a peer, or name a --model")
        await asyncio.sleep(_POLL)
    from swarm.checkpoint.hub import is_repo_id

    files = [entry.model_name for entry in entries if not is_repo_id(entry.model_name)]
    repos = [entry.model_name for entry in entries if is_repo_id(entry.model_name)]
    for name in files:
        line = f"{_options.plain(name)} is a file or folder of its peers: name your copy of it"
        typer.echo(f"{line} with --model.", err=True)
    if not repos:
        names = ", ".join(files)
        raise ConfigError(
            f"the group serves {names}, of which this machine needs the file or folder itself,"
            " too: name it with --model"
        )
    return tuple(Offer(name, name) for name in dict.fromkeys(repos[:MOST]))


def _first_of_each(entries: Iterable[Announcement]) -> list[Announcement]:
    """One announcement of each model that somebody serves, ordered by the models' names."""
    models = {entry.model: entry for entry in entries if entry.serving}
    return sorted(models.values(), key=lambda entry: (entry.model_name, entry.model))
