"""Which peers a session goes through: pure planning over announcements.

The fastest comes first, by each peer's announced speed and queue and the round trip measured to it.
Every hop costs a trip and some time of its own, so that fewer hops win where they are not slower. A
peer may be used for a part of its span.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from swarm.directory import Announcement
from swarm.errors import NoRouteError
from swarm.transport.reach import Reach

UNKNOWN_ROUND_TRIP = 0.05
"""Seconds assumed for a peer to which no round trip has been measured yet."""

HOP_SECONDS = 0.002
"""What a hop takes beside computing and the way: reading, copying, being woken up."""

_REPLY_LEN = 128
"""Tokens over which the time counts that a kept prefix saves once."""

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Hop:
    """Blocks `[start, end)` on one peer; it announced `prefill_seconds` per position for them."""

    peer: str
    start: int
    end: int
    addresses: tuple[str, ...] = field(default=(), compare=False)
    prefill_seconds: float = field(default=0.0, compare=False)

    def __str__(self) -> str:
        return f"{self.start}:{self.end} on {self.peer[-8:]}"


Route = tuple[Hop, ...]


@dataclass(frozen=True)
class Candidate:
    """A peer that serves blocks `[start, end)`; times in seconds.

    `weight` multiplies all of its times: what a client has against it.
    """

    peer: str
    start: int
    end: int
    seconds_per_block: float
    round_trip: float
    addresses: tuple[str, ...] = ()
    prefill_seconds_per_block: float = 0.0
    relayed: bool = False
    queue_seconds: float = 0.0
    weight: float = 1.0

    @classmethod
    def of(cls, entry: Announcement, round_trip: float | None, held: int = 0) -> Candidate:
        """The candidate that an announcement describes; it holds `held` positions already."""
        num_blocks = max(1, entry.end - entry.start)
        saved = held * entry.prefill_seconds / _REPLY_LEN
        return cls(
            entry.peer,
            entry.start,
            entry.end,
            (entry.decode_seconds - saved) / num_blocks,
            UNKNOWN_ROUND_TRIP if round_trip is None else round_trip,
            entry.addresses,
            entry.prefill_seconds / num_blocks,
            entry.reach is Reach.RELAYED,
            entry.queue_seconds,
        )

    def seconds(self, start: int, end: int, num_ends: int = 0) -> float:
        """Expected time for one position through blocks `[start, end)`, with the way there.

        Between two peers it is as far as to each of them from here on average. So each hop costs
        half of its round trip, and the `num_ends` ends of a route another quarter.
        """
        way = self.round_trip / 2 + num_ends * self.round_trip / 4
        computing = (end - start) * self.seconds_per_block
        seconds = computing + self.queue_seconds + way + HOP_SECONDS
        # Less than nothing, for what it need not compute: no weight makes that better.
        return self.weight * seconds if seconds > 0 else seconds


def candidates(
    announcements: Iterable[Announcement],
    round_trips: Mapping[str, float],
    avoided: Iterable[str] = (),
    held: Mapping[str, int] = MappingProxyType({}),
) -> list[Candidate]:
    """The peers that may be used now, without those to be avoided.

    `held` are positions of the text that some need not compute any more.
    """
    shunned = set(avoided)
    return [
        Candidate.of(entry, round_trips.get(entry.peer), held.get(entry.peer, 0))
        for entry in announcements
        if entry.serving and entry.peer not in shunned
    ]


def missing(choices: Sequence[Candidate | Announcement | Hop], start: int, end: int) -> Ranges:
    """The parts of `[start, end)` that nobody serves."""
    gaps: list[tuple[int, int]] = []
    reached = start
    for choice in sorted(choices, key=lambda c: c.start):
        if choice.end <= reached or choice.start >= end:
            continue
        if choice.start > reached:
            gaps.append((reached, choice.start))
        reached = choice.end
    if reached < end:
        gaps.append((reached, end))
    return tuple(gaps)


def plan(choices: Sequence[Candidate], start: int, end: int) -> Route:
    """The best route through blocks `[start, end)`; raises `NoRouteError` naming what is missing.

    Shortest path over the borders of spans, by time and then by number of hops. The first and the
    last hop may have a single block, too: who is near may stand at an end for that alone. What
    passes between two peers that only relays reach crosses the network twice, so that such a peer
    stands beside one that can be dialled where that is possible. Equal routes are told apart by
    peer ids, so that the same swarm always gives the same route.
    """
    if start == end:
        return ()
    if gaps := missing(choices, start, end):
        raise NoRouteError(gaps)
    inner = {b for c in choices for b in (c.start, c.end)} | {start + 1, end - 1}
    borders = sorted({b for b in inner if start < b < end} | {start, end})
    choices = sorted(choices, key=lambda c: c.peer)
    # The best way to each border, of those that end on a relayed peer and of the others.
    best: dict[tuple[int, bool], tuple[float, int, Route]] = {(start, False): (0.0, 0, ())}
    for place in ((border, relayed) for border in borders for relayed in (False, True)):
        if place not in best:
            continue
        border, behind_relay = place
        seconds, num_hops, route = best[place]
        for choice in choices:
            if not choice.start <= border < choice.end:
                continue
            detour = choice.round_trip / 2 if choice.relayed and behind_relay else 0.0
            for target in (b for b in borders if border < b <= choice.end):
                num_ends = (border == start) + (target == end)
                cost = seconds + detour + choice.seconds(border, target, num_ends)
                prefill = (target - border) * choice.prefill_seconds_per_block
                hop = Hop(choice.peer, border, target, choice.addresses, prefill)
                # Without the last digits, in which sums differ by the order of their parts.
                entry = (round(cost, 9), num_hops + 1, (*route, hop))
                reached = (target, choice.relayed)
                if reached not in best or entry[:2] < best[reached][:2]:
                    best[reached] = entry
    ends = [best[end, relayed] for relayed in (False, True) if (end, relayed) in best]
    return min(ends, key=lambda entry: entry[:2])[2]


def fill(kept: Sequence[Hop], num_blocks: int, choices: Sequence[Candidate]) -> Route:
    """A route through all blocks that keeps the hops `kept` (in order) and fills what is between.

    Raises `NoRouteError` naming all the blocks that nobody serves.
    """
    borders = [0, *(b for hop in kept for b in (hop.start, hop.end)), num_blocks]
    gaps = list(zip(borders[::2], borders[1::2], strict=True))
    if lacking := tuple(gap for start, end in gaps for gap in missing(choices, start, end)):
        raise NoRouteError(lacking)
    route: list[Hop] = []
    for index, (start, end) in enumerate(gaps):
        route += plan(choices, start, end)
        route += kept[index : index + 1]
    return tuple(route)
