"""Where the time of a reply's decode steps goes: hop by hop at the peers, on the way, and here.

What is measured, and by whom: the whole of a step by our clock; queue and computation by each hop's
own. What no hop admits of a step was spent on the way: in lines, and in sending and receiving on
both ends of them. That sum is measured, too. How it divides among the trips is not, as no two
clocks agree well enough to time a message in one direction. It is apportioned: each trip has what
half of a heartbeat's round trip over the same link takes (hops say so of their links in
`HopTime.trip`), and what remains, sending and receiving, is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from swarm.wire.messages import HopTimes

from .route import Route

ChangeKind = Literal["recovery", "handover"]


@dataclass(frozen=True)
class Passage:
    """A step's way: its hops, their members' names in the group, and what each said of the step.

    `first_trip` is half the round trip to the first hop in seconds; 0 while it is not known.
    """

    route: Route
    names: tuple[str, ...]
    times: HopTimes
    first_trip: float

    def divided(self, seconds: float) -> tuple[list[tuple[float, float, float]], float] | None:
        """Where the `seconds` of the step went: queue, computation and way of each hop, and back.

        None where the hops that have told their times are not those of the route.
        """
        spans = [(time.start, time.end) for time in self.times]
        if not spans or spans != [(hop.start, hop.end) for hop in self.route]:
            return None
        spent = [(time.queue / 1e6, time.compute / 1e6) for time in self.times]
        wire = max(0.0, seconds - sum(map(sum, spent)))
        trips = [self.first_trip, *(time.trip / 1e6 for time in self.times)]
        *ways, back = apportioned(wire, trips)
        return [(*each, way) for each, way in zip(spent, ways, strict=True)], back


@dataclass
class HopTiming:
    """Seconds that `num_steps` decode steps have spent in all at one hop, and on the way to it."""

    peer: str
    name: str
    start: int
    end: int
    num_steps: int = 0
    queue: float = 0.0
    compute: float = 0.0
    wire: float = 0.0

    def spend(self, queue: float, compute: float, wire: float, num_steps: int = 1) -> None:
        """So many more steps have spent so much."""
        self.num_steps += num_steps
        self.queue += queue
        self.compute += compute
        self.wire += wire


@dataclass(frozen=True)
class RouteChange:
    """The route changed when the reply had `num_tokens`: names of the peers it lost and gained.

    `kind` is `recovery`, where peers were lost, or `handover`, where one left as it should. Both
    are empty where the same peers were wired anew.
    """

    kind: ChangeKind
    num_tokens: int
    gone: tuple[str, ...]
    came: tuple[str, ...]

    @classmethod
    def between(
        cls, old: Sequence[str], new: Sequence[str], num_tokens: int, kind: ChangeKind
    ) -> RouteChange:
        """From the names of one route's hops to those of the next one's."""
        gone = dict.fromkeys(name for name in old if name not in new)
        came = dict.fromkeys(name for name in new if name not in old)
        return cls(kind, num_tokens, tuple(gone), tuple(came))


@dataclass
class Timing:
    """Where decode steps' time went, in seconds in all.

    `hops` are all that the reply has gone through, in the order in which it came to them. `back` is
    the way from the last hop to the client. `num_disturbed` steps, during which the route changed,
    took `disturbed` and are in none of the others. `head` is embedding tokens and computing logits,
    with waiting for others' in the same process; `sampling` is choosing tokens. Both count for the
    prompt, too. `changes` of the route are those between two tokens; there may be others, in the
    middle of a prompt.
    """

    hops: dict[tuple[str, int, int], HopTiming] = field(default_factory=dict)
    num_steps: int = 0
    back: float = 0.0
    num_disturbed: int = 0
    disturbed: float = 0.0
    head: float = 0.0
    sampling: float = 0.0
    changes: list[RouteChange] = field(default_factory=list)

    def add(self, passage: Passage, seconds: float) -> None:
        """A decode step took so long; one whose hops are not those of the route counts nowhere."""
        if (divided := passage.divided(seconds)) is None:
            return
        spent, back = divided
        self.num_steps += 1
        self.back += back
        for hop, name, parts in zip(passage.route, passage.names, spent, strict=True):
            self._hop(hop.peer, name, hop.start, hop.end).spend(*parts)

    def disturb(self, seconds: float) -> None:
        """A decode step during which the route changed took so long."""
        self.num_disturbed += 1
        self.disturbed += seconds

    def include(self, other: Timing) -> None:
        """Adds what the steps of another reply have spent."""
        self.num_steps += other.num_steps
        self.back += other.back
        self.num_disturbed += other.num_disturbed
        self.disturbed += other.disturbed
        self.head += other.head
        self.sampling += other.sampling
        self.changes += other.changes
        for hop in other.hops.values():
            mine = self._hop(hop.peer, hop.name, hop.start, hop.end)
            mine.spend(hop.queue, hop.compute, hop.wire, hop.num_steps)

    def _hop(self, peer: str, name: str, start: int, end: int) -> HopTiming:
        return self.hops.setdefault((peer, start, end), HopTiming(peer, name, start, end))


def apportioned(total: float, trips: Sequence[float]) -> list[float]:
    """`total` seconds shared among trips that take so long by themselves, as far as is known.

    What is left goes to all alike; if they claim more than there is, to each in proportion.
    """
    known = sum(trips)
    if known > total:
        return [total * trip / known for trip in trips]
    rest = (total - known) / len(trips)
    return [trip + rest for trip in trips]
