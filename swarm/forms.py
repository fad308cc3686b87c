"""The forms that a linear layer's weight can be kept in; see `swarm.linear`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from swarm.errors import ConfigError

if TYPE_CHECKING:
    from .linear.grid import Grid


class Form(StrEnum):
    """What a peer makes of its blocks' linear layers, which are nearly all of their weights."""

    NONE = "none"
    """The numbers as they were loaded."""
    INT8 = "int8"
    """Eight bits per weight, one scale per output channel."""
    INT4 = "int4"
    """Four bits per weight, a scale and an offset per group of 32 (5 bits in all)."""
    FILE = "file"
    """What the file was quantized to: INT4, INT8 or NONE, layer by layer."""


def form(name: str) -> Form:
    """The form called `name`; raises `ConfigError` for any other."""
    try:
        return Form(name)
    except ValueError:
        raise ConfigError(f"unknown form {name!r}: use {', '.join(Form)}") from None


@dataclass(frozen=True, slots=True)
class Stored:
    """How a file keeps one weight: `bits` per number, and the `grid` of a 4-bit one if known."""

    bits: int
    grid: Grid | None = None

    @property
    def form(self) -> Form:
        """The form that takes about as much memory as the file does, and loses nothing much."""
        return Form.INT4 if self.bits <= 4 else Form.INT8 if self.bits <= 8 else Form.NONE
