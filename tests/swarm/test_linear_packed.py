"""Packed layers give what plain ones give; layers that share an input share a product."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from swarm.kernels import library
from swarm.linear import FusedLinear, PackedLinear, StreamedLinear, packed, prepack, streamed
from swarm.linear import plain as plainly

needs_packing = pytest.mark.skipif(
    not packed.can_pack(nn.Linear(2, 2, dtype=torch.bfloat16)), reason="oneDNN has no bfloat16 here"
)


class Block(nn.Module):
    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.q = nn.Linear(64, 96, bias=bias)
        self.k = nn.Linear(64, 32, bias=bias)
        self.v = nn.Linear(64, 32, bias=not bias)
        self.out = nn.Linear(96, 64, bias=bias)
        self.twice = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.q(x) + torch.cat([self.k(x), self.v(x), self.k(x * 2)], -1)
        x = self.out(mixed)
        return self.twice(self.twice(x))


@pytest.fixture(autouse=True)
def pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "pays", lambda weight: False)
    monkeypatch.setattr(packed, "pays", lambda weight: True)


def _block(*, bias: bool) -> Block:
    torch.manual_seed(0)
    return Block(bias=bias).to(torch.bfloat16)


@needs_packing
@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 4, 8, 128, 512])
def test_packed_equals_plain(bias: bool, rows: int) -> None:
    plain = _block(bias=bias)
    ours = copy.deepcopy(plain)
    prepack(ours)
    assert all(isinstance(child, PackedLinear) for child in ours.children())
    x = torch.randn(1, rows, 64, dtype=torch.bfloat16)
    torch.testing.assert_close(ours(x), plain(x), atol=2e-2, rtol=2e-2)


class Attention(nn.Module):
    """Query and key get one tensor; value one that changed in between."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.g, self.v = (nn.Linear(64, n, bias=False) for n in (96, 32, 64, 32))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x.clone()
        q, k, g = self.q(x), self.k(x), self.g(y)
        return q, k, g, self.v(y.mul_(2))


def prepacked() -> tuple[Attention, Attention]:
    """The same weights as they were, and as `prepack` leaves them."""
    torch.manual_seed(0)
    plain = Attention().to(torch.bfloat16)
    fused = copy.deepcopy(plain)
    x = torch.randn(1, 1, 64, dtype=torch.bfloat16)
    prepack(fused, lambda: fused(x))
    return plain, fused


@needs_packing
@torch.inference_mode()
def test_only_layers_with_the_very_same_input_are_fused() -> None:
    plain, fused = prepacked()
    kinds = {name: type(child) for name, child in fused.named_children()}
    assert kinds == {"q": FusedLinear, "k": FusedLinear, "g": PackedLinear, "v": PackedLinear}
    for rows in (1, 3, 3, 1):
        x = torch.randn(1, rows, 64, dtype=torch.bfloat16)
        for ours, theirs in zip(fused(x), plain(x), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)


@needs_packing
@torch.inference_mode()
def test_a_fused_layer_is_right_whoever_is_called_and_how_often() -> None:
    plain, fused = prepacked()
    first, second = torch.randn(2, 1, 5, 64, dtype=torch.bfloat16)
    for name, x in (("k", first), ("k", first), ("q", second), ("k", first), ("k", second)):
        ours, theirs = fused.get_submodule(name)(x), plain.get_submodule(name)(x)
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)


def test_float32_stays_as_it_is() -> None:
    block = Block(bias=True)
    before = dict(block.named_modules())
    prepack(block)
    assert dict(block.named_modules()) == before


def test_a_machine_that_gains_nothing_keeps_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "pays", lambda weight: False)
    block = _block(bias=True)
    prepack(block)
    assert type(block.q) is nn.Linear


@pytest.mark.skipif(library() is None, reason="installed without a C compiler")
@torch.inference_mode()
def test_streamed_layers_are_fused_and_keep_their_plain_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streamed, "pays", lambda weight: True)
    plain, fused = prepacked()
    kinds = {name: type(child) for name, child in fused.named_children()}
    assert kinds == {"q": FusedLinear, "k": FusedLinear, "g": StreamedLinear, "v": StreamedLinear}
    for name, child in plain.named_children():
        found = plainly(fused.get_submodule(name))
        assert found is not None and torch.equal(found.weight, child.weight)
    for rows in (1, 3, 40):
        x = torch.randn(1, rows, 64, dtype=torch.bfloat16)
        for ours, theirs in zip(fused(x), plain(x), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)


def test_timing_prefers_the_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(packed, "_pack", lambda weight: weight)
    weight = torch.ones(8, 8, dtype=torch.bfloat16)
    for packed_s, expected in ((0.5, True), (2.0, False)):
        seconds = iter([1.0, packed_s] * 2)
        monkeypatch.setattr(packed, "best_seconds", lambda *_, seconds=seconds: next(seconds))
        assert packed.pays(weight) is expected
