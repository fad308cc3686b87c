"""What becomes of an `Ask`, bit by bit, in no API's words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.client import ChosenToken


class Ending(StrEnum):
    """Why a choice ended."""

    END = "end"
    STOP = "stop"
    LENGTH = "length"
    CALLS = "calls"


@dataclass(frozen=True)
class Said:
    """Text of one choice that is certain now, and the tokens that it consists of."""

    choice: int
    text: str
    tokens: tuple[ChosenToken, ...] = ()


@dataclass(frozen=True)
class CallBegun:
    """The choice's call number `index` begins; `id` is its name in what follows."""

    choice: int
    index: int
    id: str
    name: str


@dataclass(frozen=True)
class CallPart:
    """More of a call's arguments, which are JSON text."""

    choice: int
    index: int
    arguments: str


@dataclass(frozen=True)
class Ended:
    """A choice is complete. `stopped_by` is the stop string that ended it, if one did."""

    choice: int
    ending: Ending
    stopped_by: str | None = None


Event = Said | CallBegun | CallPart | Ended


@dataclass(frozen=True)
class Usage:
    """Tokens of a whole request. `num_cached` of the prompt's were computed by no peer."""

    num_prompt: int = 0
    num_cached: int = 0
    num_completion: int = 0

    @property
    def total(self) -> int:
        """Of prompt and replies."""
        return self.num_prompt + self.num_completion

    def __add__(self, other: Usage) -> Usage:
        """Of two requests."""
        return Usage(
            self.num_prompt + other.num_prompt,
            self.num_cached + other.num_cached,
            self.num_completion + other.num_completion,
        )
