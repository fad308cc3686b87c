"""Guessing ahead, so that one trip through the peers may bring several tokens."""

from __future__ import annotations

from .config import SpeculationConfig
from .edits import Edits
from .guess import Drafter
from .lookup import Lookup
from .suffixes import Suffixes

__all__ = ["SpeculationConfig", "quick_drafters"]


def quick_drafters() -> list[Drafter]:
    """Those that need nothing but the text, for one reply."""
    suffixes = Suffixes()
    return [Lookup(suffixes), Edits(suffixes)]
