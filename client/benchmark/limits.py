"""How fast a route could be at best, from delays, rates and what is computed: plain arithmetic.

A route of N hops has N+1 legs: one trip to each hop with what that hop computes, and the trip back
with what the client computes. Nothing here measures anything; times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Leg:
    """A trip and what is computed where it ends.

    `delay` is one way, `rate` in bytes per second: that of the slowest part between the two, which
    at home is the sender's uplink. What arrives costs `step_seconds`, and `position_seconds` for
    each of its positions.
    """

    delay: float = 0.0
    rate: float = math.inf
    step_seconds: float = 0.0
    position_seconds: float = 0.0

    def compute(self, num_positions: int) -> float:
        """Seconds that so many positions take where the trip ends."""
        return self.step_seconds + num_positions * self.position_seconds


@dataclass(frozen=True)
class FrameSize:
    """Bytes of one frame: `frame_bytes` whatever it holds, and `position_bytes` per position."""

    position_bytes: int
    frame_bytes: int = 0

    def of(self, num_positions: int) -> int:
        """Bytes of a frame that holds so many positions."""
        return self.frame_bytes + num_positions * self.position_bytes


def decode_limit(legs: Sequence[Leg], frame: FrameSize, num_positions: int = 1) -> float:
    """Least seconds from one token to the next, or of a step that verifies `num_positions`.

    A step's trips and computations follow one another, so they add up.
    """
    size = frame.of(num_positions)
    return sum(leg.delay + size / leg.rate + leg.compute(num_positions) for leg in legs)


def prefill_limit(
    legs: Sequence[Leg], frame: FrameSize, num_positions: int, chunk_len: int
) -> float:
    """Least seconds from a prompt's first byte to the token after it.

    Chunks follow one another through a pipeline in which each trip's rate and each hop's compute
    hold one chunk at a time; a delay holds as many as come. Only the last position goes back.
    """
    if num_positions < 1:
        return 0.0
    starts = range(0, num_positions, chunk_len)
    lengths = [min(chunk_len, num_positions - start) for start in starts]
    sent, computed = [0.0] * len(legs), [0.0] * len(legs)
    for number, length in enumerate(lengths, 1):
        held = [length] * (len(legs) - 1) + [1 if number == len(lengths) else 0]
        ready = 0.0
        for index, (leg, held_len) in enumerate(zip(legs, held, strict=True)):
            sent[index] = max(sent[index], ready) + frame.of(held_len) / leg.rate
            ready = max(computed[index], sent[index] + leg.delay)
            ready += leg.compute(held_len) if held_len else 0.0
            computed[index] = ready
    return computed[-1]
