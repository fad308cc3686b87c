"""Weights of linear layers as they lie in memory, for what multiplies with them by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from ..kernels import WEIGHT_TYPES
from .fusing import FusedLinear
from .int4_rows import Int4Rows
from .int8 import Int8Linear
from .streamed import StreamedLinear


@dataclass(frozen=True, slots=True)
class Plain:
    """`weight` [out, in], row by row; `bias` [out]; `scale` [out] in float32 of int8 weights.

    A row stands for `width` numbers, of a type that the kernels call `kind`, if they know it. Rows
    of 4-bit weights are bytes. All stay valid for as long as the layer lives.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: torch.Tensor | None
    kind: int | None
    width: int

    def rows(self, start: int, end: int) -> Plain:
        """Outputs [start, end) alone."""
        bias, scale = (None if t is None else t[start:end] for t in (self.bias, self.scale))
        return replace(self, weight=self.weight[start:end], bias=bias, scale=scale)


def plain(module: nn.Module) -> Plain | None:
    """The weights of a linear layer, if they lie in memory row by row."""
    if isinstance(module, FusedLinear):
        whole = plain(module.product)
        return None if whole is None else whole.rows(*module.columns)
    if isinstance(module, Int4Rows):
        return Plain(module.weight, module.bias, None, module.kind, module.in_features)
    if isinstance(module, Int8Linear):
        return _plain(module.weight, module.bias, module.scale)
    if type(module) is nn.Linear or isinstance(module, StreamedLinear):
        weight, bias = module.weight.detach(), module.bias
        if weight.is_contiguous():
            return _plain(weight, None if bias is None else bias.detach())
    return None


def _plain(
    weight: torch.Tensor, bias: torch.Tensor | None, scale: torch.Tensor | None = None
) -> Plain:
    return Plain(weight, bias, scale, WEIGHT_TYPES.get(weight.dtype), weight.shape[1])
