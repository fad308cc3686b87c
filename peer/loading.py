"""Loading a span whose weights are quantized, with little of it in plain numbers at any time."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from swarm.checkpoint.progress import check_halt
from swarm.forms import Form

from .blocks import Checkpoint, Span, block_bytes, load_span, slice_config, within_layers
from .devices import give_back

_PIECE_BYTES = 32 << 20
"""Plain weights of this size are loaded at a time, but at least one block. Each piece costs the
time in which transformers sets the model up, a fraction of a second."""

_LARGE_BYTES = 1 << 30
"""So much is loaded at a time even where memory is no concern: between pieces one can give up."""


def load(
    checkpoint: Checkpoint,
    start: int,
    end: int,
    *,
    device: torch.device,
    dtype: torch.dtype,
    form: Form = Form.NONE,
    piece_bytes: int = _PIECE_BYTES,
    frugal: bool = False,
) -> Span:
    """Load blocks [start, end) in a form, piece by piece where that saves memory.

    Plain weights, too, are there twice for a moment, as they are stored and as they are used: when
    `frugal`, only those of a piece. Blocks and raises as `load_span` does, and `Halted`.
    """
    if not frugal and form is Form.NONE:
        piece_bytes = max(piece_bytes, _LARGE_BYTES)
    borders = [start, end]
    if start < end:
        size = max(1, piece_bytes // block_bytes(checkpoint.config, dtype))
        borders = [*range(start, end, size), end]
    spans = []
    for first, last in pairwise(borders):
        check_halt()
        spans.append(load_span(checkpoint, first, last, device=device, dtype=dtype, form=form))
    give_back()
    return spans[0] if len(spans) == 1 else _joined(spans, checkpoint.config)


def needed_bytes(checkpoint: Checkpoint, dtype: torch.dtype, form: Form) -> int:
    """Memory that the largest block takes once it is loaded in a form, in bytes."""
    config = checkpoint.config
    if form is not Form.FILE:
        return block_bytes(config, dtype, form)
    known = checkpoint.stored(0, int(config.num_hidden_layers), grids=False)
    return block_bytes(config, dtype, form, {within_layers(n): how for n, how in known.items()})


def _joined(spans: list[Span], whole: Any) -> Span:
    """One span of neighbouring ones, which are used up; `whole` is the model's config."""
    first, last = spans[0], spans[-1]
    config: Any = copy.copy(first.model.config)
    lists = {name: each for name, each in vars(whole).items() if isinstance(each, list | tuple)}
    vars(config).update(lists)
    slice_config(config, int(whole.num_hidden_layers), first.start, last.end)
    for span in spans:
        own = span.model.config
        for module in span.model.modules():
            if getattr(module, "config", None) is own:
                module.config = config
        inner: Any
        for inner in span.layers.modules():
            if isinstance(index := getattr(inner, "layer_idx", None), int):
                inner.layer_idx = index + span.start - first.start
    path = next(n for n, module in first.model.named_modules() if module is first.layers)
    layers = nn.ModuleList(layer for span in spans for layer in span.layers)
    first.model.set_submodule(path, layers)
    return Span(first.model, path, start=first.start, end=last.end)
