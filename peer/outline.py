"""What blocks keep for each position, found on the meta device: no weights are built or read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from swarm.checkpoint.quiet import quiet

from .attention import ATTENTION, register_attention
from .blocks import Span, drop_tail, hollow
from .kv_cache import LayerGeometry


def geometry(config: Any) -> tuple[LayerGeometry, ...]:
    """What each block of a model keeps per position; builds no weights.

    Raises `ConfigError` for an architecture that cannot run span by span.
    """
    model, path = hollow(config)
    register_attention()
    with quiet():
        model.eval().set_attn_implementation(ATTENTION)
        # The usual ways to run experts look at numbers, and there are none on the meta device.
        model.set_experts_implementation("batched_mm")
    drop_tail(model, path)
    kinds = _kinds(model, path)
    firsts = {kind: index for index, kind in reversed(list(enumerate(kinds)))}
    chosen = sorted(firsts.values())
    _choose_layers(model, path, chosen)
    found = Span(model, path, start=0, end=len(chosen)).geometry
    return tuple(found[chosen.index(firsts[kind])] for kind in kinds)


def _kinds(model: Any, path: str) -> list[object]:
    """Of each layer, what tells it from others: its type, and the shapes of its weights."""
    layers = model.get_submodule(path)
    types = getattr(model.config, "layer_types", None) or [None] * len(layers)
    shapes = [tuple(parameter.shape for parameter in layer.parameters()) for layer in layers]
    return list(zip(types, shapes, strict=True))


def _choose_layers(model: Any, path: str, chosen: Sequence[int]) -> None:
    """Leaves only these layers, as if the model had no others."""
    layers, config = model.get_submodule(path), model.config
    num_blocks = len(layers)
    model.set_submodule(path, nn.ModuleList(layers[index] for index in chosen))
    for number, index in enumerate(chosen):
        for module in layers[index].modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = number
    for name, value in list(vars(config).items()):
        if isinstance(value, list | tuple) and len(value) == num_blocks:
            setattr(config, name, [value[index] for index in chosen])
    config.num_hidden_layers = len(chosen)
