"""Hidden states as raw bytes, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .messages import DType

_TORCH = {
    DType.FLOAT32: torch.float32,
    DType.BFLOAT16: torch.bfloat16,
    DType.FLOAT16: torch.float16,
}
_EXPONENTS: dict[DType, tuple[np.dtype[Any], int]] = {
    DType.FLOAT32: (np.dtype("<u4"), 0x7F800000),
    DType.BFLOAT16: (np.dtype("<u2"), 0x7F80),
    DType.FLOAT16: (np.dtype("<u2"), 0x7C00),
}
_WIRE = {dtype: name for name, dtype in _TORCH.items()}


def torch_dtype(dtype: DType) -> torch.dtype:
    """The torch type for a wire type."""
    return _TORCH[dtype]


def wire_dtype(dtype: torch.dtype) -> DType:
    """The wire type for a torch type of activations."""
    return _WIRE[dtype]


def to_buffer(hidden: torch.Tensor, dtype: DType) -> memoryview:
    """The bytes of `hidden`, converted to `dtype`; without a copy where none is needed."""
    flat = hidden.detach().to("cpu", _TORCH[dtype]).contiguous().view(-1)
    octets: memoryview = flat.view(torch.uint8).numpy().data
    return octets


def from_buffers(
    buffers: Sequence[bytes | bytearray | memoryview], dtype: DType, hidden_size: int
) -> torch.Tensor:
    """Hidden states `[positions, hidden_size]` from the bytes of several steps, one copy in all.

    The sum of the lengths must be a whole number of positions; callers have checked it.
    """
    total = sum(len(buffer) for buffer in buffers)
    rows, rest = divmod(total, hidden_size * dtype.itemsize)
    assert rest == 0, "payload is not a whole number of positions"
    hidden = torch.empty(rows, hidden_size, dtype=_TORCH[dtype])
    target = hidden.view(-1).view(torch.uint8).numpy()
    offset = 0
    for buffer in buffers:
        target[offset : offset + len(buffer)] = np.frombuffer(buffer, np.uint8)
        offset += len(buffer)
    return hidden


def all_finite(buffer: bytes | bytearray | memoryview, dtype: DType) -> bool:
    """Whether the bytes of hidden states hold neither infinities nor NaN.

    Both have all bits of their exponent set, in every one of our types (IEEE 754; bfloat16 has
    float32's exponent).
    """
    kind, exponent = _EXPONENTS[dtype]
    return not bool(((np.frombuffer(buffer, kind) & exponent) == exponent).any())
