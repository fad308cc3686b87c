"""One model as its peers serve it together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from swarm.directory import Announcement, State

from .gap import Gap, Ranges, gaps, replication
from .holder import Holder

Value = TypeVar("Value", bound=Hashable)


@dataclass(frozen=True)
class ServedModel:
    """The model of a fingerprint, and its peers (at least one) in the order of their blocks.

    `block_bytes` is what a block's weights take as they are stored, None where that is not known.
    """

    fingerprint: str
    holders: tuple[Holder, ...]
    block_bytes: int | None = None

    @cached_property
    def entries(self) -> tuple[Announcement, ...]:
        """What its peers announce."""
        return tuple(holder.entry for holder in self.holders)

    @cached_property
    def name(self) -> str:
        """What most of its peers call it: one alone cannot rename it for all."""
        return _most_common(entry.model_name for entry in self.entries)

    @cached_property
    def num_blocks(self) -> int:
        """How many blocks it has, as most of its peers say."""
        return _most_common(entry.num_blocks for entry in self.entries)

    @cached_property
    def missing(self) -> Ranges:
        """The blocks that nobody serves."""
        return gaps(self.entries, self.num_blocks)

    @property
    def complete(self) -> bool:
        """Whether every block is served."""
        return not self.missing

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """The same blocks as `missing`, and what is known of each gap."""
        loading = [entry for entry in self.entries if entry.state is State.LOADING]
        size = self.block_bytes
        return tuple(
            Gap(
                self.name,
                start,
                end,
                None if size is None else size * (end - start),
                tuple(each.peer for each in loading if each.start < end and start < each.end),
            )
            for start, end in self.missing
        )

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "model": self.fingerprint,
            "name": self.name,
            "num_blocks": self.num_blocks,
            "complete": self.complete,
            "missing": [list(gap) for gap in self.missing],
            "gaps": [gap.as_json() for gap in self.gaps],
            "replication": [list(run) for run in replication(self.entries, self.num_blocks)],
            "peers": [holder.as_json() for holder in self.holders],
        }


def _most_common(values: Iterable[Value]) -> Value:
    """The value that comes most often; the first of several such."""
    ((value, _),) = Counter(values).most_common(1)
    return value
