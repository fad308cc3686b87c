"""Tiny models of many architectures, as a span's checkpoint gives them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

torch.set_num_threads(1)

ABSENT = "absent"
_LAYER_NAME = re.compile(r"(.*?\b(?:layers|h)\.)(\d+)(\..*)")


@dataclass(frozen=True)
class TinyCheckpoint:
    """A model with random weights, and the names that its tensors have in a file."""

    model: Any
    tensors: dict[str, torch.Tensor]

    @property
    def name(self) -> str:
        return f"tiny-{self.model.config.model_type}"

    @property
    def config(self) -> Any:
        return self.model.config

    def load_blocks(self, start: int, end: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        found = {}
        for name, tensor in self.tensors.items():
            match = _LAYER_NAME.match(name)
            if match and start <= int(match[2]) < end:
                found[f"{match[1]}{int(match[2]) - start}{match[3]}"] = tensor.to(dtype)
        return found

    def stored(self, start: int, end: int, *, grids: bool = True) -> dict[str, Any]:
        return {}


def _make(model_type: str, **settings: Any) -> TinyCheckpoint:
    shape = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 300,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    }
    shape = {name: value for name, value in (shape | settings).items() if value != ABSENT}
    config = AutoConfig.for_model(model_type, **shape)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.08)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.08)
    with tempfile.TemporaryDirectory() as folder:
        transformers_logging.disable_progress_bar()
        model.save_pretrained(folder)
        transformers_logging.enable_progress_bar()
        return TinyCheckpoint(model, load_file(Path(folder) / "model.safetensors"))


@pytest.fixture(scope="session")
def tiny() -> Callable[..., TinyCheckpoint]:
    """Makes a model of four small layers: `tiny(model_type, **config)`.

    A setting "absent" leaves out one that the architecture does not have.
    """
    return _make
