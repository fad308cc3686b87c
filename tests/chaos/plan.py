"""What is done to whom, drawn from a seed; and who may be taken without a gap in the blocks.

Nothing in here knows of processes or clocks.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

Span = tuple[int, int]


class Kind(StrEnum):
    """What happens to a process.

    To a peer: `kill` is kill -9, `leave` SIGTERM; each time it is started again with the same
    folder; `twice` kills it again while it starts. `daemon` is kill -9 of its p2pd alone, of which
    it gets another one by itself. `freeze` stops
    the peer and its p2pd, as a machine that sleeps; `hang` only the peer, whose p2pd goes on
    answering; `sleep` freezes for longer than the directory keeps an announcement. `two` kills one
    peer and freezes or kills another at once.
    """

    KILL = "kill -9"
    TWICE = "kill -9 twice"
    LEAVE = "leave"
    FREEZE = "freeze"
    HANG = "hang"
    SLEEP = "sleep"
    DAEMON = "kill p2pd"
    TWO = "two at once"
    BOOTSTRAP = "kill bootstrap"
    CLIENT_KILL = "kill client"
    CLIENT_LEAVE = "client leaves"
    CLIENT_FREEZE = "freeze client"


_WEIGHTS = {
    Kind.KILL: 5,
    Kind.TWICE: 1,
    Kind.LEAVE: 4,
    Kind.FREEZE: 4,
    Kind.HANG: 2,
    Kind.SLEEP: 1,
    Kind.DAEMON: 1,
    Kind.TWO: 3,
    Kind.BOOTSTRAP: 1,
    Kind.CLIENT_KILL: 1,
    Kind.CLIENT_LEAVE: 1,
    Kind.CLIENT_FREEZE: 1,
}

_AWAY = {
    Kind.KILL: (0.0, 6.0),
    Kind.TWICE: (0.0, 6.0),
    Kind.LEAVE: (0.0, 6.0),
    Kind.FREEZE: (0.5, 20.0),
    Kind.HANG: (0.5, 12.0),
    Kind.SLEEP: (22.0, 35.0),
    Kind.DAEMON: (0.0, 4.0),
    Kind.TWO: (1.0, 8.0),
    Kind.BOOTSTRAP: (0.5, 15.0),
    Kind.CLIENT_KILL: (0.0, 2.0),
    Kind.CLIENT_LEAVE: (0.0, 2.0),
    Kind.CLIENT_FREEZE: (0.5, 8.0),
}

ON_CLIENTS = {Kind.CLIENT_KILL, Kind.CLIENT_LEAVE, Kind.CLIENT_FREEZE}


@dataclass(frozen=True)
class Action:
    """`after` seconds behind the action before it; who is hit is away for `away` seconds.

    `order` names everybody: who comes first is taken if that is allowed, but where it `aims`, those
    through whom some reply goes come before the others. Of `two`, the second one is frozen where
    `second_freezes`.
    """

    after: float
    kind: Kind
    away: float
    order: tuple[str, ...]
    second_freezes: bool
    aims: bool


def draw(seed: int, peers: Collection[str], clients: Collection[str]) -> Iterator[Action]:
    """Actions without end; the same ones for the same seed and names."""
    chance = random.Random(seed)
    bag: list[Kind] = []
    while True:
        if not bag:
            # Every kind comes once before any comes twice: a short run sees most of them.
            bag = _shuffled_kinds(chance)
        kind = bag.pop()
        names = list(clients if kind in ON_CLIENTS else peers)
        chance.shuffle(names)
        yield Action(
            after=min(9.0, 0.5 + chance.expovariate(1 / 3.5)),
            kind=kind,
            away=chance.uniform(*_AWAY[kind]),
            order=tuple(names),
            second_freezes=chance.random() < 0.5,
            aims=chance.random() < 0.7,
        )


def _shuffled_kinds(chance: random.Random) -> list[Kind]:
    once = list(_WEIGHTS)
    chance.shuffle(once)
    more = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=2 * len(once))
    return more + once  # Taken from the end.


def victims(
    action: Action,
    available: Mapping[str, Span],
    touchable: Collection[str],
    num_blocks: int,
    in_use: Collection[str] = (),
) -> tuple[str, ...]:
    """Whom the action takes; empty if nobody may be taken.

    `touchable` runs and nothing is being done to it; `available` of these serve, and everybody
    knows it. After the action the others that are available still cover all blocks.
    """
    order = [name for name in action.order if name in touchable]
    if action.aims:
        order.sort(key=lambda name: name not in in_use)
    for chosen in combinations(order, 2 if action.kind is Kind.TWO else 1):
        left = [span for name, span in available.items() if name not in chosen]
        if covers(left, num_blocks):
            return chosen
    return ()


def covers(spans: Collection[Span], num_blocks: int) -> bool:
    """Whether the spans leave no block out."""
    return set(range(num_blocks)) <= {block for span in spans for block in range(*span)}
