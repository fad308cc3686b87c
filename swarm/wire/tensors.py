"""Hidden states as raw bytes, and back.

Floating point types travel as they are. `DType.INT8` is for lines on which bytes cost more than
rounding: each position is cut into blocks of `BLOCK_LEN` numbers, and travels as the blocks' scales
(bfloat16), followed by its numbers as int8 multiples of their block's scale. Every position stands
for itself, so that the bytes do not depend on what it was computed or sent with: who replays a
history sends what was sent before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .messages import BLOCK_LEN, SCALE_LEN, DType

_TORCH = {
    DType.FLOAT32: torch.float32,
    DType.BFLOAT16: torch.bfloat16,
    DType.FLOAT16: torch.float16,
}
_WIRE = {dtype: name for name, dtype in _TORCH.items()}
_EXPONENTS: dict[DType, tuple[np.dtype[Any], int]] = {
    DType.FLOAT32: (np.dtype("<u4"), 0x7F800000),
    DType.BFLOAT16: (np.dtype("<u2"), 0x7F80),
    DType.FLOAT16: (np.dtype("<u2"), 0x7C00),
}
_LARGEST = 127

_SMALL = 8 * 1024
"""Buffers up to this size are checked as one integer: a decode step finds numpy's code in no cache,
and fetching it takes ten times as long as the check."""


def wire_dtype(dtype: torch.dtype) -> DType:
    """The wire type for a torch type of activations."""
    return _WIRE[dtype]


def to_buffer(hidden: torch.Tensor, dtype: DType) -> memoryview:
    """The bytes of `hidden` `[positions, hidden_size]` in the type `dtype`, as a copy."""
    if dtype is DType.INT8:
        return _quantized(hidden.detach())
    octets = bytearray(hidden.numel() * dtype.itemsize)
    if octets:
        # A tensor over the bytes takes two calls into torch, the bytes of a tensor take six.
        target = torch.frombuffer(octets, dtype=_TORCH[dtype]).view(hidden.shape)
        target.copy_(hidden.detach())
    return memoryview(octets)


def from_buffers(
    buffers: Sequence[bytes | bytearray | memoryview], dtype: DType, hidden_size: int
) -> torch.Tensor:
    """Hidden states `[positions, hidden_size]` from the bytes of several steps, one copy in all.

    Those of `INT8` come out as float32. The sum of the lengths must be a whole number of
    positions; callers have checked it.
    """
    octets = bytearray().join(buffers)
    position_len = dtype.position_len(hidden_size)
    rows, rest = divmod(len(octets), position_len)
    assert rest == 0, "payload is not a whole number of positions"
    if dtype is not DType.INT8:
        kind = _TORCH[dtype]
        return torch.frombuffer(octets, dtype=kind).view(rows, -1) if rows else _none(hidden_size)
    return _restored(octets, rows, hidden_size) if rows else _none(hidden_size)


def all_finite(buffer: bytes | bytearray | memoryview, dtype: DType, position_len: int) -> bool:
    """Whether the bytes of whole positions hold neither infinities nor NaN.

    Both have all bits of their exponent set, in every one of our types (IEEE 754; bfloat16 has
    float32's exponent). Of `INT8` the scales are looked at, which must leave room for the numbers
    that they multiply: one of 2^121 or more would make infinities of them.
    """
    if dtype is DType.INT8:
        # A position of n blocks is longer than n - 1 whole ones.
        num_blocks = -(-position_len // (BLOCK_LEN + SCALE_LEN))
        rows = np.frombuffer(buffer, np.uint8).reshape(-1, position_len)
        buffer = rows[:, : num_blocks * SCALE_LEN].tobytes()
        # In bfloat16 these are the numbers whose upper five bits of the exponent are set, and those
        # five are where float16 has its exponent.
        dtype = DType.FLOAT16
    if len(buffer) <= _SMALL:
        # With its lowest bit added, an exponent of ones alone carries into the sign's place.
        exponents, ones, carries = _masks(len(buffer) // dtype.itemsize, dtype)
        return not ((int.from_bytes(buffer, "little") & exponents) + ones) & carries
    kind, exponent = _EXPONENTS[dtype]
    return not bool(((np.frombuffer(buffer, kind) & exponent) == exponent).any())


@lru_cache(maxsize=64)
def _masks(count: int, dtype: DType) -> tuple[int, int, int]:
    """Of so many numbers, as one integer: all exponents, their lowest bits, the signs."""
    _, exponent = _EXPONENTS[dtype]
    lowest, sign = exponent & -exponent, 1 << (8 * dtype.itemsize - 1)
    every = sum(1 << (8 * dtype.itemsize * index) for index in range(count))
    return exponent * every, lowest * every, sign * every


def _none(hidden_size: int) -> torch.Tensor:
    return torch.empty(0, hidden_size)


def _quantized(hidden: torch.Tensor) -> memoryview:
    rows, size = hidden.shape
    num_blocks = -(-size // BLOCK_LEN)
    octets = bytearray(rows * DType.INT8.position_len(size))
    if not octets:
        return memoryview(octets)
    padded = functional.pad(hidden.to("cpu", torch.float32), (0, num_blocks * BLOCK_LEN - size))
    blocks = padded.view(rows, num_blocks, BLOCK_LEN)
    # What cannot be said in int8 would look harmless: as a scale it shows what it is.
    scales = (blocks.abs().amax(-1) / _LARGEST).to(torch.bfloat16)
    factors = scales.float().clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(-1)
    numbers = (blocks / factors).round_().clamp_(-_LARGEST, _LARGEST).nan_to_num_()
    target = torch.frombuffer(octets, dtype=torch.int8).view(rows, -1)
    target[:, : num_blocks * SCALE_LEN] = scales.view(torch.int8)
    target[:, num_blocks * SCALE_LEN :] = numbers.view(rows, -1)[:, :size]
    return memoryview(octets)


def _restored(octets: bytearray, rows: int, size: int) -> torch.Tensor:
    num_blocks = -(-size // BLOCK_LEN)
    source = torch.frombuffer(octets, dtype=torch.int8).view(rows, -1)
    # One after the other first: a row of an odd number of bytes cannot be seen as pairs.
    packed = source[:, : num_blocks * SCALE_LEN].reshape(-1)
    scales = packed.view(torch.bfloat16).view(rows, num_blocks).float()
    numbers = source[:, num_blocks * SCALE_LEN :].float()
    return numbers.mul_(scales.repeat_interleave(BLOCK_LEN, dim=1)[:, :size])
