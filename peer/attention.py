"""Attention of a ragged batch against paged keys and values, plugged into transformers.

transformers calls the attention function that a model's config names. Ours is named "homeswarm"
and does what the current plan says: a `BatchPlan` computes; another may only look (see `blocks`).
The plan travels in a context variable, because some models drop keyword arguments on the way.
https://huggingface.co/docs/transformers/en/attention_interface
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface

from .kv_cache import KVCache, Slots

ATTENTION = "homeswarm"

_MAX_SCORES = 1 << 26
"""Attention scores that explicit maths holds at a time (256 MiB of float32)."""


@dataclass(frozen=True, slots=True)
class Attend:
    """What a layer asks of attention besides its query, key and value.

    `window`: positions that a query sees, itself included (None: all before it). `softcap` and
    `sinks` ([heads], one extra logit without a value) are those of Gemma 2 and gpt-oss.
    """

    scaling: float
    window: int | None
    softcap: float | None
    sinks: torch.Tensor | None


class Plan(Protocol):
    """What attention does in one forward pass."""

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        how: Attend,
        others: dict[str, Any],
    ) -> torch.Tensor:
        """[1, heads, T, key_dim], [1, kv_heads, T, key_dim or value_dim] to [1, T, heads, dim].

        `layer` counts from the span's start; `others` are keywords that `Attend` does not cover.
        """
        ...


_PLAN: ContextVar[Plan] = ContextVar("plan")


@contextmanager
def planned(plan: Plan) -> Iterator[None]:
    """Within, in this thread, our attention does what `plan` says."""
    token = _PLAN.set(plan)
    try:
        yield
    finally:
        _PLAN.reset(token)


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    *,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    if attention_mask is not None:
        others["attention_mask"] = attention_mask
    how = Attend(scaling, sliding_window, softcap, s_aux)
    layer: int = module.layer_idx  # type: ignore[assignment]
    return _PLAN.get().attend(layer, query, key, value, how, others), None


def register_attention() -> None:
    """Tell transformers about our attention; doing it again changes nothing.

    No mask function goes with it: transformers then makes no masks at all for this name
    (`masking_utils._preprocess_mask_arguments`), and each step is spared the looking.
    """
    AttentionInterface.register(ATTENTION, _attention)


@dataclass(frozen=True, slots=True)
class RowPlan:
    """`count` positions of one row, from `position` on, at `offset` in the batch.

    `pages` hold all its positions, the new ones included.
    """

    pages: tuple[int, ...]
    position: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Read:
    """One row's part of a batch, for one window: where its keys lie and who may see them."""

    start: int
    end: int
    slots: Slots
    is_prompt: bool  # the row starts here: plainly causal
    mask: torch.Tensor | None  # [count, keys], None if every query sees every key


class BatchPlan:
    """Everything about one batch that all layers share, computed once."""

    def __init__(self, rows: Sequence[RowPlan], kv: KVCache, device: torch.device) -> None:
        self.rows = tuple(row for row in rows if row.count)
        self.total = sum(row.count for row in self.rows)
        self._kv = kv
        self._device = device
        self._reads: dict[int | None, list[_Read]] = {}
        self._tall_masks: dict[tuple[int, int], torch.Tensor] = {}
        self._slots = self._write_slots()

    def position_ids(self) -> torch.Tensor:
        """[1, total]."""
        if len(self.rows) == 1:
            row = self.rows[0]
            span = torch.arange(row.position, row.position + row.count, device=self._device)
        else:
            ids = [p for row in self.rows for p in range(row.position, row.position + row.count)]
            span = torch.tensor(ids, device=self._device)
        return span.unsqueeze(0)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        how: Attend,
        others: dict[str, Any],
    ) -> torch.Tensor:
        """Store the batch's keys and values, then attend each row to its own (see `Plan`)."""
        kv = self._kv
        kv.write(layer, self._slots, key[0].transpose(0, 1), value[0].transpose(0, 1))
        reads = self._reads.get(how.window) or self._prepare(how.window)
        if len(reads) == 1:
            return self._attend_row(query, *kv.read(layer, reads[0].slots), reads[0], how)
        out = query.new_empty(1, self.total, query.shape[1], value.shape[-1])
        for read in reads:
            rows = slice(read.start, read.end)
            key, value = kv.read(layer, read.slots)
            out[:, rows] = self._attend_row(query[:, :, rows], key, value, read, how)
        return out

    def _attend_row(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        read: _Read,
        how: Attend,
    ) -> torch.Tensor:
        """[1, heads, n, dim] against [1, kv_heads, keys, dim] to [1, n, heads, value_dim]."""
        if how.softcap is not None or how.sinks is not None:
            return _explicit(query, key, value, read.mask, how)
        if read.is_prompt:
            out = F.scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=how.scaling, enable_gqa=True
            )
            return out.transpose(1, 2)
        # The heads that share a key head stand below one another as further queries: keys are
        # read once for all of them, which is several times faster than enable_gqa on a CPU.
        _, heads, count, dim = query.shape
        kv_heads = key.shape[1]
        tall = query.reshape(1, kv_heads, -1, dim)
        mask = self._tall_mask(read, heads // kv_heads)
        out = F.scaled_dot_product_attention(tall, key, value, attn_mask=mask, scale=how.scaling)
        if count == 1:
            return out.reshape(1, 1, heads, -1)
        return out.reshape(1, heads, count, -1).transpose(1, 2)

    def _tall_mask(self, read: _Read, repeats: int) -> torch.Tensor | None:
        if read.mask is None or repeats == 1:
            return read.mask
        key = (id(read), repeats)  # reads live as long as the plan
        mask = self._tall_masks.get(key)
        if mask is None:
            mask = self._tall_masks[key] = read.mask.repeat(repeats, 1)
        return mask

    def _prepare(self, window: int | None) -> list[_Read]:
        self._reads[window] = reads = [self._read(row, window) for row in self.rows]
        return reads

    def _read(self, row: RowPlan, window: int | None) -> _Read:
        length = row.position + row.count
        first = 0 if window is None else max(0, row.position - window + 1)
        slots = self._slots_of(row, first, length)
        fits = window is None or window >= length
        mask = None
        if row.count > 1:
            queries = torch.arange(row.position, length, device=self._device).unsqueeze(1)
            keys = torch.arange(first, length, device=self._device).unsqueeze(0)
            mask = keys <= queries
            if window is not None and not fits:
                mask &= keys > queries - window
        is_prompt = row.position == 0 and fits and row.count > 1
        return _Read(row.offset, row.offset + row.count, slots, is_prompt, mask)

    def _write_slots(self) -> Slots:
        parts = [self._slots_list(row, row.position, row.position + row.count) for row in self.rows]
        if len(parts) == 1:
            return self._compact(parts[0])
        return self._compact([slot for part in parts for slot in part])

    def _slots_of(self, row: RowPlan, first: int, end: int) -> Slots:
        page_len = self._kv.page_len
        pages = row.pages[first // page_len : -(-end // page_len)]
        if pages == tuple(range(pages[0], pages[0] + len(pages))):
            start = pages[0] * page_len + first % page_len
            return slice(start, start + end - first)
        return torch.tensor(self._slots_list(row, first, end), device=self._device)

    def _slots_list(self, row: RowPlan, first: int, end: int) -> list[int]:
        page_len = self._kv.page_len
        return [row.pages[p // page_len] * page_len + p % page_len for p in range(first, end)]

    def _compact(self, slots: list[int]) -> Slots:
        if slots == list(range(slots[0], slots[0] + len(slots))):
            return slice(slots[0], slots[0] + len(slots))
        return torch.tensor(slots, device=self._device)


def _explicit(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    how: Attend,
) -> torch.Tensor:
    """Attention in plain steps, for what torch's fused one cannot do; softmax in float32.

    Long chunks go in parts, so that the scores never take more than `_MAX_SCORES` numbers.
    """
    _, heads, count, _ = query.shape
    part = max(1, _MAX_SCORES // (heads * key.shape[2]))
    outs = [
        _explicit_part(
            query[:, :, i : i + part], key, value, None if mask is None else mask[i : i + part], how
        )
        for i in range(0, count, part)
    ]
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)


def _explicit_part(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    how: Attend,
) -> torch.Tensor:
    _, heads, count, dim = query.shape
    kv_heads, length = key.shape[1], key.shape[2]
    tall = query.reshape(kv_heads, -1, dim)
    scores = torch.matmul(tall, key[0].transpose(1, 2)).mul_(how.scaling)
    if how.softcap is not None:
        scores = scores.div_(how.softcap).tanh_().mul_(how.softcap)
    scores = scores.float().view(heads, count, length)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    if how.sinks is not None:
        sinks = how.sinks.float().view(heads, 1, 1).expand(heads, count, 1)
        scores = torch.cat((scores, sinks), dim=-1).softmax(-1)[..., :length]
    else:
        scores = scores.softmax(-1)
    weights = scores.to(value.dtype).reshape(kv_heads, -1, length)
    out = torch.matmul(weights, value[0]).view(1, heads, count, -1)
    return out.transpose(1, 2)
