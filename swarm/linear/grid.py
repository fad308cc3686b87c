"""Four-bit numbers: groups of 32 neighbours of a row share a scale and an offset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

GROUP = 32
"""Weights that share a scale; GGUF's 4-bit kinds use the same number."""

_LEVELS = 15
_SHRINKS = (1.0, 0.94, 0.88, 0.82, 0.76)
"""Parts of a group's range that are tried: cutting off its extremes often serves the rest."""

_ROWS = 64


@dataclass(frozen=True, slots=True)
class Grid:
    """Level q of 0 … 15 stands for `(q - 8) * scale + middle`; both [rows, columns / 32]."""

    scale: torch.Tensor
    middle: torch.Tensor

    def levels(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest level of each of `weight`'s [rows, columns] numbers, as uint8."""
        return torch.cat([_levels(w, g).flatten(1).to(torch.uint8) for w, g in self._tiles(weight)])

    def to(self, dtype: torch.dtype) -> Grid:
        """The grid with its numbers rounded to `dtype`."""
        return Grid(self.scale.to(dtype), self.middle.to(dtype))

    def rows(self, order: torch.Tensor) -> Grid:
        """The grid of the same weight with its rows in another order."""
        return Grid(self.scale[order], self.middle[order])

    def _tiles(self, weight: torch.Tensor) -> Iterator[tuple[torch.Tensor, Grid]]:
        parts = (weight, self.scale, self.middle)
        for w, scale, middle in zip(*(torch.split(part, _ROWS) for part in parts), strict=True):
            grid = Grid(scale.float().unsqueeze(-1), middle.float().unsqueeze(-1))
            yield _grouped(w), grid


def fit(weight: torch.Tensor, dtype: torch.dtype) -> Grid:
    """A grid in `dtype` for `weight` [rows, columns], with a small squared error in each group.

    Tries parts of each group's range, then fits scale and middle of the best by least squares.
    """
    tiles = [_fit(_grouped(tile), dtype) for tile in torch.split(weight, _ROWS)]
    return Grid(
        torch.cat([tile.scale for tile in tiles]).squeeze(-1),
        torch.cat([tile.middle for tile in tiles]).squeeze(-1),
    )


def _grouped(weight: torch.Tensor) -> torch.Tensor:
    """[rows, columns] as [rows, groups, 32], in float32."""
    return weight.float().reshape(len(weight), -1, GROUP)


def _fit(groups: torch.Tensor, dtype: torch.dtype) -> Grid:
    low, high = groups.aminmax(dim=-1, keepdim=True)
    best: Grid | None = None
    least = torch.full_like(low, float("inf"))
    for shrink in _SHRINKS:
        scale = (high - low) * (shrink / _LEVELS)
        # Eight levels lie below the middle and seven above it.
        best, least = _better(groups, Grid(scale, (low + high + scale) / 2).to(dtype), best, least)
    assert best is not None
    offset = _levels(groups, best) - 8
    spread = offset - offset.mean(-1, keepdim=True)
    scale = (spread * groups).sum(-1, keepdim=True) / spread.square().sum(-1, keepdim=True).clamp(
        min=1e-9
    )
    middle = groups.mean(-1, keepdim=True) - scale * offset.mean(-1, keepdim=True)
    return _better(groups, Grid(scale, middle).to(dtype), best, least)[0]


def _better(
    groups: torch.Tensor, grid: Grid, best: Grid | None, least: torch.Tensor
) -> tuple[Grid, torch.Tensor]:
    """For each group the better of two grids, and its squared error."""
    values = (_levels(groups, grid) - 8) * grid.scale.float() + grid.middle.float()
    error = (values - groups).square().sum(-1, keepdim=True)
    if best is None:
        return grid, error
    gains = error < least
    chosen = Grid(
        torch.where(gains, grid.scale, best.scale), torch.where(gains, grid.middle, best.middle)
    )
    return chosen, torch.where(gains, error, least)


def _levels(groups: torch.Tensor, grid: Grid) -> torch.Tensor:
    scale = grid.scale.float()
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return ((groups - grid.middle.float()) / scale).round_().add_(8).clamp_(0, _LEVELS)
