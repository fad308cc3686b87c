"""What a checkpoint's transformers config says about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.directory import MAX_BLOCKS
from swarm.errors import ConfigError
from swarm.quoting import quoted, shortened

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "seq_length",
    "n_ctx",
    "model_max_length",
)
# A model without a position limit (ALiBi, recurrent) names none; BLOOM, the large one of them,
# was trained on 2048.
UNSTATED_CONTEXT = 2048

# transformers makes lists and dictionaries of so many items while it reads a config.
_COUNTS = ("layer", "block", "depth", "label", "expert", "replace")


def check_counts(config: Mapping[str, Any], name: str) -> None:
    """Raises `ConfigError` where a config claims more of something than any model has.

    A line of text must not become gigabytes: this comes before transformers sees it.
    """
    rest: list[Any] = [config]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest += value
        if not isinstance(value, Mapping):
            continue
        for key, item in value.items():
            counts = isinstance(item, int | float) and any(word in key for word in _COUNTS)
            if counts and not -MAX_BLOCKS <= item <= MAX_BLOCKS:
                raise ConfigError(f"{name}: its config says {quoted(key)} {quoted(item)}")
        rest += value.values()


def load_config(folder: Path, **where: Any) -> PreTrainedConfig:
    """The full config of `folder`. Code shipped with a model is never run.

    Raises `ConfigError` when transformers does not know the architecture.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, **where
        )
    except Exception as error:  # each architecture's code fails in its own way
        raise ConfigError(
            f"{folder}: transformers cannot use this model's config: {shortened(error)}"
        ) from error


def num_blocks(config: PreTrainedConfig, name: str) -> int:
    """How many blocks the text model has. Raises `ConfigError` when the config does not say."""
    number = getattr(config, "num_hidden_layers", None)
    if not isinstance(number, int) or not 1 <= number <= MAX_BLOCKS:
        raise ConfigError(f"{name}: its config says num_hidden_layers {quoted(number)}")
    return number


def context_length(config: PreTrainedConfig) -> int:
    """How many positions the model was made for; architectures disagree on the name."""
    for attribute in _LENGTHS:
        value = getattr(config, attribute, None)
        if isinstance(value, int) and value > 0:
            return value
    return UNSTATED_CONTEXT


def load_generation_config(folder: Path, config: PreTrainedConfig) -> GenerationConfig:
    """`generation_config.json` of `folder`, or what the model's config implies."""
    from transformers import GenerationConfig

    if not (folder / "generation_config.json").is_file():
        return GenerationConfig.from_model_config(config)
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # its fields are used as they are before they are checked
        raise ConfigError(
            f"{folder}: generation_config.json is unusable: {shortened(error)}"
        ) from error


def load_tokenizer(folder: Path, name: str, **where: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of model `name` in `folder`. Code shipped with a model is never run."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, **where
        )
    except Exception as error:  # the tokenizers package raises nothing narrower
        raise ConfigError(f"{name}: its tokenizer cannot be loaded: {shortened(error)}") from error
