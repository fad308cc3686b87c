"""Models of public shapes with random weights: for speeds, where what comes out does not matter."""

from __future__ import annotations

import json
import shutil
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from swarm.amounts import gigabytes
from swarm.checkpoint.layout import block_index
from swarm.checkpoint.progress import Progress, wait
from swarm.checkpoint.quiet import quiet
from swarm.errors import ConfigError

_SPREAD = 0.02
"""Standard deviation of the weights, as models are initialised: activations stay finite."""

_DTYPE = torch.bfloat16
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Shape:
    """The numbers of a public config that decide how long a step takes."""

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool = True
    max_position_embeddings: int = 8192

    @property
    def config(self) -> PretrainedConfig:
        """As transformers wants it."""
        values: dict[str, Any] = asdict(self)
        config: PretrainedConfig = AutoConfig.for_model(**values, dtype=_DTYPE)
        return config


SHAPES: Mapping[str, Shape] = {
    "smollm2-135m": Shape("llama", 576, 1536, 30, 9, 3, 64, 49152),
    "smollm2-360m": Shape("llama", 960, 2560, 32, 15, 5, 64, 49152),
    "qwen3-0.6b": Shape("qwen3", 1024, 3072, 28, 16, 8, 128, 151936),
    "llama-3.2-1b": Shape("llama", 2048, 8192, 16, 32, 8, 64, 128256),
    "llama-3.2-3b": Shape("llama", 3072, 8192, 28, 24, 8, 128, 128256),
    "llama-3.1-8b": Shape("llama", 4096, 14336, 32, 32, 8, 128, 128256, tie_word_embeddings=False),
}


def random_model(name: str, cache_dir: Path | None, progress: Progress) -> Path:
    """The folder of a model of this shape, written the first time: the same weights everywhere.

    It is kept below `cache_dir` (default: the user's cache folder). Raises `ConfigError` for a
    shape that is not known, and where the folder cannot be written.
    """
    if name not in SHAPES:
        raise ConfigError(f"no shape {name}; there are {', '.join(SHAPES)}")
    root = cache_dir or platformdirs.user_cache_path("homeswarm")
    folder = root / "shapes" / name
    if (folder / _INDEX).exists():
        return folder
    try:
        write_random(folder, SHAPES[name].config, progress)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder


def write_random(folder: Path, config: PretrainedConfig, progress: Progress) -> None:
    """Writes a checkpoint block by block, so that no more than one of them is in memory.

    Raises `OSError`, and `ConfigError` where there is no room for it.
    """
    tensors = _tensors(config)
    total = sum(shape.numel() for shape in tensors.values()) * _DTYPE.itemsize
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < total:
        raise ConfigError(
            f"{folder}: {gigabytes(total)} of random weights are to be written,"
            f" {gigabytes(free)} are free"
        )
    files: dict[str, list[str]] = defaultdict(list)
    for name in tensors:
        number = block_index(name)
        files["ends" if number is None else f"block-{number:03}"].append(name)
    what = f"writing {gigabytes(total)} of random weights to {folder}"
    with wait(progress, total, what) as advance:
        for file, names in files.items():
            state = {name: _draw(name, tensors[name]) for name in names}
            save_file(state, folder / f"{file}.safetensors", metadata={"format": "pt"})
            advance(sum(tensor.nbytes for tensor in state.values()))
    config.save_pretrained(folder)
    places = {name: f"{file}.safetensors" for file, names in files.items() for name in names}
    index = {"metadata": {"total_size": total}, "weight_map": places}
    # Last: a folder that has it is whole.
    (folder / _INDEX).write_text(json.dumps(index, indent=2))


def _tensors(config: PretrainedConfig) -> dict[str, torch.Size]:
    """Names and shapes of what a checkpoint holds; a tied head is not in it."""
    with quiet(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    # Named once: a head that is tied goes by the embedding's name.
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def _draw(name: str, shape: torch.Size) -> torch.Tensor:
    """Seeded by the name: whoever writes the same shape gets the same fingerprint."""
    if len(shape) == 1:
        fill = torch.ones if name.endswith("norm.weight") else torch.zeros
        return fill(shape, dtype=_DTYPE)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    # Uniform is drawn several times faster than normal.
    bound = _SPREAD * 3**0.5
    return torch.empty(shape, dtype=_DTYPE).uniform_(-bound, bound, generator=generator)
