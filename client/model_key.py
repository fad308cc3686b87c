"""What tells one model from another, and what a session must know of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelKey:
    """What a session must know of a model; `context_length` in positions, 0 where unknown."""

    fingerprint: str
    num_blocks: int
    hidden_size: int
    context_length: int = 0
