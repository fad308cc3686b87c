"""The grids of GGUF's 4-bit blocks, which are groups of 32 as ours are (ggml-common.h).

With them, a weight that was dequantized goes back to the very levels that the file has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
import torch

from swarm.linear.grid import Grid

from .gguf_header import GgufTensor

_Bytes = np.ndarray[Any, Any]
_Kind = gguf.GGMLQuantizationType

_SUB_BLOCKS = 8


def bits_per_number(kind: gguf.GGMLQuantizationType) -> int | None:
    """Bits of each level in a quantized kind, by its name (Q4_K: 4); None for plain ones."""
    if gguf.GGML_QUANT_SIZES[kind][0] == 1 or not (digit := re.search(r"\d", kind.name)):
        return None
    return int(digit[0])


def has_grid(kind: gguf.GGMLQuantizationType) -> bool:
    """Whether the kind's levels are evenly spaced in groups of 32, and 16 in number."""
    return kind in _READERS


def read_grid(tensor: GgufTensor, raw: bytes | memoryview) -> Grid:
    """The grid of a 2-dimensional `tensor` with a kind that `has_grid`, stored as `raw`."""
    _, size = gguf.GGML_QUANT_SIZES[tensor.kind]
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, size)
    scale, middle = _READERS[tensor.kind](blocks)
    rows = tensor.shape[0]
    return Grid(*(torch.from_numpy(part.reshape(rows, -1)) for part in (scale, middle)))


def _halves(blocks: _Bytes, start: int) -> _Bytes:
    """The half-precision number at byte `start` of each block."""
    values: _Bytes = blocks[:, start : start + 2].copy().view(np.float16).astype(np.float32)
    return values


def _q4_0(blocks: _Bytes) -> tuple[_Bytes, _Bytes]:
    scale = _halves(blocks, 0)
    return scale, np.zeros_like(scale)


def _q4_1(blocks: _Bytes) -> tuple[_Bytes, _Bytes]:
    scale, least = _halves(blocks, 0), _halves(blocks, 2)
    return scale, least + 8 * scale


def _q4_k(blocks: _Bytes) -> tuple[_Bytes, _Bytes]:
    """Per 256: a scale for the scales, one for the minima, and eight 6-bit numbers of each."""
    packed = blocks[:, 4:16].astype(np.int32)
    low, high, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    steps = np.concatenate([low & 63, rest & 15 | (low >> 6) << 4], -1)
    minima = np.concatenate([high & 63, rest >> 4 | (high >> 6) << 4], -1)
    assert steps.shape[1] == _SUB_BLOCKS
    scale = _halves(blocks, 0) * steps.astype(np.float32)
    return scale, 8 * scale - _halves(blocks, 2) * minima.astype(np.float32)


_READERS: dict[gguf.GGMLQuantizationType, Callable[[_Bytes], tuple[_Bytes, _Bytes]]] = {
    _Kind.Q4_0: _q4_0,
    _Kind.Q4_1: _q4_1,
    _Kind.Q4_K: _q4_k,
}
