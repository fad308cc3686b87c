"""bfloat16 on a CPU, in the layout that oneDNN multiplies fastest.

With few rows, which is decoding, a product is bound by reading the weight, and torch's plain
path reads it at half the speed that the memory has (benchmarks/linear_layers.py prints by how
much). The packed weight replaces the plain one: memory stays what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from .joining import joined
from .timing import best_seconds


class PackedLinear(nn.Module):
    """`x @ weight.T + bias` with a packed weight: [..., in] to [..., out]."""

    packed: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, packed: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.packed = packed
        self.bias = bias

    @classmethod
    def of(cls, linears: Sequence[nn.Linear]) -> PackedLinear:
        """The product of `linears`, one below the other. They all have a bias, or none has."""
        weight, bias = joined(linears)
        return cls(_pack(weight), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _product(x, self.packed, self.bias)


def can_pack(linear: nn.Linear) -> bool:
    """Whether the layer is one for these products, and torch and this machine have them."""
    weight = linear.weight
    return (
        weight.dtype == torch.bfloat16
        and weight.device.type == "cpu"
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def _pack(weight: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, torch.ops.mkldnn._reorder_linear_weight(weight, 1))


def _product(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return cast(torch.Tensor, out)


@torch.inference_mode()
def pays(weight: torch.Tensor) -> bool:
    """Time both forms on this machine: one row must gain, many must not lose noticeably."""
    weight = weight[:4096]
    packed = _pack(weight)
    for rows, limit in ((1, 0.95), (64, 1.1)):
        shape = (rows, weight.shape[1], weight.dtype)
        plain_s = best_seconds(lambda x: F.linear(x, weight), *shape)
        packed_s = best_seconds(lambda x: _product(x, packed, None), *shape)
        if packed_s > limit * plain_s:
            return False
    return True
