"""Four bits per weight on a CPU, row by row as our own kernels read them.

torch packs such weights in an order of its own, which no program of ours can read, and is slow with
them in float32. Here a row is one stream: each group of 32 numbers behind its scale and middle.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..kernels import INT4_TYPES, MAX_ROWS, TYPES, library
from .grid import GROUP, Grid
from .streamed import few_rows

_TILE = 1 << 20
"""Weights that are widened at a time: about what a core's cache holds."""


def can_take(weight: torch.Tensor) -> bool:
    """Whether the kernels multiply with weights that this one becomes."""
    known = weight.dtype in INT4_TYPES and weight.shape[1] % (2 * GROUP) == 0
    return weight.device.type == "cpu" and known and library() is not None


class Int4Rows(nn.Module):
    """`x @ weight.T + bias` with `weight` [out, bytes of a row], as `kernels.c` describes it.

    `dtype` is that of the numbers which the weight stands for, and of its scales.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.dtype = dtype
        self.kind = INT4_TYPES[dtype]
        self.in_features = weight.shape[1] // (2 * dtype.itemsize + GROUP // 2) * GROUP
        self._float_bias = None if bias is None else bias.float()

    @classmethod
    def of(cls, levels: torch.Tensor, grid: Grid, bias: torch.Tensor | None) -> Int4Rows:
        """Of `levels` 0 … 15 [out, in] in uint8 on a grid, in whose number type it is."""
        heads = torch.stack([grid.scale, grid.middle], -1)
        halves = levels.view(*heads.shape[:2], 2, GROUP // 2)
        pairs = halves[..., 0, :] | halves[..., 1, :] << 4
        groups = torch.cat([heads.view(torch.uint8).flatten(2), pairs], -1)
        return cls(groups.flatten(1), bias, heads.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        if 0 < len(flat) <= MAX_ROWS:
            out = few_rows(flat, self.weight, self._float_bias, kind=self.kind)
        else:
            out = self._widened(flat)
        return out.view(*x.shape[:-1], -1)

    def _widened(self, flat: torch.Tensor) -> torch.Tensor:
        """The same, by plain products with a tile of the weight at a time."""
        kernels, columns = library(), flat.shape[1]
        assert kernels is not None
        out = flat.new_empty(len(flat), len(self.weight))
        rows = max(1, _TILE // columns)
        tile = torch.empty(min(rows, len(self.weight)), columns, dtype=self.dtype)
        for part, weight in zip(
            torch.split(out, rows, 1), torch.split(self.weight, rows), strict=True
        ):
            kernels.widen(
                self.kind,
                weight.data_ptr(),
                columns,
                len(weight),
                TYPES[self.dtype],
                tile.data_ptr(),
                torch.get_num_threads(),
            )
            part.copy_(F.linear(flat, tile[: len(weight)].to(flat.dtype)))
        if self.bias is not None:
            out += self.bias
        return out
