"""Eight bits per weight, symmetric, one scale per output channel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from logging import getLogger
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..kernels import MAX_ROWS, library
from .integers import Engine, engines
from .joining import joined
from .streamed import few_rows
from .timing import best_seconds, timed_rows

logger = getLogger(__name__)

_FEW_ROWS = 16
"""Up to here torch's own product is taken on accelerators, where it is made for few rows."""

_SAMPLE = 4096
"""Channels of a weight that engines are timed on."""

_CLEARLY = 0.9
"""Exact sums are given up only for what takes less than this part of their time."""

_TILE = 1 << 20
"""Weights that are widened at a time: about what a core's cache holds."""


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`weight` [out, in] in int8, and float32 scales [out]."""
    peak = weight.abs().amax(1).float()
    scale = torch.where(peak == 0, torch.ones_like(peak), peak / 127)
    rows = max(1, _TILE // weight.shape[1])
    parts = zip(torch.split(weight, rows), torch.split(scale, rows), strict=True)
    levels = [(w.float() / s.unsqueeze(1)).round_().to(torch.int8) for w, s in parts]
    return torch.cat(levels), scale


class IntegerLinear(nn.Module):
    """`x @ weight.T + bias` by products of whole numbers; see `integers`. On CPUs."""

    bias: torch.Tensor | None

    def __init__(self, engine: Engine, packed: Any, bias: torch.Tensor | None) -> None:
        super().__init__()
        self._engine = engine
        self._packed = packed
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self._engine.product(x.reshape(-1, x.shape[-1]), self._packed)
        if self.bias is not None:
            out += self.bias
        return out.to(x.dtype).view(*x.shape[:-1], -1)


class Int8Linear(nn.Module):
    """`x @ (weight * scale).T + bias` with `weight` in int8 and `scale` in float32, on any device.

    Few rows go through our kernels on a CPU, else through torch's own product where it has one for
    the device; many rows, and all where there is neither, through weights widened tile by tile.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self,
        weight: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.scale = scale.float()
        self.bias = bias
        self._rounded = scale.to(dtype)
        self.streams = weight.device.type == "cpu" and library() is not None
        self.few_rows = MAX_ROWS if self.streams else _few_rows(self, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        out = self.kernel(flat) if len(flat) <= self.few_rows else self.widened(flat)
        if self.bias is not None:
            out += self.bias
        return out.view(*x.shape[:-1], -1)

    def kernel(self, flat: torch.Tensor) -> torch.Tensor:
        """`flat` [rows, in] times the weight, by our kernels or torch's own product."""
        if self.streams and len(flat):
            return few_rows(flat, self.weight, scale=self.scale)
        return torch._weight_int8pack_mm(flat, self.weight, self._rounded)

    def widened(self, flat: torch.Tensor) -> torch.Tensor:
        """The same, by plain products with a tile of the weight at a time."""
        out = flat.new_empty(len(flat), len(self.weight))
        rows = max(1, _TILE // flat.shape[1])
        for part, weight in zip(
            torch.split(out, rows, 1), torch.split(self.weight, rows), strict=True
        ):
            part.copy_(F.linear(flat, weight.to(flat.dtype)))
        return out.mul_(self.scale)


def int8_layer(linears: Sequence[nn.Linear], engine: Engine | None) -> nn.Module:
    """The product of `linears`, one below the other, by an engine or else by torch's own."""
    weight, bias = joined(linears)
    levels, scale = quantized(weight)
    if engine is not None:
        return IntegerLinear(engine, engine.pack(levels, scale), bias)
    return Int8Linear(levels, scale, bias, weight.dtype)


_chosen: dict[torch.dtype, Engine | None] = {}


def choose(weight: torch.Tensor) -> Engine | None:
    """The engine for weights of this kind: timed once, on a part of the first that comes.

    None where our kernels are, or torch's own product is clearly faster.
    """
    if weight.device.type != "cpu" or library() is not None:
        return None
    if (dtype := weight.dtype) not in _chosen:
        engine = fastest(engines(), weight[:_SAMPLE])
        logger.info("linear int8 dtype=%s engine=%s", dtype, engine.name if engine else "torch")
        _chosen[dtype] = engine
    return _chosen[dtype]


def fastest(found: Sequence[Engine], weight: torch.Tensor) -> Engine | None:
    """The fastest of some engines, or None where torch's own product is clearly faster than all.

    What counts is one row (decoding) and 64 (prefill) alike.
    """
    levels, scale = quantized(weight)
    costs = {
        engine: _cost(IntegerLinear(engine, engine.pack(levels, scale), None), weight)
        for engine in found
    }
    best = min(found, key=lambda engine: costs[engine], default=None)
    if best is None:
        return None
    plain = _cost(Int8Linear(levels, scale, None, weight.dtype), weight)
    return None if plain < _CLEARLY * costs[best] else best


def _cost(layer: nn.Module, weight: torch.Tensor) -> float:
    """The geometric mean of both times, in seconds."""
    shape = (weight.shape[1], weight.dtype)
    return sqrt(best_seconds(layer, 1, *shape) * best_seconds(layer, 64, *shape))


_measured: dict[torch.dtype, int] = {}


def _few_rows(layer: Int8Linear, dtype: torch.dtype) -> int:
    """Up to how many rows torch's own product serves; on a CPU timed once for a type of numbers."""
    device = layer.weight.device.type
    if not _has_product(device, dtype):
        return 0
    if device != "cpu":
        return _FEW_ROWS
    if dtype not in _measured:
        _measured[dtype] = timed_rows(layer.kernel, layer.widened, layer.weight.shape[1], dtype)
    return _measured[dtype]


@cache
def _has_product(device: str, dtype: torch.dtype) -> bool:
    """Whether torch multiplies int8 weights on this kind of device, and rightly."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (64, 64), generator=generator, dtype=torch.int8).to(device)
    x = torch.randn(2, 64, generator=generator).to(device, dtype)
    scale = torch.full((64,), 0.01, device=device, dtype=dtype)
    with torch.inference_mode():
        try:
            ours = torch._weight_int8pack_mm(x, weight, scale)
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            logger.info("linear int8 device=%s product=no why=%s", device, str(error)[:200])
            return False
        theirs = F.linear(x, weight.to(dtype)) * scale
    return bool(torch.allclose(ours, theirs, atol=0.05, rtol=0.05))
