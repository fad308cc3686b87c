"""Finds out what a model's blocks ask of attention, and whether ours can be all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from swarm.errors import ConfigError

from .attention import Attend
from .kv_cache import LayerGeometry

_HARMLESS = {"position_ids", "cache_position", "position_embeddings"}


def refusal(architecture: str, reason: str) -> ConfigError:
    """The error for an architecture that this technique does not fit."""
    return ConfigError(f"architecture {architecture!r} cannot be run span by span: {reason}")


class Probe:
    """A plan that computes nothing: it notes what each layer's attention is called with."""

    def __init__(self, num_layers: int) -> None:
        self._layers: list[LayerGeometry | None] = [None] * num_layers
        self._hows: list[Attend | None] = [None] * num_layers
        self._strange: set[str] = set()

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        how: Attend,
        others: dict[str, Any],
    ) -> torch.Tensor:
        """Notes it, and returns something of the right shape (see `Plan`)."""
        self._layers[layer] = LayerGeometry(key.shape[1], key.shape[-1], value.shape[-1])
        self._hows[layer] = how
        tensors = {name for name, value in others.items() if isinstance(value, torch.Tensor)}
        self._strange |= tensors - _HARMLESS
        repeats = query.shape[1] // value.shape[1]
        return value.repeat_interleave(repeats, dim=1).transpose(1, 2).contiguous()

    def result(
        self, architecture: str, config: Any
    ) -> tuple[tuple[LayerGeometry, ...], tuple[Attend, ...]]:
        """What each layer keeps and asks. ConfigError if our attention would not be all."""
        if self._strange:
            names = ", ".join(sorted(self._strange))
            raise refusal(architecture, f"its attention depends on {names}")
        seen = tuple(layer for layer in self._layers if layer is not None)
        if len(seen) < len(self._layers):
            raise refusal(architecture, "not all its layers use transformers' attention interface")
        if hidden := self._hidden_windows(config):
            raise refusal(
                architecture, f"layer {hidden[0]} hides its sliding window from the attention"
            )
        return seen, tuple(how for how in self._hows if how is not None)

    def _hidden_windows(self, config: Any) -> Sequence[int]:
        """Layers that slide by the config, but do not tell the attention function."""
        types = getattr(config, "layer_types", None)
        if types:
            slides = [kind == "sliding_attention" for kind in types]
        else:
            window = getattr(config, "sliding_window", None)
            length = getattr(config, "max_position_embeddings", None) or float("inf")
            in_use = getattr(config, "use_sliding_window", True)
            slides = [bool(window and in_use and window < length)] * len(self._hows)
        pairs = zip(slides, self._hows, strict=True)
        return [i for i, (slide, how) in enumerate(pairs) if slide and how and how.window is None]
