"""Plain weights on a CPU, read by our own kernels as they lie.

With few rows, which is decoding, a product is bound by reading the weight, and torch's plain path
reads bfloat16 at a third of the speed that the memory has, oneDNN's layout (`packed`) at half
(benchmarks/linear_layers.py prints by how much). The kernels read each row as one stream, at
nearly full speed, and nothing has to be laid out anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..kernels import MAX_ROWS, TYPES, WEIGHT_TYPES, library
from .joining import joined
from .timing import best_seconds


class StreamedLinear(nn.Module):
    """`x @ weight.T + bias` with the plain weight: [..., in] to [..., out].

    A few rows go through our kernel, more through torch.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = weight.contiguous()
        self.bias = bias
        self._float_bias = None if bias is None else bias.float()

    @classmethod
    def of(cls, linears: Sequence[nn.Linear]) -> StreamedLinear:
        """The product of `linears`, one below the other. They all have a bias, or none has."""
        return cls(*joined(linears))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.numel() // x.shape[-1]
        if not 0 < rows <= MAX_ROWS:
            return F.linear(x, self.weight, self.bias)
        out = few_rows(x.reshape(rows, -1), self.weight, self._float_bias)
        return out.view(*x.shape[:-1], -1)


def few_rows(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
    kind: int | None = None,
) -> torch.Tensor:
    """`x @ (weight * scale).T + bias` by our kernel, in the type of `x`.

    `x` [rows, in] with 1 to `MAX_ROWS` rows, `weight` [out, in], the others [out] in float32. If
    the weight's rows are bytes with a meaning of their own, `kind` says which.
    """
    kernels = library()
    assert kernels is not None
    assert kind is not None or x.shape[1] == weight.shape[1]
    assert weight.is_contiguous()
    flat = x.float().contiguous()
    # Said here and wherever the kernels write: while some thread loads a model, transformers makes
    # that model's number type the default of the whole process.
    out = torch.empty(len(x), weight.shape[0], dtype=torch.float32)
    kernels.linear(
        flat.data_ptr(),
        WEIGHT_TYPES[weight.dtype] if kind is None else kind,
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        None if scale is None else scale.data_ptr(),
        x.shape[1],
        weight.shape[0],
        len(x),
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out.to(x.dtype)


def can_stream(linear: nn.Linear) -> bool:
    """Whether the layer is one for the kernels, and they are here.

    float32 is left to torch, which reads it fast enough.
    """
    weight = linear.weight
    kinds = TYPES.keys() - {torch.float32}
    return weight.dtype in kinds and weight.device.type == "cpu" and library() is not None


@torch.inference_mode()
def pays(weight: torch.Tensor) -> bool:
    """Whether one row is faster through the kernels than through torch, on this machine."""
    weight = weight[:4096].contiguous()
    shape = (1, weight.shape[1], weight.dtype)
    streamed_s = best_seconds(lambda x: few_rows(x, weight), *shape)
    return streamed_s < 0.95 * best_seconds(lambda x: F.linear(x, weight), *shape)
