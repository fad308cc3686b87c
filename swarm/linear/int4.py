"""Four bits per weight; groups of 32 share a scale and an offset (see `grid`).

On a CPU our own kernels multiply with them (`int4_rows`). Elsewhere torch does: on CUDA from
compute capability 8.0, on MPS, and on CPUs where the kernels are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import cast

import torch
from torch import nn

from swarm.errors import ConfigError

from . import int4_rows
from .grid import GROUP, Grid, fit
from .int4_rows import Int4Rows
from .joining import joined
from .timing import timed_rows

logger = getLogger(__name__)

_BLOCK = 64
"""Output channels that a CPU's packed weight keeps together."""

_TILE = 1 << 20
"""Weights that are widened at a time: about what a core's cache holds."""

_INNER_TILES = 2
"""How accelerators arrange the packed weight (torch: 2, 4 or 8 tiles of 16 columns)."""

_TOLERANCE = 0.05


def fits(linear: nn.Linear) -> bool:
    """Whether the layer has whole groups, and as many channels as packing takes at a time."""
    return linear.in_features % (2 * GROUP) == 0 and linear.out_features % _BLOCK == 0


class Int4Linear(nn.Module):
    """`x @ weight.T + bias` with `packed` 4-bit weights; `scales` [in / 32, out, 2]."""

    packed: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self, packed: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        super().__init__()
        self.packed = packed
        self.scales = scales
        self.bias = bias
        # Where we do not know the packed layout, all rows go through torch's product.
        self.few_rows: int | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        if self.few_rows is None or len(flat) <= self.few_rows:
            out = self.kernel(flat)
        else:
            out = self.widened(flat)
        if self.bias is not None:
            out += self.bias
        return out.view(*x.shape[:-1], -1)

    def kernel(self, flat: torch.Tensor) -> torch.Tensor:
        """`flat` [rows, in] times the weight, by torch's own product."""
        return _product(flat, self.packed, self.scales)

    def widened(self, flat: torch.Tensor) -> torch.Tensor:
        """The same, by plain products with a tile of the weight at a time. On CPUs."""
        columns, channels = flat.shape[1], self.scales.shape[1]
        out = flat.new_empty(len(flat), channels)
        width = max(1, _TILE // columns // _BLOCK) * _BLOCK
        for start in range(0, channels, width):
            end = min(start + width, channels)
            out[:, start:end] = flat @ self._widened(start, end)
        return out

    def _widened(self, start: int, end: int) -> torch.Tensor:
        """Channels [start, end) as plain numbers [in, end - start]."""
        pairs = self.scales[:, start:end].reshape(len(self.scales), -1, _BLOCK, 2)
        # Copied, as neighbouring numbers are what vector instructions want.
        scale, middle = (part.contiguous() for part in pairs.unbind(-1))
        wide = _levels(self.packed[start:end], scale.dtype).sub_(8)
        groups = wide.view(-1, GROUP, *wide.shape[1:])
        torch.addcmul(middle.unsqueeze(1), groups, scale.unsqueeze(1), out=groups)
        return wide.flatten(1)


def int4_layer(linears: Sequence[nn.Linear], grids: Sequence[Grid | None]) -> nn.Module:
    """The product of `linears`, one below the other, on their grids; fitted where there is none.

    Raises ConfigError where there is no such product for the device.
    """
    weight, bias = joined(linears)
    used = [
        grid or fit(linear.weight.detach(), weight.dtype)
        for linear, grid in zip(linears, grids, strict=True)
    ]
    grid = Grid(torch.cat([g.scale for g in used]), torch.cat([g.middle for g in used]))
    grid = Grid(grid.scale.to(weight.device), grid.middle.to(weight.device))
    levels = grid.levels(weight)
    rounded = grid.to(weight.dtype)
    if int4_rows.can_take(weight):
        return Int4Rows.of(levels, rounded, bias)
    scales = torch.stack([rounded.scale.T, rounded.middle.T], -1).contiguous()
    try:
        layer = Int4Linear(_packed(levels), scales, bias)
        _check(layer, levels, rounded)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise ConfigError(
            f"torch {torch.__version__} has no product with 4-bit weights in {weight.dtype} for"
            f" {weight.device} ({str(error).splitlines()[0][:200]}); use int8 or none"
        ) from error
    if weight.device.type == "cpu" and _knows_layout(layer.packed, levels):
        if weight.dtype not in _measured:
            rows = timed_rows(layer.kernel, layer.widened, weight.shape[1], weight.dtype)
            _measured[weight.dtype] = rows
        layer.few_rows = _measured[weight.dtype]
    return layer


_measured: dict[torch.dtype, int] = {}
"""Up to how many rows a CPU's own product serves, timed once for a type of numbers."""


def _check(layer: Int4Linear, levels: torch.Tensor, grid: Grid) -> None:
    """Compare one product with plain numbers: a RuntimeError if the device gives others."""
    levels, channels = levels[:_BLOCK], slice(0, _BLOCK)
    groups = levels.float().reshape(len(levels), -1, GROUP) - 8
    scale, middle = (part[channels].float().unsqueeze(-1) for part in (grid.scale, grid.middle))
    plain = (groups * scale + middle).flatten(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, levels.shape[1], generator=generator).to(layer.scales)
    with torch.inference_mode():
        ours = _product(x, layer.packed, layer.scales)[:, channels].float()
        theirs = x.float() @ plain.T
    if not bool((ours - theirs).norm() <= _TOLERANCE * theirs.norm()):
        raise RuntimeError("its results are wrong")


def _packed(levels: torch.Tensor) -> torch.Tensor:
    if levels.device.type == "cpu":
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels.int(), _INNER_TILES)
    else:
        pairs = (levels[:, ::2] << 4) | levels[:, 1::2]
        packed = torch.ops.aten._convert_weight_to_int4pack(pairs, _INNER_TILES)
    return cast(torch.Tensor, packed)


def _product(x: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    if x.device.type == "cpu":
        out = torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, GROUP, scales)
    else:
        out = torch.ops.aten._weight_int4pack_mm(x, packed, GROUP, scales)
    return cast(torch.Tensor, out)


def _levels(packed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A CPU's packed weight as levels [in, blocks, 64]: each byte holds channels i and i + 32."""
    blocks = packed.reshape(-1, 2 * packed.shape[1], _BLOCK // 2).transpose(0, 1)
    levels = packed.new_empty(*blocks.shape[:2], _BLOCK, dtype=dtype)
    levels[..., : _BLOCK // 2] = blocks & 15
    levels[..., _BLOCK // 2 :] = blocks >> 4
    return levels


def _knows_layout(packed: torch.Tensor, levels: torch.Tensor) -> bool:
    """Whether `_levels` undoes `_packed`: the arrangement is torch's own affair, per machine."""
    if packed.dtype != torch.uint8 or packed.numel() * 2 != levels.numel():
        return False
    first = _levels(packed[: 2 * _BLOCK], torch.uint8).flatten(1).T
    return torch.equal(first, levels[: 2 * _BLOCK])
