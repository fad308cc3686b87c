"""Keys and values of all rows, in pages, for each layer of a span.

Which row owns which page is `pages.PageTable`'s business; here a page is only a range of
`page_len` slots in each layer's storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

Slots = slice | torch.Tensor
"""Places in a layer's storage: a slice where they follow each other, else indices [n]."""


@dataclass(frozen=True, slots=True)
class LayerGeometry:
    """What one layer keeps for each position. Keys and values may differ in size (MLA)."""

    kv_heads: int
    key_dim: int
    value_dim: int

    @property
    def numbers(self) -> int:
        """Numbers per position."""
        return self.kv_heads * (self.key_dim + self.value_dim)


def page_bytes(layers: Sequence[LayerGeometry], page_len: int, dtype: torch.dtype) -> int:
    """Bytes that one page takes in all `layers` together."""
    return sum(layer.numbers for layer in layers) * page_len * dtype.itemsize


class KVCache:
    """Storage of `num_pages` pages; the operating system backs it as it is first written."""

    def __init__(
        self,
        layers: Sequence[LayerGeometry],
        *,
        num_pages: int,
        page_len: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.page_len = page_len
        slots = num_pages * page_len
        self._keys = [
            torch.empty(slots, layer.kv_heads, layer.key_dim, dtype=dtype, device=device)
            for layer in layers
        ]
        self._values = [
            torch.empty(slots, layer.kv_heads, layer.value_dim, dtype=dtype, device=device)
            for layer in layers
        ]

    def write(self, layer: int, slots: Slots, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store `key` and `value` [n, kv_heads, dim] at `slots` of `layer`."""
        if isinstance(slots, slice):
            self._keys[layer][slots] = key
            self._values[layer][slots] = value
        else:
            self._keys[layer].index_copy_(0, slots, key)
            self._values[layer].index_copy_(0, slots, value)

    def read(self, layer: int, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [1, kv_heads, n, dim] at `slots`: views of a slice, else gathered."""
        if isinstance(slots, slice):
            key, value = self._keys[layer][slots], self._values[layer][slots]
        else:
            key = self._keys[layer].index_select(0, slots)
            value = self._values[layer].index_select(0, slots)
        return key.transpose(0, 1).unsqueeze(0), value.transpose(0, 1).unsqueeze(0)

    def storage(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and all values of `layer`, [slots, kv_heads, dim] each."""
        return self._keys[layer], self._values[layer]

    def copy_pages(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Copy pages `(source, destination)` in all layers."""
        for storage in (*self._keys, *self._values):
            pages = storage.view(-1, self.page_len, *storage.shape[1:])
            for source, destination in pairs:
                pages[destination] = pages[source]

    def close(self) -> None:
        """Give the storage back."""
        self._keys, self._values = [], []
