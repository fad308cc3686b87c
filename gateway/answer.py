"""An answer while it is made, and who makes answers: the seam between the APIs and the swarm."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from .ask import Ask, Prompt
from .events import Event, Usage

if TYPE_CHECKING:
    from swarm.client import Reply


class Source(StrEnum):
    """Who has answered."""

    SWARM = "swarm"
    FALLBACK = "fallback"


@dataclass(frozen=True)
class Caller:
    """Who asks: the name of the key, or that of a machine that needs none.

    Names are given again when a key has been revoked; `owner` is of this key alone, and what is
    kept for it is kept by that.
    """

    name: str
    owner: str = field(default="", repr=False)


NOBODY = Caller("")
"""Who has shown no key where one is needed: may look at what is open to all."""


class Work(Protocol):
    """What is being made: its events, and what it has used up by now."""

    def events(self) -> AsyncIterator[Event]:
        """All events, in the order in which they come; raises `Refusal` if it breaks off."""

    @property
    def usage(self) -> Usage:
        """Complete when the events have ended."""


@dataclass(frozen=True)
class Answer:
    """An answer that has begun: by whom, and with which model.

    It has waited `queued` seconds for its turn. `replies` are what the swarm knows of its choices,
    and grow; there are none where a fallback answers.
    """

    model: str
    source: Source
    work: Work
    queued: float = 0.0
    replies: Sequence[Reply] = ()


@dataclass(frozen=True)
class ModelCard:
    """What is told of a model: its name, when it was opened (Unix seconds), its context length
    in tokens (0: not known), and whether all of its blocks are served now, or which are not."""

    name: str
    created: int
    context_length: int
    has_route: bool
    missing: tuple[tuple[int, int], ...] = ()


class Answerer(Protocol):
    """Makes answers. `swarm.gateway.core.Core` does; tests have twins of it."""

    def answering(self, ask: Ask, caller: Caller) -> AbstractAsyncContextManager[Answer]:
        """Waits for its turn and for the first event, then gives the answer.

        Leaving the block ends what still runs. Raises `Refusal`.
        """

    async def models(self) -> tuple[ModelCard, ...]:
        """The models that can be asked."""

    async def count(self, model: str, prompt: Prompt) -> int:
        """Tokens of a prompt as the model reads it. Raises `Refusal`."""
