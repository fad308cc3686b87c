"""Weights in 8 or 4 bits with scales, of any types and shapes."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from swarm.checkpoint.dequantize import from_fp8, from_mxfp4, take_quantization
from swarm.errors import ConfigError

from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import VALUES, altered

_DTYPES = st.sampled_from(
    [
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.uint8,
        torch.int8,
        torch.float32,
        torch.bfloat16,
        torch.int64,
        torch.bool,
    ]
)
_NAMES = st.sampled_from(
    ["w", "w_scale_inv", "w_blocks", "w_scales", "w.activation_scale", "v", "v_scale_inv"]
)
_SHAPES = st.one_of(
    st.lists(st.integers(0, 6), max_size=4),
    st.sampled_from(
        [[2, 3, 2, 16], [2, 3, 2], [2, 3, 1, 16], [3, 3, 2], [8, 8], [2, 2], [4, 8, 8]]
    ),
)
_ROOM = Bounds(memory=4 << 20, memory_per_byte=64, lines=20_000)


@st.composite
def _tensor(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(_SHAPES)
    number = 1
    for size in shape:
        number *= size
    dtype = draw(_DTYPES)
    octets = bytearray((draw(st.binary(max_size=24)) or b"\0") * (number * dtype.itemsize))
    if not number:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(octets, dtype=dtype, count=number).reshape(shape)


_SIZES = st.one_of(st.integers(-4, 8), st.sampled_from([2**62, 128]))
_BLOCKS = st.one_of(st.none(), st.tuples(_SIZES, _SIZES))
_CONFIG = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
_CASES = st.tuples(
    st.dictionaries(_NAMES, _tensor(), max_size=5),
    _BLOCKS,
    st.one_of(altered(_CONFIG), altered({"quant_method": "mxfp4"}), VALUES),
)


class _Config:
    """As much of a transformers config as says how its weights are quantized."""

    def __init__(self, quantization: Any) -> None:
        self.quantization_config = quantization

    def get_text_config(self) -> _Config:
        return self


def check(case: tuple[dict[str, torch.Tensor], Any, Any]) -> None:
    """Plain weights of no other shapes than the file has, or a refusal."""
    state, block, quantization = case
    size = sum(tensor.numel() * tensor.itemsize for tensor in state.values())
    ways = [
        lambda: from_fp8(state, torch.float32, block, "model"),
        lambda: from_mxfp4(state, torch.float32, "model"),
    ]
    named = read(lambda: take_quantization(_Config(quantization), "m"), ConfigError, 1024, _ROOM)
    if named is not None:
        ways.append(lambda: named(state, torch.float32))
    for way in ways:
        plain = read(way, ConfigError, size, _ROOM)
        if plain is not None:
            assert sum(tensor.numel() for tensor in plain.values()) <= 2 * size


FUZZER = Fuzzer(_CASES, check)
