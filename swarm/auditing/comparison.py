"""How far apart two peers' results for the same inputs are, position by position."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .tolerance import Tolerance

_LEAST = 1e-6

_QUIET = 0.1
"""Channels that change less than this part of the median channel count as if they changed so."""


_FEW, _MANY = 4, 16
"""Positions whose median says nothing, and whose median says how far apart positions usually are.

A text's first position is far from all others, and rounds badly: honest medians of one position
were up to 0.69, of two up to 0.19, of four up to 0.13, of sixteen up to 0.09."""


@dataclass(frozen=True)
class Difference:
    """Distances over `count` positions: the median one and the largest one (see `distances`)."""

    usual: float
    largest: float
    count: int

    def within(self, tolerance: Tolerance) -> bool:
        """Whether honest peers may differ so much; of few positions the median may be larger."""
        usual = tolerance.usual if self.count >= _MANY else 2 * tolerance.usual
        return self.largest <= tolerance.largest and (self.usual <= usual or self.count < _FEW)


def difference(one: torch.Tensor, other: torch.Tensor, inputs: torch.Tensor) -> Difference:
    """How far apart two results for `inputs` are; all three are `[n, hidden_size]`, `n` > 0."""
    apart = distances(one, other, inputs)
    return Difference(float(apart.median()), float(apart.max()), len(apart))


def distances(one: torch.Tensor, other: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """`[n]` distances of results for `inputs`, all three `[n, hidden_size]`.

    Blocks add to what they get, and a few of its channels are a hundred times larger than all
    others: beside those, even wrong blocks would look nearly right. So what counts is what the
    blocks have changed, and each channel by its usual change over these positions. 0 is equal, the
    square root of 2 is unrelated, or as far as from nothing computed at all. The order of `one` and
    `other` does not matter. What is not finite is infinitely far from everything.
    """
    one, other, inputs = one.float(), other.float(), inputs.float()
    first, second = one - inputs, other - inputs
    scale = ((first.square() + second.square()) / 2).mean(0).sqrt()
    scale = scale.clamp_min(max(_LEAST, _QUIET * float(scale.median())))
    first, second = first / scale, second / scale
    size = ((first.square().sum(-1) + second.square().sum(-1)) / 2).sqrt()
    apart = (first - second).norm(dim=-1) / size.clamp_min(_LEAST)
    return torch.nan_to_num(apart, nan=float("inf"))
