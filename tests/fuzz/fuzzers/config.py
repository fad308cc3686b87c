"""A model's folder: config.json, generation_config.json and the index of its weight files."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from hypothesis import strategies as st
from safetensors.torch import save

from swarm.checkpoint import open_checkpoint
from swarm.errors import ConfigError

from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import DEEP_JSON, HUGE, altered, mutated

_BOUNDS = Bounds(memory=32 << 20, memory_per_byte=200, lines=50_000, lines_per_byte=100)
"""transformers reads a config by whatever code an architecture has; the weights are tiny."""

_KINDS = (
    "llama",
    "qwen2",
    "qwen3_moe",
    "gemma3_text",
    "gpt2",
    "gpt_oss",
    "mixtral",
    "deepseek_v3",
    "bloom",
    "mamba",
)
_SMALL = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 32,
}
_COUNTED = ("num_hidden_layers", "n_layer", "num_layers", "num_labels", "first_k_dense_replace")
_GENERATION = {"do_sample": True, "temperature": 0.7, "top_k": 40, "eos_token_id": [1, 2]}
_TENSORS = (
    "model.embed_tokens.weight",
    "lm_head.weight",
    *(f"model.layers.{block}.mlp.up_proj.weight" for block in range(2)),
)
_INDEX = {"metadata": {}, "weight_map": dict.fromkeys(_TENSORS, "a.safetensors")}
_NAMES = st.sampled_from(
    ["a.safetensors", "b.safetensors", "config.json", "../a.safetensors", "a\0", "/etc/passwd", ""]
)


@cache
def _weights() -> bytes:
    return bytes(save({name: torch.zeros(2, 2) for name in _TENSORS}))


@cache
def _samples() -> list[dict[str, Any]]:
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    warm = [{"model_type": kind, **_SMALL} for kind in _KINDS]
    warm.append({"model_type": "gemma3", "text_config": _SMALL})
    for sample in warm:
        # What an architecture's code loads the first time is no input's doing.
        assert _open(json.dumps(sample).encode(), None, None)[0] == 2
    return warm


@st.composite
def _claims(draw: st.DrawFn) -> Any:
    """A config that says that it has more of something than there can be."""
    config = dict(draw(st.sampled_from(_samples())))
    config[draw(st.sampled_from(_COUNTED))] = draw(st.sampled_from([*HUGE, 10**300, -1, 10**7]))
    if draw(st.booleans()):
        config = {"model_type": "gemma3", "text_config": config}
    return config


def _json(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return values.map(lambda value: json.dumps(value, default=repr).encode())


_CONFIGS = st.deferred(
    lambda: st.one_of(
        _json(st.sampled_from(_samples()).flatmap(altered)),
        _json(st.sampled_from(_samples()).flatmap(altered)),
        _json(_claims()),
        mutated([json.dumps(sample).encode() for sample in _samples()]),
        DEEP_JSON,
    )
)
_CASES = st.tuples(
    _CONFIGS,
    st.one_of(st.none(), _json(altered(_GENERATION)), mutated([json.dumps(_GENERATION).encode()])),
    st.one_of(
        st.none(),
        _json(altered(_INDEX)),
        _json(st.dictionaries(_NAMES, _NAMES).map(lambda found: {"weight_map": found})),
        DEEP_JSON,
    ),
)


def _open(config: bytes, generation: bytes | None, index: bytes | None) -> Any:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        folder.mkdir()
        (folder / "config.json").write_bytes(config)
        (folder / "a.safetensors").write_bytes(_weights())
        if generation is not None:
            (folder / "generation_config.json").write_bytes(generation)
        if index is not None:
            (folder / "model.safetensors.index.json").write_bytes(index)
        with open_checkpoint(str(folder), cache_dir=Path(place) / "cache") as checkpoint:
            checkpoint.generation_config()
            return checkpoint.num_blocks, checkpoint.context_length, checkpoint.block_bytes


def check(case: tuple[bytes, bytes | None, bytes | None]) -> None:
    """A model whose blocks are there, or a refusal that names the file."""
    config, generation, index = case
    size = len(config) + len(generation or b"") + len(index or b"")
    found = read(lambda: _open(config, generation, index), ConfigError, size, _BOUNDS)
    if found is not None:
        num_blocks, context_length, block_bytes = found
        assert 1 <= num_blocks <= 2 and context_length > 0 and block_bytes <= len(_weights())


FUZZER = Fuzzer(_CASES, check, examples=120)
