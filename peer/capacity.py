"""What a machine's memory carries of a model: arithmetic that peers and those who plan them share.

Without being told otherwise, a peer gives `WEIGHTS_SHARE` of the memory that is free when it starts
to weights, and then `KV_SHARE` of what is left to KV pages. The rest is for working.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from swarm.forms import Form

from .kv_cache import page_bytes
from .outline import geometry

WEIGHTS_SHARE = 0.7
"""Part of the free memory that weights may take; the rest is for KV pages and for working."""

KV_SHARE = 0.25
"""Part of what the weights leave that KV pages take."""


def weights_budget(free: int) -> int:
    """Bytes of weights that a peer takes of `free` ones."""
    return int(free * WEIGHTS_SHARE)


def kv_budget(left: int) -> int:
    """Bytes of KV pages that a peer takes of those that its weights have `left`."""
    return int(left * KV_SHARE)


@dataclass(frozen=True)
class Needs:
    """What a model's blocks take: in a form, in bytes.

    A peer counts every block like the largest one. `position_bytes` is what one position's keys and
    values take in the block that keeps most.
    """

    num_blocks: int
    block_bytes: int
    position_bytes: int

    @classmethod
    def of(
        cls, config: Any, dtype: torch.dtype, block_bytes: Mapping[Form, int]
    ) -> dict[Form, Needs]:
        """Of a model in some forms, by its config and by what its largest block takes in each.

        Builds no weights. Raises `ConfigError` for an architecture that does not run span by span.
        """
        kept = geometry(config)
        position = max(page_bytes([each], 1, dtype) for each in kept)
        return {form: cls(len(kept), size, position) for form, size in block_bytes.items()}

    def holding(self, free: int, page_len: int) -> Holding:
        """What a peer takes of this model where `free` bytes are free."""
        blocks = min(weights_budget(free) // self.block_bytes, self.num_blocks)
        if not blocks:
            return Holding(0, 0)
        kv_bytes = kv_budget(free - blocks * self.block_bytes)
        pages = kv_bytes // (blocks * self.position_bytes * page_len)
        return Holding(blocks, pages * page_len)


@dataclass(frozen=True)
class Holding:
    """How many blocks a machine holds, and for how many positions in all it keeps KV there."""

    blocks: int
    positions: int

    def machines(self, num_blocks: int) -> int:
        """How many such machines a model takes; 0 where none would do."""
        return -(-num_blocks // self.blocks) if self.blocks else 0
