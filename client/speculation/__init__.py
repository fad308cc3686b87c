"""Guessing ahead, so that one trip through the peers may bring several tokens."""

from __future__ import annotations

from .config import SpeculationConfig
from .guess import Drafter
from .lookup import Lookup

__all__ = ["SpeculationConfig", "drafters"]


def drafters() -> list[Drafter]:
    """Those that cost nothing, for one reply."""
    return [Lookup()]
