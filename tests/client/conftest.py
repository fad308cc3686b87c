"""A tiny model with a tokenizer, and tiny models of many architectures, on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def sentence_pieces(words: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of words that begin with a marked space, and of bytes, as llama's."""
    special = ["<unk>", "<s>", "</s>"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    scores = [(piece, -float(index)) for index, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="session")
def make_sentence_pieces() -> Callable[..., PreTrainedTokenizerFast]:
    return sentence_pieces


@pytest.fixture(scope="session")
def make_model(
    tmp_path_factory: pytest.TempPathFactory, make_byte_level: Callable[..., Any]
) -> Callable[..., tuple[Path, Any]]:
    """Makes a tiny model: its folder (with a tokenizer), and the same in transformers.

    A setting "absent" leaves out one that the architecture does not have.
    """
    made: dict[str, tuple[Path, Any]] = {}

    def make(model_type: str = "llama", **changes: Any) -> tuple[Path, Any]:
        key = str((model_type, *sorted(changes.items(), key=str)))
        if key not in made:
            torch.manual_seed(0)
            shape = {k: v for k, v in {**SHAPE, **changes}.items() if v != "absent"}
            config = AutoConfig.for_model(model_type, **shape)
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
            with torch.no_grad():
                for weight in model.parameters():
                    noise = torch.randn_like(weight)
                    weight.copy_(0.1 * noise if weight.dim() > 1 else weight + 0.05 * noise)
            folder = tmp_path_factory.mktemp(model_type)
            model.save_pretrained(folder)
            make_byte_level().save_pretrained(folder)
            made[key] = folder, model
        return made[key]

    return make
