"""Which blocks a peer should serve: pure policy over announcements.

A newcomer takes the blocks that the swarm serves worst. A peer that is already there moves only to
close a gap, only where that leaves fewer blocks unserved, and only if no other peer is first in
line: so peers settle instead of chasing one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from swarm.directory import Announcement, State

Span = tuple[int, int]

_ABSENT = (State.LEAVING, State.PAUSED)
"""Who is so serves no blocks, or not for long."""


class Reason(StrEnum):
    """Why a peer has the blocks that it has."""

    ALL = "it holds the whole model"
    GAP = "they closed a gap"
    LEAST = "fewest others serve them"
    LAST = "the same as last time"
    FIXED = "fixed by --blocks"


def choose(
    num_blocks: int, capacity: int, others: Sequence[Announcement], last: Span | None = None
) -> tuple[Span, Reason]:
    """The span of `capacity` blocks (all, if that is more) that the swarm needs most, and why.

    The neediest window is the one whose weakest blocks are weakest; of equals, the first. The span
    that this peer had `last` is as good where it closes as many gaps: its weights are near.
    """
    capacity = min(capacity, num_blocks)
    strength = coverage(num_blocks, others)
    windows = range(num_blocks - capacity + 1)
    start = min(windows, key=lambda first: (sorted(strength[first : first + capacity]), first))
    best = start, start + capacity
    if capacity == num_blocks:
        return best, Reason.ALL
    if last is not None and last[1] - last[0] == capacity and last[1] <= num_blocks:
        if _gaps(strength, last) >= _gaps(strength, best):
            return last, Reason.LAST
    return best, Reason.GAP if _gaps(strength, best) else Reason.LEAST


def _gaps(strength: Sequence[int], span: Span) -> int:
    return list(strength[span[0] : span[1]]).count(0)


def coverage(num_blocks: int, announcements: Sequence[Announcement]) -> list[int]:
    """How many peers serve each block, or are about to."""
    counts = [0] * num_blocks
    for entry in announcements:
        if entry.state not in _ABSENT:
            for block in range(entry.start, min(entry.end, num_blocks)):
                counts[block] += 1
    return counts


def move(me: str, num_blocks: int, announcements: Sequence[Announcement]) -> Span | None:
    """Where the peer `me` should go now, or None to stay.

    Of all peers that may move (`capacity` > 0) only the one goes whose move leaves the fewest
    blocks unserved, told apart by id. Every peer comes to the same answer from the same
    announcements.
    """
    present = [entry for entry in announcements if entry.state not in _ABSENT]
    gaps = coverage(num_blocks, present).count(0)
    if not gaps:
        return None
    offers: list[tuple[int, str, Span]] = []
    for entry in present:
        if entry.capacity == 0 or entry.state is not State.SERVING:
            continue
        others = [other for other in present if other.peer != entry.peer]
        target = _closing(num_blocks, entry.capacity, others)
        left = _gaps_after(num_blocks, others, target)
        if left < gaps:
            offers.append((left, entry.peer, target))
    if not offers:
        return None
    _, mover, target = min(offers)
    return target if mover == me else None


def _closing(num_blocks: int, capacity: int, others: Sequence[Announcement]) -> Span:
    """The span that leaves the fewest blocks unserved; of equals, the neediest."""
    capacity = min(capacity, num_blocks)
    strength = coverage(num_blocks, others)

    def need(first: int) -> tuple[int, list[int], int]:
        window = strength[first : first + capacity]
        return -window.count(0), sorted(window), first

    start = min(range(num_blocks - capacity + 1), key=need)
    return start, start + capacity


def _gaps_after(num_blocks: int, others: Sequence[Announcement], span: Span) -> int:
    counts = coverage(num_blocks, others)
    return sum(1 for block, n in enumerate(counts) if n == 0 and not span[0] <= block < span[1])
