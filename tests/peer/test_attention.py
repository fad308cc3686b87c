"""Paged attention of ragged batches equals plain attention, position by position."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from swarm.peer import attention
from swarm.peer.attention import Attend, BatchPlan, RowPlan, register_attention
from swarm.peer.kv_cache import KVCache, LayerGeometry

CPU = torch.device("cpu")
HEADS, KV_HEADS, KEY_DIM, VALUE_DIM, LENGTH = 6, 2, 8, 5, 20


def _plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, position: int, how: Attend
) -> torch.Tensor:
    """One query [heads, dim] at `position` against keys and values [length, kv_heads, dim]."""
    first = 0 if how.window is None else max(0, position - how.window + 1)
    outs = []
    for head in range(HEADS):
        shared = head // (HEADS // KV_HEADS)
        scores = key[first : position + 1, shared] @ query[head] * how.scaling
        if how.softcap is not None:
            scores = torch.tanh(scores / how.softcap) * how.softcap
        if how.sinks is not None:
            scores = torch.cat([scores, how.sinks[head : head + 1]])
        weights = scores.softmax(-1)[: position + 1 - first]
        outs.append(weights @ value[first : position + 1, shared])
    return torch.stack(outs)


class _Rows:
    """Random queries, keys and values of rows that lie in given pages of four positions."""

    def __init__(self, pages: list[tuple[int, ...]]) -> None:
        generator = torch.Generator().manual_seed(1)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(len(pages), LENGTH, *shape, generator=generator)

        self.pages = pages
        self.query = random(HEADS, KEY_DIM)
        self.key = random(KV_HEADS, KEY_DIM)
        self.value = random(KV_HEADS, VALUE_DIM)
        geometry = [LayerGeometry(KV_HEADS, KEY_DIM, VALUE_DIM)]
        self.kv = KVCache(geometry, num_pages=16, page_len=4, dtype=torch.float32, device=CPU)

    def run(self, pieces: list[tuple[int, int, int]], how: Attend) -> torch.Tensor:
        """Our attention for one batch of `pieces` (row, position, count)."""
        plans, offset = [], 0
        for row, position, count in pieces:
            pages = self.pages[row][: -(-(position + count) // 4)]
            plans.append(RowPlan(pages, position, count, offset))
            offset += count
        batch = [
            torch.cat([x[row, p : p + n] for row, p, n in pieces]).transpose(0, 1)[None]
            for x in (self.query, self.key, self.value)
        ]
        plan = BatchPlan(plans, self.kv, CPU)
        expected_ids = [q for _, p, n in pieces for q in range(p, p + n)]
        assert plan.position_ids().tolist() == [expected_ids]
        out = plan.attend(0, batch[0], batch[1], batch[2], how, {})
        assert out.shape == (1, offset, HEADS, VALUE_DIM)
        return out[0]

    def plain(self, pieces: list[tuple[int, int, int]], how: Attend) -> torch.Tensor:
        return torch.stack(
            [
                _plain(self.query[row, q], self.key[row], self.value[row], q, how)
                for row, p, n in pieces
                for q in range(p, p + n)
            ]
        )


BATCHES = [
    [(0, 0, 7)],
    [(0, 7, 1), (1, 0, 1), (2, 0, 9)],
    [(1, 1, 6), (2, 9, 1)],
    [(2, 10, 5), (0, 8, 0), (1, 7, 1)],
    [(0, 8, 12)],
]
WAYS = {
    "full": Attend(0.3, None, None, None),
    "window": Attend(0.3, 6, None, None),
    "wide window": Attend(0.3, 64, None, None),
    "softcap": Attend(0.3, None, 2.0, None),
    "sinks": Attend(0.3, 6, None, torch.linspace(-1, 1, HEADS)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("max_scores", [attention._MAX_SCORES, 100])
def test_equals_plain_attention(way: str, max_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_MAX_SCORES", max_scores)
    rows = _Rows([(0, 1, 2, 3, 4), (9, 7, 8, 5, 6), (10, 11, 12, 14, 13)])
    for pieces in BATCHES:
        out = rows.run(pieces, WAYS[way])
        torch.testing.assert_close(out, rows.plain(pieces, WAYS[way]), atol=1e-5, rtol=1e-5)


def test_windows_read_only_what_they_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _Rows([(0, 1, 2, 3, 4)])
    how = WAYS["window"]
    rows.run([(0, 0, 19)], how)
    sizes = []
    read = KVCache.read

    def spy(self: KVCache, layer: int, slots: slice) -> tuple[torch.Tensor, torch.Tensor]:
        found = read(self, layer, slots)
        sizes.append(found[0].shape[2])
        return found

    monkeypatch.setattr(KVCache, "read", spy)
    rows.run([(0, 19, 1)], how)
    assert sizes == [6]


def test_no_plan_no_attention() -> None:
    register_attention()
    register_attention()
    x = torch.ones(1, 1, 1, 1)
    layer = nn.Identity()
    layer.layer_idx = 0
    with pytest.raises(LookupError):
        attention._attention(layer, x, x, x, None)
