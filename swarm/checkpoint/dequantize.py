"""Turning weights that were saved in 8 or 4 bits with scales back into plain ones.

Two methods are how very large models are published, and need no calibration to undo: "fp8"
(DeepSeek-V3's 128 x 128 blocks, https://arxiv.org/abs/2412.19437 section 3.3; or one scale per
tensor) and "mxfp4" (gpt-oss's experts; OCP Microscaling Formats 1.0, section 5.3.3). Others are
refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from swarm.errors import ConfigError
from swarm.quoting import quoted

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

State = dict[str, torch.Tensor]
# Takes a span's tensors as stored; gives the same model's tensors, unquantized, in the dtype.
Dequantizer = Callable[[State, torch.dtype], State]

_FP8 = (
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
)
_SCALE = "_scale_inv"
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_E8M0_BIAS = 127


def take_quantization(config: PreTrainedConfig, name: str) -> Dequantizer | None:
    """How to undo the quantization that `config` describes; None for plain weights.

    The description is removed from `config`, which from then on describes what is loaded. Raises
    `ConfigError` that names a method which cannot be undone here.
    """
    found = None
    for part in (config, config.get_text_config()):
        quantization = getattr(part, "quantization_config", None)
        if quantization:
            found = quantization
        if hasattr(part, "quantization_config"):
            del part.quantization_config
    if found is None:
        return None
    if hasattr(found, "to_dict"):
        found = found.to_dict()
    if not isinstance(found, dict):
        raise ConfigError(f"{name}: its config has quantization_config {quoted(found)}")
    method = found.get("quant_method") or found.get("quant_algo") or "unnamed"
    if method == "mxfp4":
        return lambda state, dtype: from_mxfp4(state, dtype, name)
    if method == "fp8":
        block = found.get("weight_block_size")
        if block is not None and not (
            isinstance(block, list | tuple) and [type(size) for size in block] == [int, int]
        ):
            raise ConfigError(f"{name}: its config has weight_block_size {quoted(block)}")
        return lambda state, dtype: from_fp8(state, dtype, block, name)
    raise ConfigError(
        f"{name}: its weights are quantized by method {quoted(method)}, which cannot be "
        "loaded; use the model's unquantized repository, or a .gguf file of it"
    )


def from_fp8(state: State, dtype: torch.dtype, block: Sequence[int] | None, name: str) -> State:
    """Multiply 8-bit weights by their `_scale_inv`; other tensors stay as they are.

    A scale belongs to a `block` of (rows, columns), the last of which may be cut short.
    Raises `ConfigError` naming model `name` when a scale is missing or has a strange shape.
    """
    plain: State = {}
    for key, tensor in state.items():
        if key.endswith((_SCALE, ".activation_scale")):
            continue
        if tensor.dtype not in _FP8:
            plain[key] = tensor
            continue
        scale = state.get(key + _SCALE)
        if scale is None:
            raise ConfigError(f"{name}: {key} has 8 bits but no {key + _SCALE}")
        plain[key] = _scaled(tensor, scale.float(), block, f"{name}: {key}").to(dtype)
    return plain


def _scaled(
    weight: torch.Tensor, scale: torch.Tensor, block: Sequence[int] | None, where: str
) -> torch.Tensor:
    values = weight.float()
    if scale.numel() == 1:
        return values.mul_(scale.reshape(()))
    if weight.ndim < 2 or scale.ndim != weight.ndim or scale.shape[:-2] != weight.shape[:-2]:
        raise ConfigError(f"{where} {tuple(weight.shape)} has scales {tuple(scale.shape)}")
    for dim in (-2, -1):
        configured = block[dim] if block else None
        size = _block_size(weight.shape[dim], scale.shape[dim], configured, where)
        scale = scale.repeat_interleave(size, dim).narrow(dim, 0, weight.shape[dim])
    return values.mul_(scale)


def _block_size(length: int, blocks: int, configured: int | None, where: str) -> int:
    """How many rows (or columns) share a scale; the grid decides where the config is silent."""
    if configured and configured > 0 and -(-length // configured) == blocks:
        return min(configured, length)
    if blocks and length % blocks == 0:
        return length // blocks
    raise ConfigError(f"{where}: {blocks} scales do not fit its {length} rows or columns")


def from_mxfp4(state: State, dtype: torch.dtype, name: str) -> State:
    """Unpack `X_blocks` (two 4-bit values per byte) with `X_scales` (exponents) into `X`.

    `[experts, rows, groups, 16]` bytes become `[experts, groups * 32, rows]`: gpt-oss multiplies
    from the left. Raises `ConfigError` naming model `name` where types or shapes are others.
    """
    plain: State = {}
    table = torch.tensor([*_E2M1, *(-value for value in _E2M1)])
    for key, tensor in state.items():
        if key.endswith("_scales") and key.removesuffix("_scales") + "_blocks" in state:
            continue
        base = key.removesuffix("_blocks")
        exponents = state.get(base + "_scales")
        if base == key or exponents is None:
            plain[key] = tensor
            continue
        _check_mxfp4(tensor, exponents, f"{name}: {base}")
        # One expert at a time: indices take eight times the room of what they index.
        plain[base] = torch.stack(
            [
                _unpacked(packed, exponent, table).to(dtype).T
                for packed, exponent in zip(tensor, exponents, strict=True)
            ]
        )
    return plain


def _check_mxfp4(packed: torch.Tensor, exponents: torch.Tensor, where: str) -> None:
    if packed.dtype != torch.uint8 or exponents.dtype != torch.uint8:
        raise ConfigError(f"{where}: blocks are {packed.dtype}, scales {exponents.dtype}")
    if packed.ndim != 4 or packed.shape[:3] != exponents.shape or packed.shape[3] != 16:
        raise ConfigError(
            f"{where}: blocks are {tuple(packed.shape)}, scales {tuple(exponents.shape)}"
        )
    if not len(packed):
        raise ConfigError(f"{where}: no experts")


def _unpacked(packed: torch.Tensor, exponents: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    low, high = table[(packed & 15).int()], table[(packed >> 4).int()]
    values = torch.stack([low, high], -1).flatten(-2)
    scale = torch.ldexp(torch.ones(exponents.shape), exponents.int() - _E8M0_BIAS)
    return (values * scale.unsqueeze(-1)).flatten(1)
