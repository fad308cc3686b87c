"""Layers that always get the same input (query, key and value; gate and up) as one product."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import nn


class _Shared:
    """One product for several layers: the first that is called computes for all."""

    def __init__(self, product: nn.Module, sizes: list[int]) -> None:
        self.product = product
        self.sizes = sizes
        self._input: torch.Tensor | None = None
        self._parts: list[torch.Tensor | None] = [None] * len(sizes)

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        """Columns of layer `index`. Each result is handed out once, for the same tensor only."""
        part = self._parts[index]
        if part is None or x is not self._input:
            self._parts = list(self.product(x).split(self.sizes, dim=-1))
            self._input = x
            part = cast(torch.Tensor, self._parts[index])
        self._parts[index] = None
        if not any(p is not None for p in self._parts):
            self._input = None
        return part


class FusedLinear(nn.Module):
    """One of several layers that always get the same input; see `_Shared`."""

    def __init__(self, shared: _Shared, index: int) -> None:
        super().__init__()
        self._shared = shared
        self._index = index

    @property
    def product(self) -> nn.Module:
        """The product of all the layers that share their input."""
        return self._shared.product

    @property
    def columns(self) -> tuple[int, int]:
        """Which of the product's outputs are this layer's: [start, end)."""
        sizes = self._shared.sizes
        return sum(sizes[: self._index]), sum(sizes[: self._index + 1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._shared.part(self._index, x)


def fused(product: nn.Module, sizes: list[int]) -> list[FusedLinear]:
    """One layer for each of `sizes`, the widths of the parts of `product`'s output."""
    shared = _Shared(product, sizes)
    return [FusedLinear(shared, index) for index in range(len(sizes))]


def same_input(
    linears: Mapping[str, nn.Linear],
    kinds: Mapping[str, Hashable],
    probe: Callable[[], object],
) -> list[tuple[str, ...]]:
    """Names of sibling layers that get the same tensor, unchanged in between, each once.

    Only layers whose `kinds` are equal are named together. `probe` runs them all.
    """
    calls: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def record(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, args: calls.append((name, args[0], args[0].clone()))

    with ExitStack() as hooks:
        for name, linear in linears.items():
            hooks.callback(linear.register_forward_pre_hook(record(name)).remove)
        probe()
    names = [name for name, _, _ in calls]
    groups: dict[Hashable, list[int]] = {}
    for index, (name, x, _) in enumerate(calls):
        if names.count(name) == 1:
            has_bias = linears[name].bias is not None
            key = (name.rpartition(".")[0], id(x), has_bias, kinds[name])
            groups.setdefault(key, []).append(index)
    return [
        tuple(names[i] for i in group)
        for group in groups.values()
        if len(group) > 1 and all(torch.equal(calls[group[0]][2], calls[i][2]) for i in group)
    ]
