"""One direction of one machine's line, as plain arithmetic: when what enters it comes out.

The system hands large pieces of a TCP stream over at once, as it would to a network card; on the
wire they are trains of packets. A train is known by two moments, at which its first and its last
packet have arrived: so the wagons of one train may be on several lines at the same time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

MIN_QUEUE = 30_000
"""Bytes for which a queue has room at any rate: twice the ten packets that TCP begins with."""


class BadLineError(ValueError):
    """A line that cannot be."""


@dataclass(frozen=True)
class LineConfig:
    """What a line does to packets: `rate` in bytes per second, `loss` a probability, rest seconds.

    Packets wait for `rate` in a queue of `queue` seconds; what finds no room is dropped. Each is
    late by `delay` and by up to `jitter` more, evenly distributed; none overtakes another unless
    the line `reorders`.
    """

    rate: float
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    queue: float = 0.1
    reorders: bool = False

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise BadLineError("a line needs a rate above 0")
        if min(self.delay, self.jitter, self.queue) < 0:
            raise BadLineError("delay, jitter and queue cannot be negative")
        if not 0 <= self.loss < 1:
            raise BadLineError("loss is a probability below 1")


class Train(NamedTuple):
    """`size` bytes in packets of at most `packet` bytes; `head` and `tail` are moments."""

    head: float
    tail: float
    size: int
    packet: int


class Line:
    """Carries trains in the order in which they come; `config` may be replaced at any time."""

    def __init__(self, config: LineConfig, seed: int) -> None:
        self.config = config
        self.num_dropped = 0
        """Trains that found no room."""
        self.num_lost = 0
        """Trains that fell to `loss`."""
        self._random = random.Random(seed)
        self._free = 0.0
        self._last = 0.0

    def carry(self, train: Train) -> Train | None:
        """The train at the other end, or None if it does not get there.

        Call it at the moment of the head, in the order of these moments.
        """
        config = self.config
        rate, (head, tail, size, packet) = config.rate, train
        backlog = (self._free - head) * rate
        if backlog > 0 and backlog + size > max(config.queue * rate, MIN_QUEUE):
            self.num_dropped += 1
            return None
        start = max(self._free, head)
        self._free = max(start + size / rate, tail + packet / rate)
        if config.loss and self._random.random() < config.loss:
            self.num_lost += 1
            return None
        delay = config.delay
        if config.jitter:
            delay += config.jitter * self._random.random()
        came = start + packet / rate
        if not config.reorders:
            delay = max(delay, self._last - came)
        self._last = self._free + delay
        return Train(came + delay, self._last, size, packet)
