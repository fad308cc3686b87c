"""A choice's text, read for what it means: words, and calls of tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from swarm.client import Finish

from .events import Ended, Ending, Event, Said

if TYPE_CHECKING:
    from swarm.client import Piece


class Reading(Protocol):
    """Reads one choice from its beginning."""

    def push(self, piece: Piece) -> list[Event]:
        """What this piece makes certain. With `Ended`, it is done: no more is to be read."""

    def end(self, finish: Finish | None, stopped_by: str | None) -> list[Event]:
        """What was held back, and how it ended."""


ENDINGS = {
    Finish.EOS: Ending.END,
    Finish.STOP: Ending.STOP,
    Finish.LENGTH: Ending.LENGTH,
}


class PlainReading:
    """All of it is words."""

    def __init__(self, choice: int) -> None:
        self._choice = choice

    def push(self, piece: Piece) -> list[Event]:
        """See `Reading.push`."""
        return [Said(self._choice, piece.text, piece.tokens)]

    def end(self, finish: Finish | None, stopped_by: str | None) -> list[Event]:
        """See `Reading.end`."""
        assert finish is not None, "a choice ends for a reason"
        return [Ended(self._choice, ENDINGS[finish], stopped_by)]
