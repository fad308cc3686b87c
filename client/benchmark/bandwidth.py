"""How fast this machine reads memory, and how much of it one token needs."""

from __future__ import annotations

import time

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from swarm.checkpoint.quiet import quiet

_PROBE_BYTES = 512 << 20
"""More than any cache holds."""

_REPEATS = 8
_BITS = {"int8": 8, "int4": 4}


@torch.inference_mode()
def read_bandwidth() -> float:
    """Bytes per second that a sum over much memory reads, with torch's present threads.

    The best of some tries: a limit is what the machine can do, not what it did on average. A sum of
    float32 reads as fast as anything here; the products that models are made of are slower.
    """
    memory = torch.ones(_PROBE_BYTES // 4, dtype=torch.float32)
    best = float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        memory.sum()
        best = min(best, time.perf_counter() - started)
    return _PROBE_BYTES / best


def bytes_per_token(
    config: PreTrainedConfig, dtype: torch.dtype, quantize: str | None
) -> int | None:
    """Bytes of weights that a decode step reads at least: all blocks, and the head.

    `quantize` is how peers keep the blocks' linear layers; their scales are not counted. None for
    a model of experts, where it depends on the token.
    """
    with quiet(), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if any(parameter.dim() > 2 for parameter in model.parameters()) or _has_experts(config):
        return None
    bits = 8 * dtype.itemsize
    total = 0
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            continue  # One row of it.
        is_block = isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
        weight_bits = _BITS[quantize] if quantize and is_block else bits
        for name, parameter in module.named_parameters(recurse=False):
            total += parameter.numel() * (weight_bits if name == "weight" else bits)
    return total // 8


def _has_experts(config: PreTrainedConfig) -> bool:
    return any(getattr(config, name, None) for name in ("num_experts", "num_local_experts"))
