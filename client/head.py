"""The client's own part of a model: from tokens to hidden states, and from hidden states to logits.

It is transformers' own model with no layers in it, so that scaled embeddings, soft caps and tied
heads are whatever the architecture makes of them.
"""

from __future__ import annotations

import copy
import logging
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from swarm.checkpoint.quiet import quiet
from swarm.errors import ConfigError
from swarm.forms import Form
from swarm.linear import prepack

logger = logging.getLogger(__name__)


class EndsSource(Protocol):
    """What the head needs of a checkpoint."""

    @property
    def name(self) -> str:
        """For error messages."""

    @property
    def config(self) -> PretrainedConfig:
        """The text model's config."""

    def load_ends(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """All tensors that belong to no block."""


class Head:
    """Embeddings, final norm and output head of one model."""

    def __init__(self, model: PreTrainedModel, norm_input: _Probe) -> None:
        self.module = model
        """The transformers model without layers."""
        self._model = model
        self._norm_input = norm_input
        self.direct = False
        """Whether logits are nothing but norm and head, as checked when it was loaded."""
        self.dtype: torch.dtype = model.dtype
        self.vocab_size: int = model.config.vocab_size

    @classmethod
    def load(cls, checkpoint: EndsSource, dtype: torch.dtype, form: Form = Form.NONE) -> Head:
        """Loads the ends of a model, and checks that its blocks can live elsewhere.

        The output head's weight takes the given form. Raises `ConfigError` for an architecture that
        does more between the embedding and the first block than a client can do alone.
        """
        if form is Form.FILE:
            raise ConfigError("the client's head is quantized to int8 or int4, not as in a file")
        model = _load(checkpoint, dtype)
        probe = _Probe(_final_norm(model, checkpoint.name))
        head = cls(model, probe)
        head._check(checkpoint.name)
        # One row times a vocabulary is a good part of a small model's step. A tied embedding keeps
        # its own copy.
        prepack(model, form=form)
        head.direct = head._is_direct()
        return head

    @torch.inference_mode()
    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids `[n]` to the first block's input `[n, hidden_size]`."""
        hidden: torch.Tensor = self._model.get_input_embeddings()(ids)
        return hidden

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The last block's output `[n, hidden_size]` to logits `[n, vocab_size]`, float32."""
        rows = hidden.to(self.dtype)[:, None]
        logits = self._norm_and_head(rows) if self.direct else self._whole(rows)
        return logits[:, 0].float()

    def _whole(self, rows: torch.Tensor) -> torch.Tensor:
        # Each position is a sequence of its own: there is nothing left that looks back.
        output = self._model(
            inputs_embeds=rows,
            position_ids=torch.zeros(len(rows), 1, dtype=torch.long),
            use_cache=False,
        )
        logits: torch.Tensor = output.logits
        return logits

    def _norm_and_head(self, rows: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model.get_output_embeddings()(self._norm_input.norm(rows))
        return logits

    @torch.inference_mode()
    def _is_direct(self) -> bool:
        """Whether the rest of the model's code (masks, rotations: a millisecond) changes nothing.

        Embeddings as inputs make some logits large, which is where a soft cap shows.
        """
        if self._model.get_output_embeddings() is None:
            return False
        known = self.embed(torch.arange(min(8, self.vocab_size)))
        # A generator of its own: what a user has seeded stays as it was.
        noise = torch.randn(known.shape, generator=torch.Generator().manual_seed(0))
        rows = torch.cat([known, noise.to(known.dtype)])[:, None]
        return torch.equal(self._whole(rows), self._norm_and_head(rows))

    def _check(self, name: str) -> None:
        ids = torch.arange(min(4, self.vocab_size))
        with self._norm_input as seen, torch.inference_mode():
            self._model(input_ids=ids[None], use_cache=False)
        if not torch.equal(seen.value[0], self.embed(ids)):
            raise ConfigError(
                f"{name}: {self._model.config.model_type} changes the embeddings before its first"
                " block in a way that cannot be split from the blocks"
            )


class _Probe:
    """Sees what goes into the final norm while it is entered."""

    def __init__(self, norm: nn.Module) -> None:
        self.norm = norm
        self.value: torch.Tensor

    def __enter__(self) -> _Probe:
        self._handle = self.norm.register_forward_pre_hook(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _see(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self.value = args[0]


def ends_bytes(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Memory that a model's head takes in plain numbers, in bytes; builds no weights.

    Raises `ConfigError` where transformers has no decoder for this config.
    """
    try:
        base = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except KeyError:
        raise ConfigError(f"{config.model_type} is no decoder in this transformers") from None
    with quiet(), torch.device("meta"):
        model = _without_layers(base)(copy.deepcopy(config))
    # A tied weight is there twice: the head keeps its own, in the form that multiplies fastest.
    tied = model.named_parameters(remove_duplicate=False)
    numbers: int = sum(parameter.numel() for _, parameter in tied)
    return numbers * dtype.itemsize


def _load(checkpoint: EndsSource, dtype: torch.dtype) -> PreTrainedModel:
    try:
        base = MODEL_FOR_CAUSAL_LM_MAPPING[type(checkpoint.config)]
    except KeyError:
        kind = checkpoint.config.model_type
        raise ConfigError(f"{checkpoint.name}: {kind} is no decoder in this transformers") from None
    state = checkpoint.load_ends(dtype)
    with quiet():
        model, report = _without_layers(base).from_pretrained(
            None,
            config=copy.deepcopy(checkpoint.config),
            state_dict=state,
            dtype=dtype,
            attn_implementation="eager",
            output_loading_info=True,
        )
    if report["missing_keys"]:
        names = ", ".join(sorted(report["missing_keys"])[:4])
        raise ConfigError(f"{checkpoint.name}: the checkpoint lacks {names}")
    result: PreTrainedModel = model.eval()
    return result


def _without_layers(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    class Ends(base):  # type: ignore[misc]
        def __init__(self, config: PretrainedConfig) -> None:
            super().__init__(config)
            num_layers = config.num_hidden_layers
            parent, name = _layers_of(self, num_layers)
            setattr(parent, name, nn.ModuleList())
            for key, value in list(vars(config).items()):
                if isinstance(value, list) and len(value) == num_layers:
                    setattr(config, key, [])
            config.num_hidden_layers = 0

    # transformers looks conversions and messages up by these names.
    Ends.__name__, Ends.__qualname__, Ends.__module__ = (
        base.__name__,
        base.__qualname__,
        base.__module__,
    )
    return Ends


def _layers_of(model: nn.Module, num_layers: int) -> tuple[nn.Module, str]:
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == num_layers:
                return module, name
    raise ConfigError(f"{type(model).__name__} has no list of {num_layers} layers")


def _final_norm(model: PreTrainedModel, name: str) -> nn.Module:
    children: list[nn.Module] = list(model.base_model.children())
    after = [i for i, child in enumerate(children) if isinstance(child, nn.ModuleList)]
    for child in children[after[0] + 1 :] if after else []:
        if "norm" in type(child).__name__.lower():
            return child
    raise ConfigError(f"{name}: no norm found after the blocks of {model.config.model_type}")
